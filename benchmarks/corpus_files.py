"""Pictures of a corpus as files in folders, as somebody's own pictures would lie there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from unclip.data.classes import concept_names
from unclip.data.corpus import Corpus


def write_files(corpus: Path, out: Path, splits: Iterable[str], most: int | None = None) -> dict[Path, str]:
    """`out/STYLE/KEY.png` for the pictures of some splits, at most so many; returns what each shows, by name.

    The order of a corpus is that of chance, so the first ones are a sample. What has no English name is "".
    """
    written: dict[Path, str] = {}
    for split in splits:
        opened = Corpus(corpus, split)
        names = concept_names(opened)
        rows = opened.records.select(["key", "style", "concept", "shard", "offset", "size"]).to_pylist()
        for row in rows[: None if most is None else most - len(written)]:
            path = out / row["style"].replace(" ", "-") / f"{row['key'].replace('/', '_')}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with (corpus / row["shard"]).open("rb") as shard:
                shard.seek(row["offset"])
                path.write_bytes(shard.read(row["size"]))
            written[path] = names.get(row["concept"], "")
    return written
