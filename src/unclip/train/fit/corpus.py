"""The corpus of a fit: one's own pictures, some of them held out, and drawings of the bundle beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from unclip.bundle import Bundle
from unclip.data.build import Progress
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.described import Defaults
from unclip.data.manifest import MANIFEST
from unclip.data.prepare.rules import STANDING
from unclip.data.prepare.run import prepare
from unclip.data.prompts import language_of
from unclip.data.records import MANIFEST_FILE, Split, dump_captions
from unclip.data.shards import write_shards
from unclip.data.wording import slug
from unclip.errors import DataError
from unclip.images import encode
from unclip.runtime import atomic_path
from unclip.train.fit.captions import common_words, held_out
from unclip.train.fit.kept import Drawings

KEPT = "base"  # the source of drawings of the bundle, and the name of their shards
LEAST_PICTURES = 3


@dataclass(frozen=True)
class Folder:
    """A folder of one's own pictures as a fit sees it.

    Attributes:
        corpus: where they are, prepared.
        pictures: how many.
        judged: positions of those that are held out.
        common: words that all captions say, see `common_words`.
        fingerprint: stands for all pictures and captions.
    """

    corpus: Path
    pictures: int
    judged: frozenset[int]
    common: str
    fingerprint: str

    @property
    def learned(self) -> int:
        """The pictures that are learned from."""
        return self.pictures - len(self.judged)


def prepared(sources: Sequence[Path], out: Path, defaults: Defaults, workers: int) -> Iterator[Progress]:
    """Makes `out` a corpus of all pictures of the sources, as `data.prepare` reads them, without its rules.

    Raises what `prepare` raises.
    """
    yield from prepare(sources, out, rules=STANDING, defaults=defaults, workers=workers, report=False)


def is_corpus(source: Path) -> bool:
    """True for a folder that `unclip data` made."""
    return (source / MANIFEST_FILE).is_file()


def look(corpus: Path) -> Folder:
    """The contents of a prepared folder.

    Raises:
        DataError: it has too few pictures.
    """
    found = Corpus(corpus, EVERYTHING)
    if len(found) < LEAST_PICTURES:
        raise DataError(
            f"{len(found)} pictures that can be learned from: give at least {LEAST_PICTURES}; `unclip data "
            "show "
            f"{corpus}` says what was left out, and why"
        )
    captions = [found.name(index) for index in range(len(found))]
    judged = held_out(found.column("key"), found.column("concept"))
    return Folder(corpus, len(found), frozenset(judged), common_words(captions), found.fingerprint)


def mix(folder: Folder, drawings: Drawings | None, base: Bundle, out: Path) -> None:
    """Writes the corpus that is trained on: the folder's pictures, and the drawings, all learned from.

    The folder's shards are linked to where the file system can, else copied.
    """
    table = pq.read_table(folder.corpus / MANIFEST_FILE).cast(MANIFEST)
    splits = [
        Split.UNSEEN_CONCEPTS if position in folder.judged else Split.TRAIN for position in range(len(table))
    ]
    column = MANIFEST.get_field_index("split")
    table = table.set_column(column, MANIFEST.field("split"), pa.array([str(split) for split in splits]))
    shutil.rmtree(out, ignore_errors=True)
    with atomic_path(out) as temporary:
        temporary.mkdir(parents=True)
        for shard in {*table["shard"].to_pylist(), *table["large_shard"].to_pylist()} - {"", None}:
            _link(folder.corpus / shard, temporary / shard)
        if drawings is not None and len(drawings):
            table = pa.concat_tables([table, _of_drawings(drawings, base, temporary)])
        pq.write_table(table, temporary / MANIFEST_FILE, compression="zstd")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _of_drawings(drawings: Drawings, base: Bundle, folder: Path) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "key": f"{KEPT}/{number:05d}",
            "split": str(Split.TRAIN),
            "concept": slug(prompt),
            "style": "",
            "source": KEPT,
            "licence": base.manifest.licence or "unknown",
            "author": f"drawn by {base.name}",
            "tone": 0,
            "group": "",
            "subgroup": "",
            "width": drawings.pixels.shape[1],
            "vector": False,
            "names": [],
            "captions": dump_captions({language_of(prompt): [prompt]}),
            "large": False,
        }
        for number, prompt in enumerate(drawings.prompts)
    ]
    samples: Iterator[tuple[str, bytes, dict[str, Any]]] = (
        (row["key"], encode(Image.fromarray(pixels), "PNG"), {"captions": row["captions"]})
        for row, pixels in zip(rows, drawings.pixels, strict=True)
    )
    for row, place in zip(rows, write_shards(folder, KEPT, samples), strict=True):
        row |= {"shard": place.shard, "offset": place.offset, "size": place.size}
    return pa.Table.from_pylist(rows, MANIFEST)
