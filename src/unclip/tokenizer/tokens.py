"""The common half of all tokenizers: batches of ids, what is asked of a tokenizer, and its file."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import tokenizers
import torch
from torch import Tensor

from unclip.config import load_json, parse_json
from unclip.errors import InputError, shown
from unclip.runtime import atomic_path

TOKENIZER_FILE = "tokenizer.json"  # as Hugging Face's libraries call it
PANIC = "PanicException"  # the class has no module to import it from
STDERR = 2
_PANIC = threading.RLock()  # stderr belongs to all threads
LARGEST_FILE = 48 * 2**20  # bytes; Gemma's has 34 million
MOST_IDS = 2**20
# What a file says beside the vocabulary and that changes how a text is read.
FORM = ("normalizer", "pre_tokenizer", "post_processor")

Words: TypeAlias = Mapping[str, int]
Merges: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tokens:
    """A batch of texts as tokens, as long as the longest of them.

    Attributes:
        ids: (B, L) int64, each row is start, text, end, padding.
        mask: (B, L) bool, True where there is a token and not padding.
        truncated: for each text what was cut off its end, as the tokenizer reads it (emoji in words,
            say); None where it fitted.
    """

    ids: Tensor
    mask: Tensor
    truncated: tuple[str | None, ...]

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device), self.truncated)


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer, as the models, the trainer and the pipeline use it."""

    @property
    def vocabulary(self) -> int:
        """Number of ids, special tokens included."""

    @property
    def pad(self) -> int:
        """Id that fills a row after its end."""

    @property
    def start(self) -> int:
        """Id at the beginning of every row."""

    @property
    def end(self) -> int:
        """Id after the last token of the text; CLIP reads its text feature there."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without start and end, of any length."""

    def batch(self, texts: Sequence[str], context: int, full: bool = False) -> Tokens:
        """Texts as one batch of at most `context` tokens each, start and end included.

        Args:
            texts: at least one text; an empty one becomes start and end.
            context: the most tokens a row may have, at least 3.
            full: pad to `context` and not only to the longest text.
        """

    def save(self, path: Path) -> None:
        """Write the tokenizer as one JSON file, atomically."""


class FileTokenizer:
    """A tokenizer that comes from a file: a `tokenizers.Tokenizer`, and batches made with it."""

    pad: int
    start: int
    end: int
    vocabulary: int

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "<end>" in a prompt is text, not an order
        self._tokenizer = tokenizer
        self.vocabulary = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    def _clean(self, text: str) -> str:
        return text

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(self._clean(text), add_special_tokens=False).ids

    def batch(self, texts: Sequence[str], context: int, full: bool = False) -> Tokens:
        if not texts:
            raise InputError("a batch of no texts: give at least one")
        if context < 3:
            raise InputError(f"context {context} is too short: start, one token and end need 3")
        rows: list[list[int]] = []
        truncated: list[str | None] = []
        for text in texts:
            clean = self._clean(text)
            encoding = self._tokenizer.encode(clean, add_special_tokens=False)
            room = context - 2
            rest = None
            if len(encoding.ids) > room:
                rest = clean[encoding.offsets[room][0] :].strip()
            rows.append([self.start, *encoding.ids[:room], self.end])
            truncated.append(rest)
        length = context if full else max(map(len, rows))
        return Tokens(*padded(rows, self.pad, length), tuple(truncated))

    def save(self, path: Path) -> None:
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(self._tokenizer.to_str(), encoding="utf-8")


def padded(rows: Sequence[Sequence[int]], pad: int, length: int) -> tuple[Tensor, Tensor]:
    """Rows of at most `length` ids as ids and mask of `Tokens`, (B, L) each."""
    ids = torch.full((len(rows), length), pad, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : len(row)] = True
    return ids, mask


