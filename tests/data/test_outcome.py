"""The promise that the sums of a build add up: what lies in a folder is kept, read for it or listed, once."""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.packages import ellipse, svg, tar_bytes
from unclip.data import outcome
from unclip.data.prepare.run import build_folder
from unclip.errors import DataError
from unclip.processes import Contained

Make = Callable[[Path, int], None]
SOUND, GREY = (lambda number: ellipse((number * 37 % 256, number * 91 % 256, 90))), ellipse((9, 9, 9))


def pair(ending: str, text: bytes, picture: bytes | None = None) -> Make:
    def make(folder: Path, number: int) -> None:
        (folder / f"{number}.png").write_bytes(SOUND(number) if picture is None else picture)
        (folder / f"{number}{ending}").write_bytes(text)

    return make


def lone(name: str, content: bytes) -> Make:
    return lambda folder, number: (folder / f"{number}{name}").write_bytes(content) and None


def table(kind: str, *said: str | float | None) -> Make:
    """A table of its own picture, said so often, and of one that is not there."""

    def make(folder: Path, number: int) -> None:
        (folder / f"{number}.png").write_bytes(SOUND(number))
        names = [f"{number}.png"] * len(said) + ["none.png"]
        if kind == "parquet":
            rows = pa.table(
                {"file_name": names, "text": [None if one is None else str(one) for one in (*said, "x")]}
            )
            pq.write_table(rows, folder / f"metadata{number}.parquet")
        else:
            lines = [
                json.dumps({"file_name": name, "text": one})
                for name, one in zip(names, (*said, "x"), strict=True)
            ]
            (folder / f"metadata{number}.jsonl").write_text("\n".join([*lines, "{"]))

    return make


def shard(cut: int = 0) -> Make:
    def make(folder: Path, number: int) -> None:
        files = {
            "a.png": SOUND(number),
            "a.txt": b"a ball",
            "b.png": GREY,
            "c.txt": b"x",
            "d.png": b"",
            "d.txt": b"y",
        }
        content = tar_bytes(files, "w")
        (folder / f"{number}.tar").write_bytes(content[: len(content) - cut])

    return make


def strange(folder: Path, number: int) -> None:
    os.mkfifo(folder / f"{number}.png")
    (folder / f"{number}.linked").symlink_to(folder)
    (folder / os.fsdecode(b"\xff%d.png" % number)).write_bytes(SOUND(number))


THINGS: dict[str, Make] = {
    "sound": pair(".txt", b"a ball"),
    "named after its picture": pair(".png.caption", b"a cup\n\na cup of tea"),
    "in a document": pair(".json", b'{"caption": ["a", "b"], "style": "flat"}'),
    "the same as others": pair(".txt", b"a grey ball", GREY),
    "broken": pair(".txt", b"a ball", b"no picture"),
    "latin": pair(".txt", b"gr\xfcn"),
    "empty text": pair(".txt", b"\n"),
    "no words": pair(".txt", b"!!!"),
    "no text": lone(".png", GREY),
    "drawn": pair(".svg", svg().encode()),
    "broken drawing": lone(".svg", b"<svg"),
    "text alone": lone(".txt", b"of nothing"),
    "something else": lone(".md", b"# x"),
    "no table": lone(".csv", b"a,b\n1,2"),
    "a table": table("jsonl", "a ball", "a cup"),
    "a table of nothing": table("jsonl", None),
    "a table twice and wrong": table("jsonl", "a \ud800", "a cup"),
    "parquet": table("parquet", "a ball"),
    "shard": shard(),
    "cut shard": shard(3000),
    "stray archive": lone(".tar", tar_bytes({"x.py": b""}, "w")),
    "strange": strange,
}


def inline(called: Contained, *arguments: Any, seconds: int) -> Any:
    """A contained function, here: to start processes takes long."""
    module, name = called._served[0].split(":")
    return getattr(importlib.import_module(module), name)(*arguments)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(sorted(THINGS)), min_size=1, max_size=9))
def test_all_that_lies_in_a_folder_is_kept_read_or_listed_and_the_sums_add_up(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Contained, "__call__", inline)
        source, out = Path(place) / "source", Path(place) / "out"
        source.mkdir()
        for number, name in enumerate(names):
            THINGS[name](source, number)
        try:
            for _ in build_folder(source, out, size=32):
                pass
        except DataError as error:
            ending = str(error)
        else:
            ending = "done"
        if ending != "done":
            assert re.search(r"no picture is left of \d+: \d|holds no pictures", ending), ending
            return
        rows = pq.read_table(out / "manifest.parquet").to_pylist()
        listed = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
        counts = [int(number) for number in re.findall(r"\d+", outcome.summary(out)[0])[:3]]
        assert counts == [len(rows) + len(listed), len(rows), len(listed)]
        told = (re.match(r"  (\d+) ", line) for line in outcome.summary(out)[1:])
        assert sum(int(one[1]) for one in told if one) == len(listed)
        card = (out / "CARD.md").read_text().split("## Dropped")[1]
        found, *reasons = map(int, re.findall(r"\d+", card.split("| folder |")[1].splitlines()[0]))
        assert (found, sum(reasons)) == (len(rows) + len(listed), len(listed))
        keys = Counter([row["key"] for row in rows] + [row["key"] for row in listed])
        for path in source.iterdir():
            name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
            if path.suffix in (".png", ".svg", ".md", ".linked", ".csv"):
                assert keys[name] == 1, (names, name, keys)
        assert not {row["key"] for row in rows} & {row["key"] for row in listed}
