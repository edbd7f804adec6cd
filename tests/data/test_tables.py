"""The promise that tables of captions are read as other tools write them, and bad rows are named."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.folders import pictures, read
from support.packages import ellipse, svg
from unclip.data import folder, tables
from unclip.data.folder import read_folder
from unclip.errors import DataError

ROWS = [("img/a.png", "a red ball"), ("img/b.png", "a blue ball")]


def write_csv(
    path: Path, rows: Iterable[Iterable[str]], separator: str = ",", encoding: str = "utf-8"
) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_tables(pairs: Path, tmp_path: Path, kind: str) -> None:
    if kind == "jsonl":
        rows = [
            {
                "file_name": "deep/red.png",
                "text": "a red ball",
                "tags": ["round"],
                "style": "3d",
                "author": "me",
            },
            {"file_name": "deep/blue.png", "captions": {"de": "ein blauer Ball", "ko": ["파란 공", "공"]}},
            {"file_name": "no-text.png", "caption": ["a gray ball", "a ball"], "license": "MIT"},
        ]
        (pairs / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        (pairs / "metadata.csv").write_text(
            "file_name,text,style,author,license\n"
            'deep/red.png,a red ball,3d,me,\nno-text.png,"a gray ball",,,MIT\n'
        )
    found = {drawing.key: drawing for drawing in read_folder(pairs)}
    assert found["deep/red.png"].captions["en"][0] == "a red ball"
    assert (found["deep/red.png"].style, found["deep/red.png"].author) == ("3d", "me")
    assert found["no-text.png"].licence == "MIT"
    if kind == "jsonl":
        assert found["deep/red.png"].captions == {"en": ["a red ball", "round"]}
        assert found["deep/blue.png"].captions == {"de": ["ein blauer Ball"], "ko": ["파란 공", "공"]}
        assert found["deep/blue.png"].concept == "ein-blauer-ball"
        assert found["no-text.png"].names == ("a ball",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "../secret.png", "text": "x"}', "outside of the folder"),
        ('{"file_name": "/etc/secret.png", "text": "x"}', "outside of the folder"),
        ('{"file_name": "nowhere.png", "text": "x"}', "no picture nowhere.png"),
        ('{"text": "x"}', "no file_name"),
        ("[1]", "no JSON object"),
        ("{", "is no JSON"),
    ],
)
def test_a_bad_row_is_named(pairs: Path, line: str, message: str) -> None:
    (pairs / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_folder(pairs))


@pytest.mark.parametrize(
    ("head", "separator", "encoding"),
    [
        (("file_name", "text"), ",", "utf-16"),
        (("filepath", "title"), "\t", "utf-8"),
        (("filename", "caption"), ";", "utf-8-sig"),
        (("image_name", " comment"), "|", "utf-8"),
        (("URL", "TEXT"), ",", "utf-8"),
        (("Image Path", "Prompt"), ",", "utf-8"),
    ],
)
def test_tables_of_other_tools(tmp_path: Path, head: tuple[str, str], separator: str, encoding: str) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    write_csv(tmp_path / "metadata.csv", [head, *ROWS], separator, encoding)
    assert {key: one.captions["en"][0] for key, one in read(tmp_path)[0].items()} == dict(ROWS)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("meta_cap.json", {"a": {"caption": "a red ball"}, "b": {"tags": "a blue ball"}}),
        ("captions.json", {"a.png": "a red ball", "b.png": ["a blue ball"]}),
        ("rows.json", [{"image": "a.png", "text": "a red ball"}, {"image": "b.png", "text": "a blue ball"}]),
        (
            "captions_train.json",
            {
                "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
                "annotations": [
                    {"image_id": 1, "caption": "a red ball"},
                    {"image_id": 2, "caption": "a blue ball"},
                ],
            },
        ),
    ],
)
def test_documents_of_other_tools(tmp_path: Path, name: str, document: Any) -> None:
    (pictures(tmp_path, "img/a.png", "img/b.png") / name).write_text(json.dumps(document))
    assert {key: one.captions["en"][0] for key, one in read(tmp_path)[0].items()} == dict(ROWS)


def test_tables_lie_where_their_pictures_lie(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    rows = [{"file_name": Path(name).name, "text": text} for name, text in ROWS]
    (tmp_path / "img" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert set(read(tmp_path)[0]) == {"img/a.png", "img/b.png"}


def test_several_rows_of_a_picture_are_several_captions(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    write_csv(tmp_path / "captions.txt", [("image", "caption"), *ROWS, ("img/a.png", "a ball"), ROWS[0]])
    found = read(tmp_path)[0]["img/a.png"]
    assert (found.captions, found.names) == ({"en": ["a red ball"]}, ("a ball",))


def test_rows_that_cannot_be_used_are_listed_and_the_others_are_read(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    lines = [
        *(json.dumps({"file_name": name, "text": text}) for name, text in ROWS),
        '{"file_name": "img/none.png", "text": "x"}',
        '{"file_name": "../a.png", "text": "x"}',
        '{"file_name": ["img/a.png"], "text": "x"}',
        '{"file_name": "img/a.png", "text": "a \\ud800 b"}',
        "[" * 100_000,
        "[1]",
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found, left_out = read(tmp_path)
    assert set(found) == {"img/a.png", "img/b.png"}
    places = [left.key.removeprefix("metadata.jsonl, ") for left in left_out]
    assert places == [f"line {number}" for number in (7, 8, 3, 4, 5, 6)]
    assert {left.reason for left in left_out} == {
        "row without a picture",
        "unreadable row",
        "unreadable caption",
    }


def test_columns_that_are_not_known_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    write_csv(tmp_path / "metadata.csv", [("path", "what"), *ROWS])
    found, left_out = read(tmp_path)
    assert not found
    assert "its columns are path, what" in left_out[0].detail
    assert "--caption-column" in left_out[0].detail
    assert set(read(tmp_path, caption_column="What")[0]) == {"img/a.png", "img/b.png"}


def test_a_table_of_addresses_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    write_csv(tmp_path / "metadata.csv", [("url", "text"), ("https://example.org/a.png", "a ball")])
    assert "addresses" in read(tmp_path)[1][0].detail


def test_parquet_that_holds_pictures_and_parquet_that_names_them(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    pq.write_table(pa.table({"file_name": [ROWS[0][0]], "text": [ROWS[0][1]]}), tmp_path / "metadata.parquet")
    rows = [
        {"image": {"bytes": ellipse((9, 9, 9)), "path": "x.jpg"}, "caption": ["one", "two"]},
        {"image": {"bytes": None, "path": "y.jpg"}, "caption": ["three"]},
        {"image": {"bytes": svg().encode(), "path": "z.svg"}, "caption": ["four"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found, left_out = read(tmp_path)
    assert set(found) == {"img/a.png", "train/00000000", "train/00000002"}
    assert found["train/00000000"].names == ("two",)
    assert found["train/00000002"].svg == svg()
    assert ("train/00000001", "row without a picture") in {(left.key, left.reason) for left in left_out}


def test_nothing_that_stands_for_nothing_is_a_caption(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(6)))
    said = ("NaN", "-Infinity", "null", "true", '{"en": NaN}', '["a ball", NaN]')
    lines = [f'{{"file_name": "{n}.png", "text": {value}}}' for n, value in enumerate(said)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found, left_out = read(tmp_path)
    assert {key: one.captions for key, one in found.items()} == {"5.png": {"en": ["a ball"]}}
    assert [(left.key, left.reason) for left in left_out] == [
        (f"{n}.png", "unusable caption") for n in range(5)
    ]


def test_a_broken_row_ends_no_table_whatever_it_is_called(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    rows = [json.dumps({"file_name": name, "text": text}) for name, text in ROWS]
    (tmp_path / "mine.jsonl").write_text("\n".join([rows[0], "{", rows[1]]))
    found, left_out = read(tmp_path)
    assert set(found) == {"img/a.png", "img/b.png"}
    assert [(left.key, left.reason) for left in left_out] == [("mine.jsonl, line 2", "unreadable row")]
    (tmp_path / "mine.jsonl").write_text("{\n" * 100)
    assert [(left.key, left.reason) for left in read(tmp_path)[1]][:1] == [
        ("mine.jsonl", "table that cannot be used")
    ]


def test_a_text_beside_a_picture_of_a_table_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, "img/a.png", "img/b.png")
    (tmp_path / "img" / "a.txt").write_text("another ball")
    write_csv(tmp_path / "metadata.csv", [("file_name", "text"), ROWS[0]])
    left_out = {left.key: left.reason for left in read(tmp_path)[1]}
    assert left_out == {
        "img/a.txt": "text of a picture that has a row in a table",
        "img/b.png": "unusable caption",
    }


def test_of_the_rows_of_one_picture_so_many_are_read_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_ROWS", 3)
    pictures(tmp_path, "a.png")
    write_csv(tmp_path / "metadata.csv", [("file_name", "text"), *(("a.png", f"ball {n}") for n in range(9))])
    found, left_out = read(tmp_path)
    assert (found["a.png"].captions, found["a.png"].names) == ({"en": ["ball 0"]}, ("ball 1", "ball 2"))
    assert [left.key for left in left_out] == [f"metadata.csv, row {n}" for n in range(4, 10)]
    monkeypatch.setattr(folder, "MOST_SAID", 20)
    left_out = read(tmp_path)[1]
    assert "more than 20 characters" in left_out[0].detail


LONG = "a" * 300_000
MANY = "[" + "{}," * 5_000_000 + "{}]"


@pytest.mark.parametrize(
    ("name", "content", "reason", "detail"),
    [
        ("metadata.json", MANY, "table that cannot be used", "more than 4,194,304 values"),
        ("metadata.jsonl", MANY, "unreadable row", "more than 4,194,304 values"),
        ("metadata.jsonl", f'{{"file_name": "a.png", "text": "{LONG}"}}', "unreadable row", "262,144"),
        ("metadata.csv", f"file_name,text\na.png,{LONG}", "unreadable row", "field larger than"),
        ("metadata.csv", f"file_name,text\na.png,{LONG[:70_000]}", "unreadable caption", "65,536"),
    ],
)
def test_what_would_fill_the_memory_is_refused(
    tmp_path: Path, name: str, content: str, reason: str, detail: str
) -> None:
    (pictures(tmp_path, "a.png") / name).write_text(content)
    (left,) = [left for left in read(tmp_path)[1] if left.reason != "unusable caption"]
    assert left.reason == reason
    assert detail in left.detail


def test_parquet_is_read_where_it_can_crash_and_fill_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, "a.png", "b.png")
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 200 + [1]), pa.array(["a" * 2 * 10**7, "a ball"]))
    names = ["a.png"] * 200 + ["b.png"]
    pq.write_table(pa.table({"file_name": names, "text": texts}), tmp_path / "metadata.parquet")
    found, left_out = read(tmp_path)
    assert set(found) == {"b.png"}
    assert [left.reason for left in left_out] == ["unreadable row"] * 200 + ["unusable caption"]
    monkeypatch.setattr(tables, "PARQUET_MEMORY", 2**20)
    assert (
        "it ends the process" in read(tmp_path)[1][0].detail or "does not fit" in read(tmp_path)[1][0].detail
    )
