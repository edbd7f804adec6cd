"""The promise that packages are read in place, and that a bad one is named and harms nothing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from support.packages import deb_bytes, tar_bytes
from unclip.data.archives import find, members
from unclip.errors import DataError


def everything(name: str) -> bool:
    return True


def test_npm_and_debian_packages_give_the_same_files(tmp_path: Path) -> None:
    files = {"./usr/a.txt": b"one", "./usr/b.bin": b"two"}
    (tmp_path / "x.tgz").write_bytes(tar_bytes(files))
    (tmp_path / "x.deb").write_bytes(deb_bytes(files))
    expected = [("usr/a.txt", b"one"), ("usr/b.bin", b"two")]
    assert list(members(tmp_path / "x.tgz", everything)) == expected
    assert list(members(tmp_path / "x.deb", everything)) == expected
    assert list(members(tmp_path / "x.deb", lambda name: name.endswith("b.bin"))) == expected[1:]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil"])
def test_a_path_outside_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tgz").write_bytes(tar_bytes({"fine": b"", name: b"evil"}))
    with pytest.raises(DataError, match="outside of itself"):
        list(members(tmp_path / "x.tgz", everything))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tgz"]


def test_links_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        file = tarfile.TarInfo("file")
        file.size = 2
        tar.addfile(file, io.BytesIO(b"ok"))
    assert list(members(tmp_path / "x.tgz", everything)) == [("file", b"ok")]


@pytest.mark.parametrize("name", ["x.tgz", "x.deb"])
@pytest.mark.parametrize("content", [b"", b"no archive at all", b"!<arch>\n"])
def test_what_is_no_archive_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        list(members(tmp_path / name, everything))


@pytest.mark.parametrize("name", ["x.tgz", "x.deb"])
def test_a_cut_off_archive_is_named(tmp_path: Path, name: str) -> None:
    files = {f"file{n}": bytes([n]) * 5000 + name.encode() * n for n in range(20)}
    whole = tar_bytes(files) if name == "x.tgz" else deb_bytes(files)
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=name):
        list(members(tmp_path / name, everything))


def test_an_archive_is_found_by_its_pattern_and_missed_by_name(tmp_path: Path) -> None:
    for name in (
        "iconify-json-noto-1.2.9.tgz",
        "iconify-json-noto-1.3.0.tgz",
        "iconify-json-noto-v1-1.2.5.tgz",
    ):
        (tmp_path / name).touch()
    assert find(tmp_path, "iconify-json-noto-[0-9]*.tgz").name == "iconify-json-noto-1.3.0.tgz"
    with pytest.raises(DataError, match=r"twemoji.*fetch"):
        find(tmp_path, "twemoji-*.tgz")
