"""The promise that text files of any editor are read, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from unclip.cli.lines import read_lines
from unclip.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_are_decoded_by_their_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red apple\n\n빨간 사과\r\n", encoding=encoding)
    assert read_lines(str(tmp_path / "prompts.txt"), "prompts") == ["a red apple", "빨간 사과"]


@pytest.mark.parametrize("content", ["grüner Würfel".encode("cp1252"), b"\xff\xfea"])
def test_what_is_neither_utf_8_nor_utf_16_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"prompts.txt: it is neither UTF-8 nor UTF-16 text"):
        read_lines(str(tmp_path / "prompts.txt"), "prompts")
