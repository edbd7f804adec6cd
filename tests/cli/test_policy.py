"""Promises of `--policy` on the command line: refused before anything is loaded, withheld and named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from unclip import cli
from unclip.policy import guard as guards
from unclip.policy.pictures import PictureRules
from unclip.policy.policy import Policy


class Every:
    """Takes each picture, from the nth on, for what is not allowed."""

    def __init__(self, first: int) -> None:
        self.first, self.seen = first, 0

    def found(self, image: Image.Image) -> bool:
        self.seen += 1
        return self.seen > self.first


def refusing(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    rules = PictureRules({"nudity": Every(first)})
    monkeypatch.setattr(guards.Guard, "pictures", property(lambda self: rules))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", ["generate", "edit", "restyle", "outpaint"])
def test_a_refused_prompt_ends_with_code_3_before_anything_is_loaded(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    words = {
        "generate": ["a naked woman"],
        "edit": ["a.png", "a naked woman"],
        "restyle": ["a.png", "--to", "a naked woman"],
        "outpaint": ["a.png", "a naked woman", "--left", "8"],
    }[verb]
    # a bundle that is not there would be an error of its own
    assert cli.main([verb, "--model", "nowhere", "--policy", "midjourney", *words]) == 3
    said = capsys.readouterr().err
    assert "sexual content" in said
    assert "naked" not in said


def test_a_refused_picture_ends_with_code_3_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing(monkeypatch, 0)
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "a.png")
    assert cli.main(["vary", "--model", "nowhere", "--policy", "midjourney", "a.png"]) == 3
    assert "the picture shows nudity" in capsys.readouterr().err


def test_one_of_two_is_withheld_and_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing(monkeypatch, 1)
    asked = ["generate", "--model", str(tiny_bundle), "--policy", "midjourney", "--size", "64", "--json"]
    assert cli.main([*asked, "a red apple", "--n", "2", "--seed", "1"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [picture["index"] for picture in document["pictures"]] == [0]
    assert [one["index"] for one in document["withheld"]] == [1]
    assert "picture 1 of seed 1 is withheld: it shows nudity" in said.err
    assert len(list(Path().glob("*.png"))) == 1


def test_where_all_are_withheld_the_code_is_3_and_nothing_is_written(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, 0)
    asked = ["generate", "--model", str(tiny_bundle), "--policy", "midjourney", "--size", "64"]
    assert cli.main([*asked, "a red apple", "--seed", "1"]) == 3
    assert not list(Path().glob("*.png"))


def test_a_translation_is_looked_at_as_well(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["generate", "--model", str(tiny_bundle), "--policy", "midjourney", "--size", "64"]
    assert cli.main([*asked, "einerlei", "--translate", "sed s/einerlei/corpse/", "--seed", "1"]) == 3
    assert "gore" in capsys.readouterr().err


def test_the_policy_of_a_bundle_holds_where_none_is_chosen(tiny_bundle_copy: Path) -> None:
    path = tiny_bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"policy": "midjourney"}))
    asked = ["generate", "--model", str(tiny_bundle_copy), "--size", "64", "--seed", "1", "a corpse"]
    assert cli.main(asked) == 3
    assert cli.main([*asked, "--policy", "none"]) == 0


def test_without_a_policy_nothing_of_it_is_read(tiny_bundle: Path) -> None:
    script = (
        "import sys\nfrom unclip import cli\n"
        f"code = cli.main(['generate', '--model', {str(tiny_bundle)!r}, '--size', '64', 'a red apple'])\n"
        "assert code == 0\n"
        "READ = ('unclip.policy.guard', 'unclip.policy.terms', 'unclip.policy.detectors', 'onnx')\n"
        "assert not [name for name in sys.modules if name.startswith(READ)]\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_presets_are_what_the_command_line_offers() -> None:
    for name in ("dalle2", "midjourney", "none"):
        assert Policy.named(name).description
