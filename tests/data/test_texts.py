"""The promise that a caption is read in its encoding or not at all: none is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.folders import pictures, read


@pytest.mark.parametrize(
    "content",
    [
        "a plüm".encode(),
        b"\xef\xbb\xbf" + "a plüm".encode(),
        "a plüm".encode("utf-16"),
        "\ufeffa plüm".encode("utf-16-be"),
    ],
)
def test_captions_are_utf8_or_utf16_by_its_mark(tmp_path: Path, content: bytes) -> None:
    (pictures(tmp_path, "a.png") / "a.txt").write_bytes(content)
    assert read(tmp_path)[0]["a.png"].captions == {"en": ["a plüm"]}


@pytest.mark.parametrize(
    "content",
    [
        "a plüm".encode("cp1252"),
        "plum".encode("utf-16-le"),
        "a \ufffd".encode(),
        b"a\0b",
        b"\xff\xfea",
        b"a" * 2**21,
    ],
)
def test_captions_that_cannot_be_read_are_listed_and_never_trained_on(tmp_path: Path, content: bytes) -> None:
    (pictures(tmp_path, "a.png", "b.png") / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_text("a ball")
    found, left_out = read(tmp_path)
    assert list(found) == ["b.png"]
    assert [(left.key, left.reason) for left in left_out] == [("a.png", "unreadable caption")]
    assert "a.txt" in left_out[0].detail


@pytest.mark.parametrize("content", ["", "\n\n", "\u200b\u200d", "\ufeff"])
def test_captions_of_which_nothing_is_seen_are_none(tmp_path: Path, content: str) -> None:
    (pictures(tmp_path, "a.png") / "a.txt").write_text(content)
    assert [left.reason for left in read(tmp_path)[1]] == ["unusable caption"]
