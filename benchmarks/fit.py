"""Measures what `unclip fit` makes of a folder in a style that its bundle never saw, and of one thing.

    python benchmarks/fit.py style CORPUS JUDGE WORK [--hours 1] [--pictures 200] [--style openmoji]
    python benchmarks/fit.py thing CORPUS JUDGE WORK [--hours 0.5]

CORPUS is the pictograms corpus, whose split `unseen-styles` nothing was trained on; JUDGE a CLIP that the
bundle did not learn from (benchmarks/judge). In WORK the folder and the fit are made; a fit that is there is
measured as it is.

`style`: pictures of one style, and prompts of other things. Of each drawing, of the bundle and of the fit:
whether most of its five nearest pictures, of as many from each of six styles, are in that style (real
pictures that were not learned from say how often this judge is right); whether the judge finds the thing
among all prompts; and whether it is nearer to a picture that was learned from than those are to each other.

`thing`: twelve pictures of one thing, called "sks cup". Of new colours and places, how often the drawing's
nearest picture, among the twelve and many others, is one of the twelve; of prompts without the name, how
often the judge finds the thing, before and now.

Writes `benchmarks/results/fit.json`, a row a case.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

import unclip
from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.drawing import Options
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.names import frozen
from unclip.evaluate.pictures import closer, shrunk
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import share
from unclip.model import Model
from unclip.runtime import pick_device, pick_precision, processor_name
from unclip.train.fit.fitting import Fit

RESULT = Path(__file__).parent / "results" / "fit.json"
STYLES = 6  # that are told apart
NEAREST = 5  # pictures that have a say
OTHERS = 500  # pictures of other things that the thing is to be told from
SEED = 1
NAME = "sks cup"
LEARNED = (
    *("", "on a red ground", "on a blue ground", "on a green ground", "on a yellow ground"),
    *("small", "large", "on the left", "on the right", "on a grey ground", "at the top", "at the bottom"),
)
NEW = (
    *("in the snow", "on a table", "on the moon", "on grass", "with a heart", "under a tree", "by the sea"),
    *("on an orange ground", "on a purple ground", "on a pink ground", "in black", "in the rain"),
)
GROUNDS = {"red": "#d22", "blue": "#36c", "green": "#3a3", "yellow": "#ec3", "grey": "#999"}

Result = TypeVar("Result")


def told(work: Generator[Step, None, Result]) -> Result:
    """Do a piece of work to its end, telling of it on stderr."""
    while True:
        try:
            label, done, total = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        print(f"\r{label}: {done} of {total}\033[K", end="", file=sys.stderr)


def plain(corpus: Corpus, style: str) -> list[int]:
    """Positions of a style's pictures, without skin tones, mixed in the same way every time."""
    tones = corpus.column("tone")
    found = [k for k, own in enumerate(corpus.column("style")) if own == style and not tones[k]]
    random.Random(0).shuffle(found)
    return found


def write_folder(corpus: Corpus, rows: Sequence[int], folder: Path) -> None:
    """Writes pictures with a text beside each, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        corpus.image(row).save(folder / f"{number:04d}.png")
        (folder / f"{number:04d}.txt").write_text(corpus.name(row), encoding="utf-8")


def write_thing(picture: Image.Image, folder: Path) -> None:
    """Writes twelve pictures of one thing on white, with captions that call it by its made-up name."""
    folder.mkdir(parents=True, exist_ok=True)
    side = picture.width
    for number, said in enumerate(LEARNED):
        ground = next((colour for name, colour in GROUNDS.items() if name in said), "white")
        small = (
            side // 2
            if said in ("small", "on the left", "on the right", "at the top", "at the bottom")
            else side
        )
        thing = picture.convert("RGB").resize((small, small), Image.Resampling.LANCZOS)
        mask = Image.fromarray((np.asarray(thing).min(axis=2) < 250).astype(np.uint8) * 255)
        left = {"on the left": 0, "on the right": side - small}.get(said, (side - small) // 2)
        top = {"at the top": 0, "at the bottom": side - small}.get(said, (side - small) // 2)
        image = Image.new("RGB", (side, side), ground)
        image.paste(thing, (left, top), mask)
        image.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a {NAME} {said}".strip(), encoding="utf-8")


def fitted(folder: Path, out: Path, base: str, hours: float | None) -> tuple[Bundle, float | None]:
    """The bundle of a fit, made if it is not there, and the hours that making it took."""
    began = time.monotonic()
    work = Fit(
        [folder], out, base=base, hours=hours, command="benchmarks/fit.py", say=lambda text: print(text)
    )
    plan = told(work.plan())
    if work.done:
        return Bundle.load(out), None
    told(work.gather(plan))
    work.train(plan)
    told(work.finish(plan))
    return Bundle.load(out), (time.monotonic() - began) / 3600


def drawn(bundle: Bundle, prompts: Sequence[str]) -> np.ndarray:
    """A picture of each prompt, as small as the bundle draws, uint8 (N, S, S, 3)."""
    model = Model(bundle)
    return told(draw(model, prompts, SEED, f"drawing by {bundle.name}", Options(size=min(model.sizes))))


def in_style(features: np.ndarray, known: np.ndarray, styles: np.ndarray, style: str) -> np.ndarray:
    """(N,) bool: most of the nearest known pictures (M, E), whose styles are (M,), are in the style."""
    nearest = np.argsort(-features @ known.T, axis=1)[:, :NEAREST]
    return np.array([Counter(styles[row].tolist()).most_common(1)[0][0] == style for row in nearest])


def known(judge: Encoder, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) bool: of all names the picture's own is the nearest to it."""
    return (features @ judge.texts(names).T).argmax(axis=1) == np.arange(len(names))


