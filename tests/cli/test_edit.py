"""Promises of the verbs that change pictures: files, documents, refusals in one line."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from support.pictures import holed
from unclip import cli
from unclip.images import read_metadata, read_source_type
from unclip.runtime import sha256
from unclip.xmp import SourceType

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def _among_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (48, 48), (200, 30, 40)).save("a.png")
    Image.new("RGB", (48, 64), (20, 30, 200)).save("b.png")
    Image.new("RGB", (48, 48)).save(
        "moving.gif", save_all=True, append_images=[Image.new("RGB", (48, 48), "white")]
    )
    Path("text.png").write_text("not a picture")


@pytest.fixture
def run(tiny_bundle: Path) -> Run:
    """A verb, with the tiny bundle, at few steps; returns the exit code."""

    def run(verb: str, *arguments: str) -> int:
        common = ["--model", str(tiny_bundle), "--steps", "4", "--size", "64"]
        return cli.main([verb, *arguments, *common])

    return run


def header_of_168_megapixels() -> bytes:
    """A PNG that says so, and has no pixel."""
    header = struct.pack(">IIBBBBB", 14_000, 12_000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), (b"IDAT", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_variations_are_named_after_their_picture(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vary", "a.png", "--n", "2", "--seed", "1", "--strength", "0.9") == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"a-varied-seed1-{index}.png" for index in (0, 1)]
    assert "inversion" in said.err
    found = read_metadata("a-varied-seed1-1.png")
    assert (found["operation"], found["source"]) == ("vary", f"sha256:{sha256('a.png')}")
    with Image.open("a-varied-seed1-0.png") as image:
        assert image.size == (64, 64)


def test_one_network_at_a_time_changes_nothing(run: Run) -> None:
    holed(48, 48, (0, 0, 24, 48)).save("mask.png")
    verbs = {
        "vary": ("a.png",),
        "blend": ("a.png", "b.png", "--weights", "1,1"),
        "restyle": ("a.png", "--to", "a green apple"),
        "edit": ("a.png", "--mask", "mask.png", "a red apple"),
        "generate": ("a red apple", "--init", "a.png", "--strength", "0.5"),
    }
    for verb, arguments in verbs.items():
        for folder, option in (("all", ()), ("one", ("--offload",))):
            out = f"{verb}-{folder}.png"
            assert run(verb, *arguments, "--seed", "1", "--fit", "stretch", "--out", out, *option) == 0
        assert Path(f"{verb}-all.png").read_bytes() == Path(f"{verb}-one.png").read_bytes()


def test_one_document_tells_of_variations(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vary", "a.png", "--strength", "0.5", "--json", "--out", "new/") == 0
    document = json.loads(capsys.readouterr().out)
    (picture,) = document["pictures"]
    assert Path(picture["path"]).is_file()
    assert picture["settings"]["strength"] == 0.5
    stages = list(document["seconds"])
    assert (stages[:2], stages[-2:]) == (["import", "load"], ["files", "total"])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("moving.gif", "moving.gif is animated"),
        ("text.png", "text.png is not a picture"),
        ("none.png", "no such file"),
    ],
)
def test_what_is_no_single_picture_is_refused_in_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], file: str, message: str
) -> None:
    assert run("vary", file) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last


def test_frames_of_a_blend_are_files_or_one_file(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("blend", "a.png", "b.png", "--frames", "3", "--seed", "1") == 0
    assert capsys.readouterr().out.splitlines() == [f"a-b-seed1-{frame}.png" for frame in range(3)]
    before = set(Path().iterdir())
    assert run("blend", "a.png", "b.png", "--frames", "3", "--gif", "way.gif", "--sheet", "way.png") == 0
    assert capsys.readouterr().out.splitlines() == ["way.gif", "way.png"]
    assert {path.name for path in set(Path().iterdir()) - before} == {"way.gif", "way.png"}
    with Image.open("way.gif") as image:
        assert getattr(image, "n_frames", 1) == 3


def test_restyled_pictures_are_named_after_the_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("restyle", "a.png", "--from", "a red apple", "--to", "a green apple", "--seed", "1") == 0
    assert capsys.readouterr().out == "a-a-green-apple-seed1-0.png\n"
    assert read_metadata("a-a-green-apple-seed1-0.png")["operation"] == "restyle"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.png",), "1 pictures to blend"),
        (("a.png", "b.png", "--weights", "1,x"), "give numbers"),
        (("a.png", "b.png", "--start", "random"), "choose slerp, fixed"),
        (("a.png", "b.png", "--gif", "way.png"), "ends in .gif"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_in_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run("blend", *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_an_edit_changes_what_its_mask_shows_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    holed(48, 48, (0, 0, 24, 48)).save("mask.png")
    assert run("edit", "a.png", "--mask", "mask.png", "a red apple", "--seed", "1") == 0
    assert capsys.readouterr().out == "a-red-apple-seed1-0.png\n"
    with Image.open("a-red-apple-seed1-0.png") as image:
        assert image.size == (64, 64)
        assert image.crop((32, 0, 64, 64)).getcolors() == [(32 * 64, (200, 30, 40))]
        assert len(image.crop((0, 0, 32, 64)).getcolors(5000)) > 9
    assert read_metadata("a-red-apple-seed1-0.png")["mask"] == f"sha256:{sha256('mask.png')}"


def test_a_picture_is_extended_and_the_document_tells_of_its_seam(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run("outpaint", "b.png", "a red apple", "--right", "40", "--top", "9", "--seed", "1", "--json") == 0
    )
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    assert picture["path"] == "a-red-apple-seed1-0.png"
    assert float(picture["settings"]["seam_outside"]) == 0  # one colour was kept
    with Image.open(picture["path"]) as image:
        assert image.size == (88, 73)
        assert image.crop((0, 9, 48, 73)).getcolors() == [(48 * 64, (20, 30, 200))]


@pytest.mark.parametrize("verb", ["edit", "outpaint"])
def test_what_is_drawn_in_takes_the_prior_that_is_asked_for(
    run: Run, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    mask = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
    mask.save("mask.png")
    where = ("--mask", "mask.png") if verb == "edit" else ("--left", "16")
    drawn = {}
    for prior in ("diffusion", "none"):
        out = f"{prior}.png"
        assert run(verb, "a.png", "a red apple", *where, "--seed", "1", "--prior", prior, "--out", out) == 0
        assert read_metadata(out)["prior"] == prior
        with Image.open(out) as image:
            drawn[prior] = image.tobytes()
    assert drawn["diffusion"] != drawn["none"]
    for prior, message in (("ar", "choose diffusion, none"), ("x", "choose diffusion, ar, none")):
        assert run(verb, "a.png", "a red apple", *where, "--prior", prior) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_picture_is_drawn_from_its_components(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("basis").mkdir()
    for level in range(6):
        Image.new("RGB", (32, 32), (40 * level, 90, 250 - 40 * level)).save(f"basis/{level}.png")
    basis = ("--basis", "basis", "--seed", "1")
    assert run("reconstruct", "a.png", "--components", "1,3", *basis) == 0
    assert capsys.readouterr().out.splitlines() == [f"a-reconstructed-seed1-{k}.png" for k in (0, 1)]
    assert read_metadata("a-reconstructed-seed1-1.png")["components"] == "3"
    assert run("reconstruct", "a.png", "--components", "1,x", *basis) == 2
    assert "components '1,x': give numbers" in capsys.readouterr().err


def test_a_picture_to_start_from_comes_back_at_zero_strength(run: Run) -> None:
    assert run("generate", "a red apple", "--init", "a.png", "--strength", "0", "--out", "same.png") == 0
    with Image.open("same.png") as image:
        assert image.getcolors() == [(64 * 64, (200, 30, 40))]
    assert read_metadata("same.png")["source"] == f"sha256:{sha256('a.png')}"


@pytest.mark.parametrize("file", ["moving.gif", "text.png", "huge.png", "none.png"])
@pytest.mark.parametrize("verb", ["outpaint", "reconstruct", "generate"])
def test_no_verb_takes_what_is_no_single_picture(
    run: Run, capsys: pytest.CaptureFixture[str], verb: str, file: str
) -> None:
    Path("huge.png").write_bytes(header_of_168_megapixels())
    arguments = {
        "outpaint": (file, "a red apple", "--left", "9"),
        "reconstruct": (file, "--basis", "."),
        "generate": ("a red apple", "--init", file),
    }[verb]
    assert run(verb, *arguments) == 2
    said = {
        "moving.gif": "is animated",
        "text.png": "is not a picture",
        "huge.png": "more than 50 megapixels",
        "none.png": "no such file",
    }[file]
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.png", "--mask", "b.png", "an apple"), "the mask has 48 x 64 pixels"),
        (("a.png", "--mask", "a.png", "an apple"), "the mask is opaque everywhere"),
        (("moving.gif", "an apple"), "is animated"),
        (("text.png", "an apple"), "is not a picture"),
        (("huge.png", "an apple"), "more than 50 megapixels"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_in_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("huge.png").write_bytes(header_of_168_megapixels())
    assert run("edit", *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_what_is_removed_is_filled_and_no_model_is_said_to_have_drawn_it(tiny_bundle: Path) -> None:
    Image.new("RGB", (90, 70), (200, 30, 40)).save("photo.png")
    holed(90, 70, (30, 20, 50, 40)).save("mask.png")
    arguments = ["edit", "photo.png", "--mask", "mask.png", "--model", str(tiny_bundle), "--seed", "1"]
    assert cli.main([*arguments, "--remove", "--feather", "4"]) == 0
    (path,) = Path().glob("photo-removed*.png")
    assert Image.open(path).convert("RGB").getcolors() == [(90 * 70, (200, 30, 40))]
    assert read_source_type(path) == SourceType.ALTERED
    assert read_metadata(path)["operation"] == "remove"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "a cat"], "give either a text, which says what to draw, or --remove"),
        ([], "give either a text, which says what to draw, or --remove"),
        ([""], "say what to draw, or --remove what is masked"),
        (["a cat", "--feather", "soft"], "feather is 'soft': give from 0 to 512 pixels, or 'mask'"),
        (["--remove", "--guidance", "3"], "guidance means nothing where a thing is removed"),
    ],
)
def test_edits_that_contradict_themselves_are_refused(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    holed(48, 48, (10, 10, 20, 20)).save("mask.png")
    common = ["edit", "a.png", "--mask", "mask.png", "--model", str(tiny_bundle)]
    assert cli.main([*common, *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_outpaint_says_how_many_tiles_it_will_draw(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["outpaint", "a.png", "a cat", "--right", "60", "--size", "64", "--steps", "3"]
    assert cli.main([*arguments, "--model", str(tiny_bundle), "--seed", "1"]) == 0
    assert "3 tiles to draw" in capsys.readouterr().err
