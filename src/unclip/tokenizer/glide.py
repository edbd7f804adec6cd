"""The tokenizer of GLIDE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from unclip.errors import InputError
from unclip.tokenizer.tokens import FileTokenizer, Merges, Tokens, Words, judged, padded, read_file, read_pair

LAST = "<|endoftext|>"  # of GPT-2's vocabulary
GPT2_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))


class GlideTokenizer(FileTokenizer):
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
        truncated = tuple(
            text[encoding.offsets[context][0] :].strip() if len(encoding.ids) > context else None
            for text, encoding in zip(texts, encodings, strict=True)
        )
        rows = [encoding.ids[:context] for encoding in encodings]
        return Tokens(*padded(rows, self.pad, length), truncated)

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
        tokenizer = _from_folder(path) if path.is_dir() else read_file(path, _tokenizer)
        last = tokenizer.id_to_token(tokenizer.get_vocab_size(with_added_tokens=True) - 1)
        if last != LAST:
            raise InputError(f"{path}: its last token is {last!r} and must be {LAST!r}")
        return cls(tokenizer)


def _from_folder(folder: Path) -> tokenizers.Tokenizer:
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
    try:
        words, pairs = read_pair(vocabulary, merges)
        with judged(folder):
            return _tokenizer(words, pairs)
    except InputError as error:
        raise InputError(f"{vocabulary} and {merges}: no vocabulary and its merges ({error})") from error


def _tokenizer(words: Words, merges: Merges) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=dict(words), merges=list(merges)))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
