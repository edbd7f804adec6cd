"""The tokenizer of DALL-E mini and mega."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import models, pre_tokenizers

from unclip.errors import InputError
from unclip.tokenizer.tokens import FileTokenizer, Merges, Words, check_ids, judged, read_file, read_pair

# BART's, and with it DALL-E mini's: id of each, and the letter that stands before every word.
BART_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2}
BART_UNKNOWN = "<unk>"
BART_SPACE = "\u0120"


class DalleMiniTokenizer(FileTokenizer):
    """The BPE of DALL-E mini and mega as min-dalle applies it: BART's merges within words between spaces.

    Emoji are spelled out ("red_apple"), letters become lower case, and what is not ASCII then is left out.
    Ids that no text can have ("<mask>") are not counted in `vocabulary`: the model may have no rows for them.
    """

    pad, start, end = BART_SPECIAL["<pad>"], BART_SPECIAL["<s>"], BART_SPECIAL["</s>"]

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        super().__init__(tokenizer)
        model = json.loads(tokenizer.to_str())["model"]
        merged = {first + second for first, second in model["merges"]} | {*BART_SPECIAL, BART_UNKNOWN}
        self.vocabulary = 1 + max(
            index for word, index in model["vocab"].items() if len(word) == 1 or word in merged
        )

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
        return cls._checked(read_file(path, _tokenizer), path)

    @classmethod
    def of_files(cls, vocabulary: Path, merges: Path) -> Self:
        """Read a published vocabulary and its merges. Raises InputError as `load`."""
        try:
            words, pairs = read_pair(vocabulary, merges)
            with judged(vocabulary):
                tokenizer = _tokenizer(words, pairs)
        except InputError as error:
            raise InputError(
                f"{vocabulary} and {merges}: not a vocabulary and its merges ({error})"
            ) from error
        return cls._checked(tokenizer, vocabulary)

    @classmethod
    def _checked(cls, tokenizer: tokenizers.Tokenizer, path: Path) -> Self:
        check_ids(tokenizer, path, BART_SPECIAL)
        if tokenizer.token_to_id(BART_UNKNOWN) is None:
            raise InputError(f"{path}: has no token {BART_UNKNOWN} for letters that it does not know")
        return cls(tokenizer)


def _tokenizer(words: Words, merges: Merges) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=dict(words), merges=list(merges), unk_token=BART_UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(BART_SPACE, prepend_scheme="always", split=True)
    return tokenizer
