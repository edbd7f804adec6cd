"""Sweeps the guidance of bundles and draws fidelity against diversity, as figure 10 of 2204.06125 does.

    python benchmarks/guidance.py CORPUS JUDGE BUNDLE... [--captions 100] [--pictures 4]

Of unCLIP and GLIDE the scale of classifier-free guidance is swept, of a GLIDE with a noised CLIP that one's
scale too, of an ADM with a classifier the classifier's. Fidelity is the share of pictures that the judge
knows for what was asked (docs/evaluation.md), diversity the mean distance between pictures of one caption or
class. Held-out pictures (`unseen-pairs`) say what is drawn. Writes `benchmarks/results/guidance.json` and
`docs/images/guidance.svg`; bundles that were measured before and are not named now stay in both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from chart import Place, Series, chart

import unclip
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import InputError
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.guidance import captioned, classed, sweep
from unclip.evaluate.sample import languages_of, take
from unclip.model import Model, load
from unclip.runtime import pick_device, pick_precision
from unclip.stages.captioned import CLIP
from unclip.stages.classed import CLASSIFIER
from unclip.train.labelled import ClassBy

ROOT = Path(__file__).parent.parent
RESULT, FIGURE = ROOT / "benchmarks/results/guidance.json", ROOT / "docs/images/guidance.svg"
FREE = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # 1 is none
GRADIENT = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # 0 is none

Result = TypeVar("Result")


def scales_of(model: Model) -> dict[str, tuple[float, ...]]:
    """The options of a bundle that are swept, with the scales."""
    if model.bundle.family == "adm":
        if CLASSIFIER not in model.bundle.components:
            raise InputError(f"{model.bundle.name} has no classifier: there is no guidance to sweep")
        return {"guidance": GRADIENT}
    return {"guidance": FREE} | ({"clip_guidance": GRADIENT} if CLIP in model.bundle.components else {})


def told(work: Generator[Step, None, Result]) -> Result:
    """Do a piece of work to its end, telling of it on stderr."""
    while True:
        try:
            label, done, total = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        print(f"\r{label}: {done} of {total}\033[K", end="", file=sys.stderr)


def column_of(model: Model, train: Corpus) -> str:
    """The column of the corpus that holds the classes of a bundle."""
    labels = set(model.bundle.config("adm").labels)
    for column in ClassBy:
        if labels and labels <= set(train.column(column)):
            return column
    raise InputError(f"no column of {train.folder} has the classes of {model.bundle.name}")


def measure(
    source: str, data: Path, judge: Encoder, captions: int, pictures: int, seed: int
) -> list[dict[str, Any]]:
    """All curves of a bundle."""
    model = load(source)
    held_out = Corpus(data, Split.UNSEEN_PAIRS)
    if model.bundle.family == "adm":
        train = Corpus(data)
        asked = told(classed(judge, train, held_out, column_of(model, train), captions, seed))
    else:
        language = languages_of(held_out)[0]
        asked = captioned(
            judge, take(held_out, captions, [language], style=True, seed=seed), language, captions, seed
        )
    about = {
        "bundle": model.bundle.name,
        "weights": model.bundle.identity,
        "family": model.bundle.family,
        "prompts": len(asked.prompts),
        "pictures": pictures,
        "seed": seed,
        "judge": judge.name,
        "judge_weights": judge.weights,
        "version": unclip.__version__,
    }
    curves: list[dict[str, Any]] = []
    for option, scales in scales_of(model).items():
        points = told(sweep(model, judge, asked, option, scales, pictures, seed))
        curves.append({**about, "option": option, "points": [asdict(point) for point in points]})
    return curves


def figure(curves: Sequence[dict[str, Any]]) -> str:
    """The curves as SVG: diversity to the right, fidelity upwards, the scale beside each point."""
    series = [
        Series(
            f"{curve['bundle']}, {curve['option'].replace('_', ' ')}",
            [Place(p["variety"]["value"], p["right"]["value"], f"{p['scale']:g}") for p in curve["points"]],
        )
        for curve in curves
    ]
    return chart(series, "diversity", "known to the judge", highest=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder that `unclip data` made")
    parser.add_argument("judge", help="folder of a run of `unclip train judge`")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="names or folders")
    parser.add_argument("--captions", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=4, help="of each caption, 2 or more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    device = pick_device()
    judge = Encoder.load(arguments.judge, device, pick_precision(device))
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    curves = {(curve["bundle"], curve["option"]): curve for curve in known}
    for source in arguments.bundles:
        for curve in measure(
            source, arguments.corpus, judge, arguments.captions, arguments.pictures, arguments.seed
        ):
            curves[curve["bundle"], curve["option"]] = curve
            for point in curve["points"]:
                figures = {name: round(point[name]["value"], 3) for name in ("right", "variety")}
                print(curve["bundle"], curve["option"], point["scale"], figures)
            arguments.out.write_text(json.dumps(list(curves.values()), indent=1) + "\n")
    arguments.figure.write_text(figure(list(curves.values())))


if __name__ == "__main__":
    main()
