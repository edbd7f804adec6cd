"""The tokenizer of DALL-E mini and mega."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import models, pre_tokenizers

from unclip.errors import InputError
from unclip.tokenizer.tokens import FileTokenizer, check_ids, read_file

# BART's, and with it DALL-E mini's: id of each, and the letter that stands before every word.
BART_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2}
BART_UNKNOWN = "<unk>"
BART_SPACE = "\u0120"


class DalleMiniTokenizer(FileTokenizer):
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
        return cls._checked(read_file(path), path)

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
        check_ids(tokenizer, path, BART_SPECIAL)
        if tokenizer.token_to_id(BART_UNKNOWN) is None:
            raise InputError(f"{path}: has no token {BART_UNKNOWN} for letters that it does not know")
        return cls(tokenizer)
