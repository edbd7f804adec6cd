"""The record of a picture of a corpus before it is drawn, and the names of a corpus's files and splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Captions = Mapping[str, Sequence[str]]  # language -> [name, tag, tag, ...]

MANIFEST_FILE, CARD_FILE, DROPPED_FILE, CACHE = "manifest.parquet", "CARD.md", "dropped.jsonl", "cache"
PACKED_FILE = "packed.json.xz"  # the manifest of a corpus that is packed (`data.packing`)
STORED_SIZE, LARGE_SIDE = 256, 1024  # pixels of a picture's side, and of a large rendering's
SCENES = "scenes"  # the source of pictures that are put together of others
FACES = "faces"  # the same, of faces
GROUPS = ("group", "subgroup")  # columns that manifests of before had not
WEIGHT = "weight"  # a column that only a corpus has whose pictures count more or less in training


class Split(StrEnum):
    """The four parts of a corpus; `docs/corpus.md` says how a picture falls into one."""

    TRAIN = "train"
    UNSEEN_PAIRS = "unseen-pairs"
    UNSEEN_CONCEPTS = "unseen-concepts"
    UNSEEN_STYLES = "unseen-styles"


class Fit(StrEnum):
    """The way of a picture that is not square into a square."""

    PAD = "pad"  # all of it, white beside it
    TRIM = "trim"  # its empty margin cut away first, and an even small one put around it
    CROP = "crop"  # the middle of it


@dataclass(frozen=True)
class Drawing:
    """One picture as its source has it, not drawn yet: exactly one of `svg` and `bitmap` is set.

    `captions` hold, for each language, a name and then tags; `names` are further names that the source itself
    gives, in English or the captions' first language. `tone` is 0 or a skin tone 1 (light) .. 5 (dark).
    """

    key: str
    source: str
    style: str
    concept: str
    captions: Captions
    licence: str
    author: str
    svg: str | None = None
    bitmap: bytes | None = None
    names: tuple[str, ...] = ()
    tone: int = 0
    fit: Fit = Fit.PAD

    @property
    def content(self) -> str | bytes:
        """The document, or the file of the bitmap."""
        content = self.svg if self.bitmap is None else self.bitmap
        assert content is not None
        return content


@dataclass(frozen=True)
class LeftOut:
    """Something that a source holds and that does not go into the corpus: its name, and why.

    `reason` is one of a few phrases, to be counted; `detail` says more of this one.
    """

    source: str
    key: str
    reason: str
    detail: str = ""


def dump_captions(captions: Captions) -> str:
    """Captions as JSON, the same text for the same captions."""
    return json.dumps(
        {language: list(texts) for language, texts in sorted(captions.items())}, ensure_ascii=False
    )


def load_captions(text: str) -> dict[str, list[str]]:
    """The captions that `dump_captions` wrote."""
    return json.loads(text)
