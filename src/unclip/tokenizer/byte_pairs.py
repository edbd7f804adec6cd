"""Our own tokenizer: byte-level BPE that is trained on captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from unclip.errors import InputError
from unclip.tokenizer.spelling import spell_out
from unclip.tokenizer.tokens import FileTokenizer, Merges, Words, check_ids, read_file

PAD, START, END = "<pad>", "<start>", "<end>"


class BytePairTokenizer(FileTokenizer):
    """Byte-level BPE of our own: NFKC, lower case, single spaces; every text has tokens, none is unknown.

    Emoji are spelled out by their English names ("red apple").

    Ids: 0 padding, 1 start, 2 end, then the 256 bytes, then the merges. A word has the same tokens at the
    beginning of a text as in its middle.
    """

    pad, start, end = 0, 1, 2

    def _clean(self, text: str) -> str:
        return spell_out(text)

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
        tokenizer = _tokenizer({}, ())
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, START, END],
            initial_alphabet=alphabet,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(map(spell_out, texts), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, is no tokenizer, or its special tokens are not 0, 1 and 2.
        """
        tokenizer = read_file(Path(path), _tokenizer)
        tokenizer.add_special_tokens([PAD, START, END])
        check_ids(tokenizer, path, {PAD: cls.pad, START: cls.start, END: cls.end})
        return cls(tokenizer)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, as it was normalised; special tokens are left out, half letters become marks."""
        text = (i for i in ids if i not in (self.pad, self.start, self.end))
        pieces = [self._tokenizer.id_to_token(i) or "" for i in text]
        return str(decoders.ByteLevel().decode(pieces)).strip()


def _tokenizer(words: Words, merges: Merges) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=dict(words), merges=list(merges)))
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
    return tokenizer
