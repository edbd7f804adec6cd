"""Promises of labelled pictures: folders, shards and tables are read alike, and classes get their names."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unclip.data.labelled import (
    LAYOUTS,
    Labelled,
    check_layout,
    class_names,
    open_labelled,
    read_names,
)
from unclip.errors import DataError, InputError
from unclip.images import open_image

PICTURES = [("cat", "red"), ("cat", "blue"), ("hot dog", "green")]


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=["folders", "shards", "tables"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same three pictures in one of the three ways."""
    if request.param == "folders":
        for index, (label, colour) in enumerate(PICTURES):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{index}.png").write_bytes(png(colour))
        (tmp_path / ".cache").mkdir()
        (tmp_path / "cat" / "notes.txt").write_text("no picture")
    elif request.param == "shards":
        with tarfile.open(tmp_path / "part-0.tar", "w") as tar:
            for index, (label, colour) in enumerate(PICTURES):
                other = ("cls", label.encode()) if index else ("json", json.dumps({"label": label}).encode())
                for ending, data in (("png", png(colour)), other):
                    member = tarfile.TarInfo(f"{index:04}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    else:
        rows = [{"image": {"bytes": png(c), "path": None}, "label": label} for label, c in PICTURES]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "part-0.parquet")
    return tmp_path


def test_three_ways_of_one_set_are_read_alike(source: Path) -> None:
    pictures = open_labelled(source)
    assert pictures.keys == ("cat", "hot dog")
    assert pictures.count == 3
    for _ in range(2):  # as often as it is asked for
        read = [(open_image(content).getpixel((0, 0)), place) for content, place in pictures.read()]
        assert read == [((255, 0, 0), 0), ((0, 0, 255), 0), ((0, 128, 0), 1)]
    assert class_names(pictures, None) == {0: "cat", 1: "hot dog"}


def labelled(*keys: str) -> Labelled:
    return Labelled(keys, 0, {}, lambda: iter(()))


def test_numbers_keep_their_order_and_names_come_from_where_they_are(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["zero", "one", "two"]}}}}
    rows = [{"img": png("red"), "label": number} for number in (10, 2, 0)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "a.parquet")
    pictures = open_labelled(tmp_path / "a.parquet")
    assert pictures.keys == ("0", "2", "10")
    assert class_names(pictures, None) == {0: "zero", 1: "two"}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("map.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n", {"n01440764": "tench"}),
        ("map.tsv", "air_freshener\tair freshener\nalarm_clock\tanalog clock, dial\n", {}),
        ("names.txt", "tench\ngreat white shark, big fish\n", {"0": "tench", "1": "great white shark"}),
        (
            "index.json",
            '{"0": ["n01440764", "tiger_shark"]}',
            {"0": "tiger shark", "n01440764": "tiger shark"},
        ),
        ("list.json", '["tench", "goldfish"]', {"0": "tench", "1": "goldfish"}),
    ],
)
def test_files_of_names(tmp_path: Path, name: str, text: str, expected: dict[str, str]) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = read_names(path)
    assert expected.items() <= found.items()
    if name == "map.tsv":
        assert found == {"air_freshener": "air freshener", "alarm_clock": "analog clock"}


def test_classes_without_a_name_are_left_out_and_numbers_are_places_of_synsets() -> None:
    assert class_names(labelled("a", "b"), {"b": "bee", "c": "sea"}) == {1: "bee"}
    synsets = {"n00000002": "two", "n00000001": "one"}
    assert class_names(labelled("0", "1"), synsets) == {0: "one", 1: "two"}
    assert class_names(labelled("n00000002"), synsets) == {0: "two"}
    for keys in (("n00000002",), ("0", "1")):
        with pytest.raises(InputError, match="give their names by a file"):
            class_names(labelled(*keys), None)
    with pytest.raises(InputError, match="no names for the classes a, ...: the file has b"):
        class_names(labelled("a"), {"b": "bee"})


def test_layouts_notice_what_is_missing() -> None:
    synsets = [f"n{number:08}" for number in range(200)]
    for name in ("imagenet-r", "imagenet-a"):
        check_layout(labelled(*synsets), name)
    with pytest.raises(InputError, match="imagenet-r has 200 classes called n01443537; here are 199 classes"):
        check_layout(labelled(*synsets[1:]), "imagenet-r")
    with pytest.raises(InputError, match="one of which is called 'cat'"):
        check_layout(labelled("cat", *synsets[1:]), "imagenet-a")
    check_layout(labelled(*map(str, range(1000))), "imagenet-v2")
    with pytest.raises(InputError, match=f"choose {', '.join(LAYOUTS)}"):
        check_layout(labelled("a"), "imagenet-c")


def test_what_holds_no_labelled_pictures_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_labelled(tmp_path / "gone")
    with pytest.raises(DataError, match="no pictures in folders of classes"):
        open_labelled(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="is neither a folder"):
        open_labelled(tmp_path / "a.txt")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has the columns x: it needs one of image"):
        open_labelled(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(DataError, match="a.parquet cannot be read"):
        open_labelled(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("gone.txt", "deep.json"):
        with pytest.raises(InputError, match="cannot read names"):
            read_names(tmp_path / name)
