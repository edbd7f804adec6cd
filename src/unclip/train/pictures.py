"""The training material: captioned pictures in batches, and the same held-out ones at every evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unclip.data.captions import JUDGED_LANGUAGES, LANGUAGES, check_languages
from unclip.data.corpus import Corpus
from unclip.data.records import SCENES
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.clip_loss import in_parts
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.loop import Judged
from unclip.train.places import Places, by_weight, in_order

EVALUATION_PICTURES = 512  # held-out pictures that a stage is judged by while it trains
LENGTH_GROUPS = 4  # that the captions of a batch are encoded in
LEAST_TOKENS = 3  # start, one of what is said, end
LARGEST_SHIFT = 4096  # pixels
SCENES_SHARE = 0.2  # of a batch
ROW = 16  # pictures of one kind, each a hard negative of the others


@dataclass(frozen=True)
class PicturesConfig:
    """The pictures that are learned from, and their captions.

    Attributes:
        languages: share of captions by language code ("other" = all the others together).
        temperature: of those shares, above 0: each is raised to one over it, so above 1 rare languages come
            oftener.
        sources: factor on a source's share of the pictures (1 where not named, 0 leaves it out).
        shares: share of all pictures that a source makes up, whatever its number; by default scenes, where
            the corpus has them, a fifth, so that single things lose little.
        kinds: the factor by an emoji's group ("food-drink") or subgroup ("face-smiling").
        shift: pictures are moved by up to so many pixels each way, on white.
        tokens: captions are cut to so many tokens, where the model would read more: a batch is as long as
            its longest caption.
        colours: share of captions that say the picture's colour (`data.colours`), where it has one and the
            name says none.
        tags_as_names: share of captions that call a thing by one of its tags: the everyday names of emoji
            stand only there ("car" of "automobile").
        hard_negatives: share of a batch that is drawn in rows of one kind (an emoji's subgroup,
            "face-smiling"): CLIP learns what tells a smile from a frown where a batch holds both. Pictures
            of other things have no kind.
    """

    languages: Mapping[str, float] = field(default_factory=lambda: dict(LANGUAGES))
    temperature: float = 1.0
    sources: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=lambda: {SCENES: SCENES_SHARE})
    kinds: Mapping[str, float] = field(default_factory=dict)
    shift: int = 0
    tokens: int | None = None
    colours: float = 0.0
    tags_as_names: float = 0.0
    hard_negatives: float = 0.0

    def __post_init__(self) -> None:
        for name in ("colours", "tags_as_names", "hard_negatives"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise InputError(f"{name}: got {share}, allowed is a share from 0 to 1")
        if not self.temperature > 0:
            raise InputError(f"temperature: got {self.temperature}, allowed is a number above 0")
        if self.shares and not (min(self.shares.values()) >= 0 and sum(self.shares.values()) < 1):
            raise InputError(f"shares: got {dict(self.shares)}, allowed are shares of less than 1 together")
        check_shift(self.shift)
        if self.tokens is not None and self.tokens < LEAST_TOKENS:
            raise InputError(f"tokens: got {self.tokens}, allowed is {LEAST_TOKENS} or more, or null for all")
        check_languages(self.languages)


def check_streams(corpus: Corpus, config: PicturesConfig) -> None:
    """Refuse settings that a streamed corpus cannot honour. Raises InputError."""
    if corpus.streams and config.hard_negatives:
        raise InputError(
            f"pictures.hard_negatives: got {config.hard_negatives}, but {corpus.where} is read shard by "
            "shard, and pictures of one kind lie in many: use 0, or a corpus in a folder"
        )


def check_shift(shift: int) -> None:
    """Raises InputError for pixels that pictures cannot be moved by."""
    if not 0 <= shift <= LARGEST_SHIFT:
        raise InputError(f"shift: got {shift}, allowed is 0 to {LARGEST_SHIFT} pixels")


class Captioned(NamedTuple):
    """A batch of pictures with captions, on the CPU."""

    position: np.ndarray  # (B,) in the corpus
    pixels: np.ndarray  # (B, S, S, 3) uint8
    tokens: Tokens


class Pictures:
    """Draws batches from a corpus: concepts evenly, a caption for each picture."""

    def __init__(
        self, corpus: Corpus, config: PicturesConfig, tokenizer: Tokenizer, context: int, size: int
    ) -> None:
        self.corpus = corpus
        self.config = config
        self.tokenizer = tokenizer
        self.context = min(context, config.tokens or context)
        self.pixels = corpus.pixels(size)
        self.weights = torch.from_numpy(corpus.weights(config.sources, config.kinds, config.shares)).double()
        check_streams(corpus, config)
        self.order = corpus.order(self.weights.numpy())
        self.concepts = np.unique(corpus.column("concept"), return_inverse=True)[1]  # (N,)
        self.kinds: list[str] = corpus.column("subgroup")  # (N,), "" for none
        named = set(self.kinds) - {""} if config.hard_negatives else set()
        self.of_kind = {
            kind: torch.from_numpy(np.flatnonzero(np.array(self.kinds) == kind)) for kind in named
        }

    def positions(self, places: Places) -> np.ndarray:
        """(B,) in the corpus, each picture as often as its source's share says; to be drawn first."""
        if self.order is not None:
            return in_order(self.order, places).numpy()
        chance = places.rand(dtype=torch.float64)  # (B,)
        index = by_weight(self.weights, chance)
        in_rows = int(self.config.hard_negatives * places.total) // ROW * ROW  # places, from the first on
        if in_rows:
            firsts = replace(places, numbers=[place - place % ROW for place in places.numbers])
            leading = by_weight(self.weights, firsts.rand(dtype=torch.float64)).tolist()  # maybe not here
            for i, (place, leader) in enumerate(zip(places.numbers, leading, strict=True)):
                members = self.of_kind.get(self.kinds[leader]) if place < in_rows else None
                if members is not None and place % ROW:
                    index[i] = members[by_weight(self.weights[members], chance[i])]
        return index.numpy()

    def choose(self, places: Places) -> tuple[np.ndarray, list[str], list[Random]]:
        """Positions (B,) in the corpus, a caption for each, and what to make further choices of it with."""
        index, choices, say = self.positions(places), places.randoms(), self.config
        captions = [
            self.corpus.caption(i, choice, say.languages, say.colours, say.tags_as_names, say.temperature)
            for i, choice in zip(index.tolist(), choices, strict=True)
        ]
        return index, captions, choices

    def draw(self, places: Places) -> Captioned:
        index, captions, _ = self.choose(places)
        pixels = shifted(self.pixels[index], self.config.shift, places)
        return Captioned(index, pixels, self.tokenizer.batch(captions, self.context))


