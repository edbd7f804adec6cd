"""The common half of all tokenizers: batches of ids, what is asked of a tokenizer, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import tokenizers
import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.runtime import atomic_path

TOKENIZER_FILE = "tokenizer.json"  # as Hugging Face's libraries call it


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

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.encode_special_tokens = True  # "<end>" in a prompt is text, not an order
        self._tokenizer = tokenizer

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

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


def read_file(path: Path) -> tokenizers.Tokenizer:
    """Read what `save` wrote. Raises InputError: the file is missing, or is no tokenizer."""
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such tokenizer file") from error
    except Exception as error:  # the library raises plain Exception for a broken file
        raise InputError(f"{path}: not a tokenizer file ({error})") from error


def check_ids(tokenizer: tokenizers.Tokenizer, path: Path | str, expected: Mapping[str, int]) -> None:
    """Raises InputError where a token has another id than is expected."""
    for token, wanted in expected.items():
        found = tokenizer.token_to_id(token)
        if found != wanted:
            raise InputError(f"{path}: token {token} has id {found} and must have {wanted}")
