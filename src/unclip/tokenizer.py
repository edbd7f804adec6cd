"""Text to tokens: our own byte-level BPE, and those of CLIP, DALL-E mini and GLIDE for published weights.

All cut a batch to its longest text and say what they had to leave out. Special tokens written in a text
("<end>") are ordinary text: nobody can end a caption early by typing it.
"""

from __future__ import annotations

import gzip
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from unclip.errors import InputError
from unclip.runtime import atomic_path

PAD, START, END = "<pad>", "<start>", "<end>"
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_CONTEXT = 77  # tokens with start and end, 2103.00020 section 2.4 (76 there: without one of the two)
CLIP_VOCABULARY = 49_408
SHIPPED_VOCABULARY = Path(__file__).parent / "vocabularies" / "clip-bpe.txt.gz"  # the merges that CLIP uses
# CLIP's own word splitter (openai/CLIP, simple_tokenizer.py), without the two special tokens.
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

# BART's, and with it DALL-E mini's: id of each, and the letter that stands before every word.
BART_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2}
BART_UNKNOWN = "<unk>"
BART_SPACE = "\u0120"


@dataclass(frozen=True)
class Tokens:
    """A batch of texts as tokens, as long as the longest of them.

    Attributes:
        ids: (B, L) int64, each row is start, text, end, padding.
        mask: (B, L) bool, True where there is a token and not padding.
        truncated: for each text what was cut off its end, as it was written; None where it fitted.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    truncated: tuple[str | None, ...]

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device), self.truncated)


@runtime_checkable
class Tokenizer(Protocol):
    """What every tokenizer offers to the models, the trainer and the pipeline."""

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


class _FileTokenizer:
    """What they share: a `tokenizers.Tokenizer`, and batches made from it."""

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
        ids = torch.full((len(rows), length), self.pad, dtype=torch.int64)
        mask = torch.zeros((len(rows), length), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return Tokens(ids, mask, tuple(truncated))

    def save(self, path: Path) -> None:
        with atomic_path(Path(path)) as temporary:
            temporary.write_text(self._tokenizer.to_str(), encoding="utf-8")


class BytePairTokenizer(_FileTokenizer):
    """Byte-level BPE of our own: NFKC, lower case, single spaces; every text has tokens, none is unknown.

    Ids: 0 padding, 1 start, 2 end, then the 256 bytes, then the merges. A word has the same tokens at the
    beginning of a text as in its middle.
    """

    pad, start, end = 0, 1, 2

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int = 8192) -> Self:
        """Learn the merges from texts.

        Args:
            texts: captions in all languages that are to be understood; read once, may be an iterator.
            vocabulary: most ids to have, at least 259 (three special tokens and 256 bytes). Fewer result
                where the texts hold fewer pairs that occur twice.
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        least = len(alphabet) + 3
        if vocabulary < least:
            raise InputError(f"vocabulary {vocabulary} is too small: choose at least {least}")
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Lowercase(),
                normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
                normalizers.Strip(),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, trim_offsets=True)
        tokenizer.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=True)
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, START, END],
            initial_alphabet=alphabet,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, is no tokenizer, or its special tokens are not 0, 1 and 2.
        """
        tokenizer = _read(Path(path))
        for token, expected in ((PAD, cls.pad), (START, cls.start), (END, cls.end)):
            found = tokenizer.token_to_id(token)
            if found != expected:
                raise InputError(f"{path}: token {token} has id {found} and must have {expected}")
        return cls(tokenizer)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, as it was normalised; special tokens are left out, half letters become marks."""
        text = (i for i in ids if i not in (self.pad, self.start, self.end))
        pieces = [self._tokenizer.id_to_token(i) or "" for i in text]
        return str(decoders.ByteLevel().decode(pieces)).strip()