def shifted(pixels: np.ndarray, most: int, places: Places) -> np.ndarray:
    """Pictures (B, S, S, 3), each moved by up to `most` pixels each way over a white ground."""
    if not most:
        return pixels
    shifts = places.randint(-most, most + 1, 2).tolist()
    return np.stack(
        [_moved(picture, down, right) for picture, (down, right) in zip(pixels, shifts, strict=True)]
    )


def _moved(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """(S, S, 3) moved over a white ground."""
    out = np.full_like(pixels, 255)
    height, width = pixels.shape[:2]
    if abs(down) >= height or abs(right) >= width:
        return out
    out[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = pixels[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return out


def text_by_length(
    encode: Callable[[Tensor, Tensor], Tensor], tokens: Tokens, part: int | None = None
) -> Tensor:
    """Text embeddings (B, E) of captions, encoded from ids and mask in groups of like length.

    With `part` so many at once, see `clip_loss.in_parts`.
    """
    groups = groups_by_length(tokens)
    embeddings = [
        in_parts(encode, part, group.ids, group.mask) if part else encode(group.ids, group.mask)
        for _, group in groups
    ]
    return torch.cat(embeddings)[torch.cat([rows for rows, _ in groups]).argsort()]


def groups_by_length(tokens: Tokens) -> list[tuple[Tensor, Tokens]]:
    """A batch of captions in groups of like length, each with its rows of the batch.

    A batch is as long as its longest caption, and most are a quarter of that.
    """
    order = tokens.mask.sum(dim=1).argsort()
    groups = []
    for rows in order.chunk(LENGTH_GROUPS):
        length = int(tokens.mask[rows[-1]].sum())  # the longest of the group
        groups.append((rows, Tokens(tokens.ids[rows, :length], tokens.mask[rows, :length], ())))
    return groups


def spread(total: int, count: int) -> np.ndarray:
    """So many positions of `total`, int64, spread evenly; all of them where there are fewer."""
    return np.linspace(0, total - 1, min(count, total)).astype(int)


class HeldOut:
    """The same held-out pictures and names at every evaluation."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, context: int, size: int) -> None:
        index = spread(len(corpus), EVALUATION_PICTURES)
        self.judged = Judged(corpus.split, len(index))
        self.pixels = corpus.pixels(size)[index]  # (N, S, S, 3)
        self.images = from_uint8(self.pixels)  # (N, 3, S, S)
        self.concepts = np.array(corpus.column("concept"), object)[index]
        self.names = {
            language: [corpus.name(int(i), language) for i in index] for language in JUDGED_LANGUAGES
        }
        self.tokens = {language: tokenizer.batch(names, context) for language, names in self.names.items()}

    def recall(
        self, similarity: Tensor, rows: np.ndarray | slice = slice(None), *, by_concept: bool = False
    ) -> float:
        """Share of the pictures at `rows`, M of N, for which the most similar one shows the same concept.

        Takes similarities (M, N) of what stands for them to all pictures. With `by_concept` each concept
        counts alike, though it may have a picture in every skin tone.
        """
        best = similarity.argmax(dim=1).cpu().numpy()
        wanted = self.concepts[rows]
        right = self.concepts[best] == wanted
        if not by_concept:
            return float(right.mean())
        _, group = np.unique(wanted, return_inverse=True)
        return float((np.bincount(group, weights=right) / np.bincount(group)).mean())
