"""The tokenizer of OpenAI's CLIP, from any of the files that its vocabulary is published in."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from unclip.errors import InputError
from unclip.tokenizer.repairs import repaired
from unclip.tokenizer.tokens import (
    TOKENIZER_FILE,
    FileTokenizer,
    Merges,
    Words,
    byte_pairs,
    check_ids,
    judged,
    read_file,
    read_json,
    read_pair,
    read_text,
)

CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_CONTEXT = 77  # tokens with start and end, 2103.00020 section 2.4 (76 there: without one of the two)
CLIP_VOCABULARY = 49_408
# The merges that CLIP uses.
SHIPPED_VOCABULARY = Path(__file__).parents[1] / "vocabularies" / "clip-bpe.txt.gz"
# CLIP's own word splitter (openai/CLIP, simple_tokenizer.py), without the two special tokens.
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class CLIPTokenizer(FileTokenizer):
    """The BPE of OpenAI's CLIP (2103.00020): lower case, 49,408 ids, context 77.

    Its padding is id 0, as in OpenAI's own code, which is also the token "!": read the mask. Text is cleaned
    as there (quotes of phones straight, HTML entities undone, white space made single), but for what `ftfy`
    guesses of wrongly decoded text.
    """

    pad, start, end = 0, CLIP_VOCABULARY - 2, CLIP_VOCABULARY - 1
    context = CLIP_CONTEXT

    def _clean(self, text: str) -> str:
        return repaired(text)

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
            tokenizer = _from_folder(path)
        elif path.name.endswith(".gz"):
            tokenizer = _from_merges(path)
        else:
            tokenizer = read_file(path, _tokenizer)
        tokenizer.add_special_tokens([CLIP_START, CLIP_END])
        check_ids(tokenizer, path, {CLIP_START: cls.start, CLIP_END: cls.end})
        return cls(tokenizer)

    def save_vocabulary(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`, as Hugging Face's libraries read them."""
        self._tokenizer.model.save(str(folder))


def _tokenizer(words: Words, merges: Merges) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=dict(words), merges=list(merges), end_of_word_suffix="</w>", unk_token=CLIP_END)
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
    return tokenizer


def _from_folder(folder: Path) -> tokenizers.Tokenizer:
    whole = folder / TOKENIZER_FILE
    try:
        if whole.is_file() and not (folder / "vocab.json").is_file():
            words, merges = byte_pairs(read_json(whole), whole)
        else:
            words, merges = read_pair(folder / "vocab.json", folder / "merges.txt")
        with judged(folder):
            return _tokenizer(words, merges)
    except InputError as error:
        raise InputError(
            f"{folder}: needs vocab.json and merges.txt of CLIP, or tokenizer.json ({error})"
        ) from error


def _from_merges(path: Path) -> tokenizers.Tokenizer:
    """OpenAI's file holds more merges than CLIP uses; the vocabulary follows from their order."""
    try:
        lines = read_text(path).split("\n")
    except InputError as error:
        raise InputError(f"{path}: not CLIP's merges ({error})") from error
    count = CLIP_VOCABULARY - 2 * 256 - 2
    pairs = [line.split() for line in lines[1 : count + 1]]  # the first line is a version
    if len(pairs) != count or any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{path}: holds {len(pairs)} merges, CLIP has {count}")
    merges = [(first, second) for first, second in pairs]
    alphabet = byte_alphabet()
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    words += [first + second for first, second in merges]
    words += [CLIP_START, CLIP_END]
    with judged(path):
        return _tokenizer({word: i for i, word in enumerate(words)}, merges)


def byte_alphabet() -> list[str]:
    """The letters that stand for the 256 bytes, in GPT-2's order: printable bytes, then the rest."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