class CLIPTokenizer(_FileTokenizer):
    """The BPE of OpenAI's CLIP (2103.00020): lower case, 49,408 ids, context 77.

    Its padding is id 0, as in OpenAI's own code, which is also the token "!": read the mask. Text is cleaned
    as there (HTML entities undone twice, white space made single), but for `ftfy`, whose repairs of wrongly
    decoded text are left out.
    """

    pad, start, end = 0, CLIP_VOCABULARY - 2, CLIP_VOCABULARY - 1
    context = CLIP_CONTEXT

    def _clean(self, text: str) -> str:
        return html.unescape(html.unescape(text))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a published vocabulary.

        Args:
            path: `bpe_simple_vocab_16e6.txt.gz` (OpenAI's), a folder with `vocab.json` and `merges.txt`, or
                with `tokenizer.json` alone (Hugging Face's), or a `tokenizer.json` that `save` wrote.

        Raises:
            InputError: nothing there, or not this vocabulary.
        """
        path = Path(path)
        if path.is_dir():
            tokenizer = _clip_from_folder(path)
        elif path.name.endswith(".gz"):
            tokenizer = _clip_from_merges(path)
        else:
            tokenizer = _read(path)
        for token, expected in ((CLIP_START, cls.start), (CLIP_END, cls.end)):
            found = tokenizer.token_to_id(token)
            if found != expected:
                raise InputError(f"{path}: token {token} has id {found} and must have {expected}")
        return cls(tokenizer)

    def save_vocabulary(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`, as Hugging Face's libraries read them."""
        self._tokenizer.model.save(str(folder))


class DalleMiniTokenizer(_FileTokenizer):
    """The BPE of DALL-E mini and mega as min-dalle applies it: BART's merges within words between spaces.

    Emoji are spelled out ("red_apple"), letters become lower case, and what is not ASCII then is left out.
    """

    pad, start, end = BART_SPECIAL["<pad>"], BART_SPECIAL["<s>"], BART_SPECIAL["</s>"]

    def _clean(self, text: str) -> str:
        if not text.isascii():
            import emoji  # its table is large, and few prompts need it

            text = emoji.demojize(text, delimiters=("", ""))
        ascii_only = text.lower().encode("ascii", errors="ignore").decode()
        return " ".join(word for word in ascii_only.split(" ") if word)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a published vocabulary.

        Args:
            path: a folder with `vocab.json` and `merges.txt`, or a `tokenizer.json` that `save` wrote.

        Raises:
            InputError: nothing there, or not a vocabulary of this kind.
        """
        path = Path(path)
        if path.is_dir():
            return cls.of_files(path / "vocab.json", path / "merges.txt")
        return cls._checked(_read(path), path)

    @classmethod
    def of_files(cls, vocabulary: Path, merges: Path) -> Self:
        """Read a published vocabulary and its merges. Raises InputError as `load`."""
        try:
            words, pairs = models.BPE.read_file(str(vocabulary), str(merges))
            model = models.BPE(vocab=words, merges=pairs, unk_token=BART_UNKNOWN)
        except Exception as error:  # the library raises plain Exception for a missing or broken file
            raise InputError(
                f"{vocabulary} and {merges}: not a vocabulary and its merges ({error})"
            ) from error
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(BART_SPACE, prepend_scheme="always", split=True)
        return cls._checked(tokenizer, vocabulary)

    @classmethod
    def _checked(cls, tokenizer: tokenizers.Tokenizer, path: Path) -> Self:
        for token, expected in BART_SPECIAL.items():
            found = tokenizer.token_to_id(token)
            if found != expected:
                raise InputError(f"{path}: token {token} has id {found} and must have {expected}")
        if tokenizer.token_to_id(BART_UNKNOWN) is None:
            raise InputError(f"{path}: has no token {BART_UNKNOWN} for letters that it does not know")
        return cls(tokenizer)


class GlideTokenizer(_FileTokenizer):
    """GPT-2's byte-level BPE as GLIDE applies it: lower case, no start, and only padding behind the text.

    The last id of the vocabulary ends a text in GPT-2 and is what pads here. An empty text has no tokens.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        super().__init__(tokenizer)
        self.pad = self.start = self.end = self.vocabulary - 1

    def batch(self, texts: Sequence[str], context: int, full: bool = False) -> Tokens:
        if not texts:
            raise InputError("a batch of no texts: give at least one")
        encodings = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        longest = max(1, *(len(encoding.ids) for encoding in encodings))
        length = context if full else min(context, longest)
        ids = torch.full((len(texts), length), self.pad, dtype=torch.int64)
        mask = torch.zeros((len(texts), length), dtype=torch.bool)
        truncated: list[str | None] = []
        for i, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            count = min(context, len(encoding.ids))
            ids[i, :count] = torch.tensor(encoding.ids[:count], dtype=torch.int64)
            mask[i, :count] = True
            left_out = len(encoding.ids) > context
            truncated.append(text[encoding.offsets[context][0] :].strip() if left_out else None)
        return Tokens(ids, mask, tuple(truncated))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a published vocabulary.

        Args:
            path: a folder with `encoder.json` and `vocab.bpe` (glide-text2im's, compressed with gzip or not),
                or with `vocab.json` and `merges.txt` (GPT-2's on the Hub), or a file that `save` wrote.

        Raises:
            InputError: nothing there, or not GPT-2's kind of vocabulary.
        """
        path = Path(path)
        tokenizer = _gpt2_from_folder(path) if path.is_dir() else _read(path)
        last = tokenizer.id_to_token(tokenizer.get_vocab_size(with_added_tokens=True) - 1)
        if last != CLIP_END:
            raise InputError(f"{path}: its last token is {last!r} and must be {CLIP_END!r}")
        return cls(tokenizer)


GPT2_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))


def _gpt2_from_folder(folder: Path) -> tokenizers.Tokenizer:
    """A vocabulary and its merges, each as it is or compressed with gzip."""
    found = [
        (folder / f"{words}{suffix}", folder / f"{merges}{suffix}")
        for words, merges in GPT2_FILES
        for suffix in ("", ".gz")
        if (folder / f"{words}{suffix}").is_file()
    ]
    if not found:
        wanted = " or ".join(" and ".join(names) for names in GPT2_FILES)
        raise InputError(f"{folder}: needs {wanted} of GPT-2")
    vocabulary, merges = found[0]
    lines = [line.split() for line in _text(merges).split("\n") if line and not line.startswith("#version")]
    try:
        words = json.loads(_text(vocabulary))
        pairs = [(first, second) for first, second in lines]
        tokenizer = tokenizers.Tokenizer(models.BPE(vocab=words, merges=pairs))
    except InputError:
        raise
    except Exception as error:  # the library raises plain Exception where the two do not fit
        raise InputError(f"{vocabulary} and {merges}: no vocabulary and its merges ({error})") from error
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _read(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such tokenizer file") from error
    except Exception as error:  # the library raises plain Exception for a broken file
        raise InputError(f"{path}: not a tokenizer file ({error})") from error


def _clip(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=CLIP_END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([CLIP_START, CLIP_END])
    return tokenizer


def _clip_from_folder(folder: Path) -> tokenizers.Tokenizer:
    whole = folder / "tokenizer.json"
    try:
        if whole.is_file() and not (folder / "vocab.json").is_file():
            model = json.loads(whole.read_text(encoding="utf-8"))["model"]
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            return _clip(model["vocab"], [(first, second) for first, second in pairs])
        vocabulary, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises plain Exception for a missing file
        raise InputError(
            f"{folder}: needs vocab.json and merges.txt of CLIP, or tokenizer.json ({error})"
        ) from error
    return _clip(vocabulary, merges)


def _clip_from_merges(path: Path) -> tokenizers.Tokenizer:
    """OpenAI's file holds more merges than CLIP uses; the vocabulary follows from their order."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not CLIP's merges ({error})") from error
    count = CLIP_VOCABULARY - 2 * 256 - 2
    pairs = [line.split() for line in lines[1 : count + 1]]  # the first line is a version
    if len(pairs) != count or any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{path}: holds {len(pairs)} merges, CLIP has {count}")
    merges = [(first, second) for first, second in pairs]
    alphabet = _byte_alphabet()
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += [first + second for first, second in merges]
    words += [CLIP_START, CLIP_END]
    return _clip({word: i for i, word in enumerate(words)}, merges)


def _byte_alphabet() -> list[str]:
    """The letters that stand for the 256 bytes, in GPT-2's order: printable bytes, then the rest."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
