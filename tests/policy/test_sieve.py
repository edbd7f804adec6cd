"""The promise that what a policy refuses to draw is not trained on either."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from support.planted import captioned
from unclip.cli import main
from unclip.data.corpus import Corpus
from unclip.policy import Policy
from unclip.policy.guard import Guard
from unclip.policy.pictures import PictureRules
from unclip.policy.sieve import Sieve


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