def read_file(path: Path, made: Callable[[Words, Merges], tokenizers.Tokenizer]) -> tokenizers.Tokenizer:
    """Read what `save` wrote: a vocabulary and its merges, which `made` makes a tokenizer of.

    Nothing else is taken from the file, and it must agree: regular expressions of others may take for ever.

    Raises InputError: the file is missing, is no tokenizer, or another one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such tokenizer file")
    about = read_json(path)
    words, merges = byte_pairs(about, path)
    with judged(path):
        tokenizer, empty = made(words, merges), made({}, ())
    own = json.loads(empty.to_str())
    own["model"] |= {key: about["model"].get(key) for key in ("vocab", "merges")}
    for table, expected, keys in ((about, own, FORM), (about["model"], own["model"], own["model"])):
        for key in keys:
            if table.get(key) != expected[key] and key in table:
                raise InputError(
                    f"{path}: its {key} is {shown(table[key])}, in a tokenizer of this kind it is "
                    f"{shown(expected[key])}"
                )
    return tokenizer


def read_json(path: Path) -> dict[str, Any]:
    """The table in a tokenizer's file. Raises InputError where there is none."""
    try:
        about = load_json(path, LARGEST_FILE)
        if not isinstance(about, dict) or not isinstance(about.get("model"), dict):
            raise InputError("no model in it")
    except InputError as error:
        raise InputError(f"{path}: not a tokenizer file ({error})") from error
    return about


def byte_pairs(about: Mapping[str, Any], path: Path) -> tuple[Words, Merges]:
    """Vocabulary and merges of a tokenizer's table. Raises InputError where they are none."""
    words, merges = about["model"].get("vocab"), about["model"].get("merges")
    merges = merges if isinstance(merges, list) else []
    return checked(words, [pair.split(" ") if isinstance(pair, str) else pair for pair in merges], path)


def read_pair(vocabulary: Path, merges: Path) -> tuple[Words, Merges]:
    """A vocabulary (JSON) and its merges (a line each) in two files, each as it is or compressed with gzip.

    Raises InputError: one is missing, or they are not a vocabulary and its merges.
    """
    words = parse_json(read_text(vocabulary), str(vocabulary))
    lines = [
        line.split() for line in read_text(merges).split("\n") if line and not line.startswith("#version")
    ]
    return checked(words, lines, vocabulary)


def read_text(path: Path) -> str:
    """A text that may be compressed with gzip. Raises InputError where it cannot be read, or is too long."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE} bytes")
        return data.decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def checked(words: Any, merges: Sequence[Any], where: Path) -> tuple[Words, Merges]:
    """A vocabulary and its merges as they are. Raises InputError where they are none."""
    if not isinstance(words, dict) or not all(type(index) is int for index in words.values()):
        raise InputError(f"{where}: not a vocabulary and its merges: it has no table of ids")
    if max(words.values(), default=0) >= MOST_IDS or min(words.values(), default=0) < 0:
        raise InputError(f"{where}: not a vocabulary: ids are from 0 to {MOST_IDS - 1}")
    for pair in merges:
        if not isinstance(pair, list) or [type(half) for half in pair] != [str, str]:
            raise InputError(f"{where}: not a vocabulary and its merges: {shown(pair)} is no pair")
    return words, [(first, second) for first, second in merges]


@contextmanager
def judged(where: Path | str, quiet: bool = True) -> Iterator[None]:
    """Takes what the library raises of a broken vocabulary, a panic of its Rust even, for an InputError.

    What Rust writes of a panic is left out, unless it is not to be `quiet`: that takes a file.
    """
    try:
        with _without_panic() if quiet else nullcontext():
            yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: not a tokenizer file ({error})") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise InputError(f"{where}: not a tokenizer file (the library broke off: {error})") from error


@contextmanager
def _without_panic() -> Iterator[None]:
    """Leaves out what Rust writes to stderr when it panics; what else was written comes afterwards."""
    try:
        real = os.dup(STDERR)
    except OSError:  # closed
        yield
        return
    panic = False
    with _PANIC, tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), STDERR)
        try:
            yield
        except BaseException as error:
            panic = type(error).__name__ == PANIC
            raise
        finally:
            os.dup2(real, STDERR)
            os.close(real)
            written.seek(0)
            if not panic and (said := written.read()):
                os.write(STDERR, said)


def check_ids(tokenizer: tokenizers.Tokenizer, path: Path | str, expected: Mapping[str, int]) -> None:
    """Raises InputError where a token has another id than is expected."""
    for token, wanted in expected.items():
        found = tokenizer.token_to_id(token)
        if found != wanted:
            raise InputError(f"{path}: token {token} has id {found} and must have {wanted}")
