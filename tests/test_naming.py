"""Promises of file names: safe, readable, and never over a file of another picture."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unclip.drawing import Picture
from unclip.errors import InputError, UnclipError
from unclip.images import ImageFormat, read_metadata
from unclip.naming import Names, slug

PICTURE = Picture(Image.new("RGB", (8, 8), "red"), "a red apple", 1, 0, 0.5, "tiny", "abc", {"size": "8"})


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A red  apple!", "a-red-apple"),
        ("빨간 사과", "빨간-사과"),
        (unicodedata.normalize("NFD", "빨간 사과"), "빨간-사과"),
        ("ein roter Apfel, groß", "ein-roter-apfel-groß"),
        ("🍎", "red-apple"),
        ("I ❤️ you", "i-heavy-black-heart-you"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\Users\\me", "c-users-me"),
        ("--help", "help"),
        ("con", "picture-con"),
        ("NUL.txt", "picture-nul-txt"),
        ("?*<>|\0\n", "picture"),
        ("हिन्दी", "हिन्दी"),
        ("가" * 100, "가" * 26),
        ("x" * 300, "x" * 80),
    ],
)
def test_prompts_become_readable_safe_names(prompt: str, expected: str) -> None:
    assert slug(prompt) == expected


@settings(max_examples=300)
@given(prompt=st.text(max_size=200))
def test_any_prompt_makes_a_name_that_is_safe_everywhere(prompt: str) -> None:
    name = slug(prompt)
    assert name
    assert len(name.encode()) <= 90
    assert not set(name) & set('/\\:*?"<>|\0 .')
    assert not name.startswith("-")
    assert name.isprintable()
    assert unicodedata.normalize("NFC", name) == name
    assert slug(name) == name or name.startswith("picture-")


def test_our_own_names_say_prompt_seed_and_index() -> None:
    assert Names().write(PICTURE, 1) == Path("a-red-apple-seed1-0.png")
    assert Names(format=ImageFormat.JPEG).write(PICTURE, 1) == Path("a-red-apple-seed1-0.jpg")
    Path("folder").mkdir()
    assert Names("folder").write(PICTURE, 1) == Path("folder/a-red-apple-seed1-0.png")
    assert Names("new/").write(PICTURE, 1) == Path("new/a-red-apple-seed1-0.png")


def test_the_same_picture_is_written_over_itself_and_another_one_is_not() -> None:
    path = Names().write(PICTURE, 1)
    assert Names().write(PICTURE, 1) == path
    shouted = dataclasses.replace(PICTURE, prompt="A RED APPLE", image=Image.new("RGB", (8, 8), "blue"))
    assert Names().write(shouted, 1) == Path("a-red-apple-seed1-0-2.png")
    larger = dataclasses.replace(PICTURE, settings={"size": "16"})
    assert Names().write(larger, 1) == Path("a-red-apple-seed1-0-3.png")
    assert Names().write(shouted, 1) == Path("a-red-apple-seed1-0-2.png")
    assert read_metadata(path)["prompt"] == "a red apple"
    assert len(list(Path().iterdir())) == 3


def test_a_file_that_is_none_of_ours_is_never_replaced() -> None:
    Path("a-red-apple-seed1-0.png").write_text("my thesis")
    assert Names().write(PICTURE, 1) == Path("a-red-apple-seed1-0-2.png")
    assert Path("a-red-apple-seed1-0.png").read_text() == "my thesis"
    Image.new("RGB", (8, 8)).save("a-red-apple-seed1-0.jpg")
    assert Names(format=ImageFormat.JPEG).write(PICTURE, 1) == Path("a-red-apple-seed1-0-2.jpg")


def test_without_metadata_equal_bytes_are_the_same_picture() -> None:
    path = Names().write(PICTURE, 1, metadata=False)
    assert Names().write(PICTURE, 1, metadata=False) == path
    blue = dataclasses.replace(PICTURE, image=Image.new("RGB", (8, 8), "blue"))
    assert Names().write(blue, 1, metadata=False) == Path("a-red-apple-seed1-0-2.png")


def test_a_pattern_is_filled_in_and_its_suffix_is_the_format() -> None:
    assert Names("out/{n:03}-{prompt}-{seed}.{index}.webp").path("A, b", 7, 3, 12) == Path(
        "out/012-a-b-7.3.webp"
    )
    assert Names("v1.5-{n}").path("x", 0, 0, 1) == Path("v1.5-1.png")
    assert Names("v1.5").path("x", 0, 0, 1) == Path("v1.5/x-seed0-0.png")
    assert Names("{prompt}.JPG").format is ImageFormat.JPEG
    Path("apple.png").write_text("old")
    assert Names("apple.png").write(PICTURE, 1) == Path("apple.png")  # so named by its user: replaced
    assert read_metadata("apple.png")["seed"] == "1"


@pytest.mark.parametrize(
    ("pattern", "format", "message"),
    [
        ("{colour}.png", None, "unknown field {colour}"),
        ("{}.png", None, "unknown field {}"),
        ("{prompt.upper}.png", None, "unknown field"),
        ("{prompt.png", None, "cannot be read"),
        ("{seed:x y}.png", None, "no way to write a field, write {seed}"),
        ("{seed:99999999999}.png", None, "no way to write a field"),
        ("{seed:c}.png", None, "no way to write a field"),
        ("{prompt:d}.png", None, "cannot be read"),
        ("{prompt:{n}}.png", None, "no way to write a field"),
        ("{prompt:{colour}}.png", None, "no way to write a field"),
        ("{n!r}.png", None, "no way to write a field"),
        ("apple.gif", None, "unknown picture format"),
        ("apple.png", ImageFormat.JPEG, "choose one"),
    ],
)
def test_wrong_patterns_are_refused(pattern: str, format: ImageFormat | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Names(pattern, format)


def test_our_own_names_say_the_order_of_the_best_of_many() -> None:
    names = Names(ranked=12)
    for rank, index in [(1, 37), (2, 5)]:
        picture = dataclasses.replace(PICTURE, index=index)
        assert names.write(picture, rank) == Path(f"a-red-apple-seed1-best0{rank}-{index}.png")
    other = dataclasses.replace(PICTURE, prompt="a dog")
    assert names.write(other, 3) == Path("a-dog-seed1-best01-0.png")
    assert Names("{rank}-{prompt}").path("a", 1, 7, 9, 2) == Path("2-a.png")


def test_a_folder_that_is_there_has_no_fields_in_its_name() -> None:
    Path("{mine}").mkdir()
    assert Names("{mine}").write(PICTURE, 1) == Path("{mine}/a-red-apple-seed1-0.png")


def test_what_would_fail_after_the_drawing_is_refused_before() -> None:
    two = [("a", 0), ("a", 1)]
    Names().check(two)
    Names("x-{n}").check(two)
    Names("x.png").check([("a", 0)])
    Names().check([("A", 0), ("a", 0)])  # the second gets a number of its own
    with pytest.raises(InputError, match=r"several pictures would be written to x\.png"):
        Names("x.png").check(two)
    with pytest.raises(InputError, match="several pictures"):
        Names("{prompt}.png").check([("A", 0), ("a", 0)])
    with pytest.raises(InputError, match="240 bytes"):
        Names("x" * 300 + ".png").check([("a", 0)])
    Path("file").write_text("")
    with pytest.raises(InputError, match="file is not a folder"):
        Names("file/x.png").check([("a", 0)])
    Path("folder.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        Names("{prompt}.png").check([("folder", 0)])
    assert sorted(os.listdir()) == ["file", "folder.png"]


def test_a_folder_that_cannot_be_written_to_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match="permission denied; choose another folder"):
        Names().check([("a", 0)])


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnclipError, match="cannot write .*no space left on device; make room"):
        Names().write(PICTURE, 1)
    assert os.listdir() == []


def test_of_several_that_write_at_once_none_loses_a_picture() -> None:
    """Each thread writes ten pictures whose names all threads want."""
    together = threading.Barrier(4)

    def write(colour: int) -> None:
        for seed in range(10):
            picture = dataclasses.replace(
                PICTURE,
                image=Image.new("RGB", (8, 8), (colour, seed, 0)),
                prompt="a dog" + "!" * colour,
                seed=seed,
            )
            together.wait()
            Names().write(picture, 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(os.listdir()) == 40
    assert len({path.read_bytes() for path in Path().glob("*.png")}) == 40
