"""The promise that packages are read in place, and that a bad one is named and harms nothing."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from pathlib import Path
from random import Random

import pytest

from support.packages import deb_bytes, tar_bytes
from unclip.data import archives
from unclip.data.archives import MEMBER_LIMIT, find, members, samples
from unclip.errors import DataError


def everything(name: str) -> int:
    return MEMBER_LIMIT


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


# --- shards ---


def test_a_cut_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    whole = tar_bytes({f"{n}.txt": bytes([n]) * 700 for n in range(3)}, "w")
    end = whole.rindex(bytes([2])) + 1
    for length in (*range(0, end, 256), end):
        (tmp_path / "x.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match="x.tar"):
            list(samples(tmp_path / "x.tar", everything))


@pytest.mark.parametrize("place", [512, 1024 + 512])
def test_what_is_no_header_is_not_the_end(tmp_path: Path, place: int) -> None:
    whole = bytearray(tar_bytes({f"{n}.txt": b"a" for n in range(4)}, "w"))
    whole[place + 512 : place + 700] = b"?" * 188
    (tmp_path / "x.tar").write_bytes(whole)
    with pytest.raises(DataError, match="x.tar"):
        list(samples(tmp_path / "x.tar", everything))


def header(kind: bytes, size: int, name: str = "a.jpg") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def test_headers_that_attack_are_refused_at_once(tmp_path: Path) -> None:
    extended = bytearray(header(b"S", 100))
    extended[482] = 1  # an old sparse file, of whose map more follows, for ever
    extended[148:156] = b" " * 8
    extended[148:156] = b"%06o\0 " % sum(extended)
    for attack in (
        header(b"x", 2**33) + b"a" * 5000,  # eight gigabytes of names
        header(b"x", 0) * 5000,  # headers of headers of headers
        bytes(extended) + b"\1" * 512,
    ):
        (tmp_path / "x.tar").write_bytes(attack)
        with pytest.raises(DataError, match="x.tar"):
            list(samples(tmp_path / "x.tar", everything))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0.jpg", "0.txt", "1.jpg", "1.txt"], [("0", {".jpg", ".txt"}), ("1", {".jpg", ".txt"})]),
        (
            ["0.input.jpg", "0.edited.jpg", "0.outputs.txt"],
            [("0", {".input.jpg", ".edited.jpg", ".outputs.txt"})],
        ),
        (["0.json", "0.input.jpg", "0.output.txt"], [("0", {".json", ".input.jpg", ".output.txt"})]),
        (
            ["t 2.0 x.jpg", "t 2.0 x.txt", "t 2.1 x.jpg"],
            [("t 2", {".0 x.jpg", ".0 x.txt"}), ("t 2", {".1 x.jpg"})],
        ),
        (["a/0.JPG", "b/0.TXT"], [("a/0", {".jpg"}), ("b/0", {".txt"})]),
        (["0.jpg", "0.jpg"], [("0", {".jpg"}), ("0", {".jpg"})]),
    ],
)
def test_files_become_samples(tmp_path: Path, names: list[str], expected: list[tuple[str, set[str]]]) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    found = samples(tmp_path / "x.tar", everything)
    assert [(key, set(sample)) for key, sample in found] == expected


def test_files_of_one_sample_without_end_are_not_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_bytes({f"v1.{n}.dat{n}": b"" for n in range(200)}, "w"))
    assert max(len(sample) for _, sample in samples(tmp_path / "x.tar", everything)) <= 64


def test_a_file_that_is_too_large_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    large = 256 * 2**20 + 1
    whole = header(b"0", large, "0.jpg") + bytes(-(-large // 512) * 512) + tar_bytes({"1.jpg": b"a"}, "w")
    (tmp_path / "x.tar").write_bytes(whole)
    told: list[str] = []
    found = list(samples(tmp_path / "x.tar", everything, lambda name, why: told.append(f"{name}: {why}")))
    assert found == [("1", {".jpg": b"a"})]
    assert "0.jpg" in told[0]
    with pytest.raises(DataError, match=r"more than 268,435,456"):
        list(samples(tmp_path / "x.tar", everything))


def test_a_sample_of_any_number_of_large_files_is_held_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 1000)
    files = {"0.png": bytes(700), "0.txt": bytes(400), "0.dat": bytes(99_999), "1.png": bytes(700)}
    (tmp_path / "x.tar").write_bytes(tar_bytes(files, "w"))
    told: list[str] = []

    def most(name: str) -> int:
        return 0 if name.endswith(".dat") else 1000

    found = list(samples(tmp_path / "x.tar", most, lambda name, why: told.append(f"{name}: {why}")))
    assert [(key, {ending: len(content) for ending, content in files.items()}) for key, files in found] == [
        ("0", {".png": 700, ".dat": 0}),
        ("1", {".png": 700}),
    ]
    assert told == ["0.txt: x.tar: 0.txt has 400 bytes, more than 300"]


def test_what_unfolds_is_passed_in_time_by_its_length(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(tar_bytes({"0.dat": bytes(2**27), "1.txt": b"a"}, "w:gz"))
    started = time.process_time()
    assert [key for key, _ in samples(tmp_path / "x.tar.gz", lambda name: 0)] == ["0", "1"]
    assert time.process_time() - started < 6


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz"])
def test_of_what_is_cut_anywhere_nothing_is_missing_in_silence(tmp_path: Path, kind: str) -> None:
    random = Random(0)
    files = {f"{n}.jpg": random.randbytes(random.randrange(3000)) for n in range(9)}
    whole = tar_bytes(files, kind)
    for _ in range(50):
        (tmp_path / "x.tar").write_bytes(whole[: random.randrange(len(whole))])
        found: list[str] = []
        try:
            for key, _ in samples(tmp_path / "x.tar", everything):
                found.append(key)
        except DataError:
            continue
        assert len(found) == len(files)  # the cut is behind the last of them


def test_archives_that_are_packed_one_behind_the_other_are_one(tmp_path: Path) -> None:
    whole = tar_bytes({"0.jpg": bytes(5000), "1.jpg": bytes(5000)}, "w")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(whole[:3000]) + gzip.compress(whole[3000:]))
    assert [key for key, _ in samples(tmp_path / "x.tar.gz", everything)] == ["0", "1"]
