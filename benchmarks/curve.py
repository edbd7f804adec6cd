"""Draws how the figures of a bundle grew with the pictures that its decoder saw.

    unclip evaluate BUNDLE --data CORPUS --judge JUDGE --only pictures --captions 200 --languages en --out OUT
    python benchmarks/curve.py [--more] NAME:PICTURES:OUT...

Each argument is a stage of the training: what it is called, how many pictures the decoder had seen by then
(earlier stages included), and the folder of its evaluation. The same judge, captions and seed are asked for.
With --more they come after the stages that the result file holds. Writes `benchmarks/results/curve.json`,
and `docs/images/curve.svg` with `docs/images/curve-frechet.svg`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chart import Place, Series, chart

from unclip.evaluate.pictures import DISTANCE_RATIO, RECALL, STYLED
from unclip.runtime import atomic_path

ROOT = Path(__file__).parent.parent
RESULT, IMAGES = ROOT / "benchmarks/results/curve.json", ROOT / "docs/images"
RATIO = f"{RECALL}, drawn / real"
MEMORISED = "memorised, by judge's features"
SHARES = (
    (RATIO, "unseen-pairs", "", "judge R@1, drawn / real, unseen pairs"),
    (RATIO, "unseen-concepts", "", "judge R@1, drawn / real, unseen concepts"),
    (MEMORISED, "unseen-pairs", "drawn", "memorised, unseen pairs"),
)
DISTANCES = (
    (DISTANCE_RATIO, "unseen-pairs", "drawn", "Frechet distance, drawn / real, unseen pairs"),
    (DISTANCE_RATIO, "unseen-concepts", "drawn", "Frechet distance, drawn / real, unseen concepts"),
)
SAME = ("judge", "seed", "captions", "styles_in_prompts")  # of evaluations that can be compared
KEPT = ("value", "low", "high", "count", "interval")

Wanted = tuple[str, str, str, str]  # figure, split, variant, and what it is called here


def stage(text: str) -> dict[str, Any]:
    """An argument, with the report that it names."""
    try:
        name, pictures, folder = text.split(":", 2)
        report = json.loads((Path(folder) / "evaluation.json").read_text())
        return {"name": name, "pictures": int(pictures), "report": report}
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"{text}: give NAME:PICTURES:FOLDER of an evaluation: {error}"
        ) from error


def figures(report: dict[str, Any], wanted: Sequence[Wanted]) -> dict[str, dict[str, Any]]:
    """The wanted figures of a report that it has, in its first language.

    They are of prompts that say the style: older reports have no others.
    """
    found = {}
    both = any(one["variant"] == STYLED for one in report["figures"])
    for name, split, variant, title in wanted:
        for one in report["figures"]:
            if (one["name"], one["split"], one["variant"]) == (name, split, STYLED if both else variant):
                found.setdefault(title, {key: one[key] for key in KEPT})
    return found


def drawing(stages: Sequence[dict[str, Any]], wanted: Sequence[Wanted], label: str) -> str:
    """A chart with one line for each figure."""
    series = [
        Series(
            title,
            [
                Place(one["pictures"] / 1000, one["figures"][title]["value"], one["name"])
                for one in stages
                if title in one["figures"]
            ],
        )
        for *_, title in wanted
    ]
    return chart([one for one in series if one.places], "thousand pictures that the decoder saw", label)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stages", nargs="+", metavar="NAME:PICTURES:OUT", type=stage)
    parser.add_argument("--more", action="store_true", help="go on from what --out holds")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--images", type=Path, default=IMAGES)
    arguments = parser.parse_args(given)
    held = json.loads(arguments.out.read_text()) if arguments.more else arguments.stages[0]["report"]
    stages = held["stages"] if arguments.more else []
    alike = {key: held[key] for key in SAME}
    for one in arguments.stages:
        if (found := {key: one["report"][key] for key in SAME}) != alike:
            parser.error(f"{one['name']} was measured otherwise: {found}, the first one {alike}")
        stages.append(
            {
                "name": one["name"],
                "pictures": one["pictures"],
                "bundle": one["report"]["bundle"],
                "figures": figures(one["report"], (*SHARES, *DISTANCES)),
            }
        )
    for path, text in (
        (arguments.out, json.dumps({**alike, "stages": stages}, indent=1) + "\n"),
        (arguments.images / "curve.svg", drawing(stages, SHARES, "share")),
        (arguments.images / "curve-frechet.svg", drawing(stages, DISTANCES, "ratio")),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