def estimate(hits: np.ndarray) -> dict[str, float]:
    """A share with its interval of 95 %."""
    found = share(hits, np.arange(len(hits)))
    return {"value": found.value, "low": found.low, "high": found.high}


def style_case(given: argparse.Namespace, judge: Encoder) -> dict[str, Any]:
    unseen, train = Corpus(given.corpus, Split.UNSEEN_STYLES), Corpus(given.corpus)
    rows = plain(unseen, given.style)
    learned, rest = rows[: given.pictures], rows[given.pictures :]
    concepts = unseen.column("concept")
    seen = {concepts[row] for row in learned}
    asked = [row for row in rest if concepts[row] not in seen][: given.prompts]
    real = [row for row in rest if row not in set(asked)]
    write_folder(unseen, learned, given.work / "pictures")
    bundle, hours = fitted(given.work / "pictures", given.work / "fit", given.base, given.hours)
    base = Bundle.load(given.base)
    others = [style for style, _ in Counter(train.column("style")).most_common() if style != given.style]
    each = min(200, len(learned), *(len(plain(train, style)) for style in others[: STYLES - 1]))
    pixels = [unseen.pixels(judge.size)[learned[:each]]]
    styles = [given.style] * each
    for style in others[: STYLES - 1]:
        pixels.append(train.pixels(judge.size)[plain(train, style)[:each]])
        styles += [style] * each
    pictures, labels = judge.images(np.concatenate(pixels)), np.array(styles, object)
    prompts = [unseen.name(row) for row in asked]
    row: dict[str, Any] = {
        "prompts": prompts,
        "learned": len(learned),
        "styles": [given.style, *others[: STYLES - 1]],
    }
    training = shrunk(unseen.pixels(64)[learned]).astype(np.float32)
    for name, one in (("base", base), ("fitted", bundle)):
        pixels_drawn = drawn(one, prompts)
        features = judge.images(_sized(pixels_drawn, judge.size))
        row[name] = {
            "bundle": one.identity,
            "in_style": estimate(in_style(features, pictures, labels, given.style)),
            "known": estimate(known(judge, features, prompts)),
            "copies": estimate(closer(shrunk(pixels_drawn).astype(np.float32), training)[1]),
        }
    checked = judge.images(unseen.pixels(judge.size)[real[:200]])
    row["real_in_style"] = (
        estimate(in_style(checked, pictures, labels, given.style)) if len(checked) else None
    )
    return {**row, "hours": hours}


def thing_case(given: argparse.Namespace, judge: Encoder) -> dict[str, Any]:
    unseen, train = Corpus(given.corpus, Split.UNSEEN_STYLES), Corpus(given.corpus)
    write_thing(unseen.image(plain(unseen, given.style)[2]), given.work / "thing")
    bundle, hours = fitted(given.work / "thing", given.work / "thing-fit", given.base, given.hours)
    base = Bundle.load(given.base)
    files = sorted((given.work / "thing").glob("*.png"))
    own = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    chosen = np.linspace(0, len(train) - 1, min(OTHERS, len(train))).astype(int)
    pictures = np.concatenate([_sized(own, judge.size), train.pixels(judge.size)[chosen]])
    features = judge.images(pictures)
    names = [name.prompt for name in frozen()[0] if name.group == "en"][: given.prompts]
    row: dict[str, Any] = {"learned": len(own)}
    for name, one in (("base", base), ("fitted", bundle)):
        new = judge.images(_sized(drawn(one, [f"a {NAME} {said}" for said in NEW]), judge.size))
        usual = judge.images(_sized(drawn(one, names), judge.size))
        row[name] = {
            "bundle": one.identity,
            "right_thing": estimate((new @ features.T).argmax(axis=1) < len(own)),
            "known": estimate(known(judge, usual, names)),
        }
    return {**row, "hours": hours}


def _sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """(N, S, S, 3) resized."""
    resized = [Image.fromarray(one).resize((side, side), Image.Resampling.LANCZOS) for one in pixels]
    return np.stack([np.asarray(one) for one in resized])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("case", choices=("style", "thing"))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("judge")
    parser.add_argument("work", type=Path)
    parser.add_argument("--hours", type=float)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--style", default="openmoji")
    parser.add_argument("--from", dest="base", default="pictograms")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    device = pick_device(None)
    judge = Encoder.load(given.judge, device, pick_precision(device))
    row = {"style": style_case, "thing": thing_case}[given.case](given, judge)
    row |= {
        "case": given.case,
        "style": given.style,
        "asked_hours": given.hours,
        "machine": processor_name(),
        "judge": judge.name,
        "judge_weights": judge.weights,
        "version": unclip.__version__,
    }
    before = json.loads(given.result.read_text(encoding="utf-8")) if given.result.is_file() else []
    rows = [old for old in before if old["case"] != given.case]
    given.result.write_text(json.dumps([*rows, row], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shown = {name: row[name] for name in ("base", "fitted")}
    print(json.dumps(shown, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
