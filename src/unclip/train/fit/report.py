"""The report of a fit: the bundle's picture, the fitted one's, and the nearest of one's own, side by side."""

from __future__ import annotations

import base64
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from unclip.bundle import Bundle
from unclip.data.corpus import Corpus
from unclip.data.prepare.report import MARKDOWN, PAGE
from unclip.data.prepare.report_html import STYLE
from unclip.data.records import Split
from unclip.drawing import Options
from unclip.evaluate.encoder import Step
from unclip.evaluate.pictures import closer, shrunk
from unclip.evaluate.stages import draw
from unclip.images import encode
from unclip.model import Model
from unclip.runtime import atomic_path
from unclip.train.fit.corpus import KEPT
from unclip.train.fit.plan import Plan, told
from unclip.train.fit.things import THINGS
from unclip.train.fit.verdict import Verdict, meaning
from unclip.train.pictures import spread

SEED = 1
CAPTIONS, NEW = 8, 6  # held-out captions, and things that no caption need name
SIDE = 128  # pixels of the pictures shown


@dataclass(frozen=True)
class Row:
    """A prompt with its pictures: as the bundle and as the fitted one draws it, and the nearest own picture.

    `copied` is true where the drawing lies nearer to that picture than any other own picture does; `truth` is
    the held-out picture of the caption, if there is one.
    """

    prompt: str
    truth: Image.Image | None
    base: Image.Image
    fitted: Image.Image
    nearest: Image.Image
    nearest_caption: str
    copied: bool


def count(judged: int) -> int:
    """The prompts of a report."""
    return min(CAPTIONS, judged or CAPTIONS) + NEW


def rows(
    base: Bundle, fitted: Bundle, corpus: Path, plan: Plan, device: str | None = None
) -> Generator[Step, None, list[Row]]:
    """Draws the rows of a report; yields (label, done, total)."""
    train, held_out = Corpus(corpus, Split.TRAIN), Corpus(corpus, Split.UNSEEN_CONCEPTS)
    asked = held_out if len(held_out) else train
    index = [int(k) for k in spread(len(asked), CAPTIONS)]
    things = [f"a {thing}" for thing in THINGS["en"] if thing[0] not in "aeiou"][20 : 20 + NEW]
    new = [f"{plan.common}, {thing}" if plan.common else thing for thing in things]
    prompts = [*(asked.name(k) for k in index), *new]
    models = {"before": Model(base, device=device), "now": Model(fitted, device=device)}
    drawn = {}
    for name, model in models.items():
        options = Options(size=min(model.sizes))
        drawn[name] = yield from draw(model, prompts, SEED, f"drawing as {name}", options)
    own = np.flatnonzero(np.array(train.column("source")) != KEPT)
    pixels = shrunk(train.pixels(64)[own])
    if len(own) > 1:
        position, copied = closer(shrunk(drawn["now"]).astype(np.float32), pixels.astype(np.float32))
    else:
        position, copied = np.zeros(len(prompts), int), np.zeros(len(prompts), bool)
    found = []
    for k, prompt in enumerate(prompts):
        near = int(own[position[k]])
        truth = asked.image(index[k]) if k < len(index) and asked is held_out else None
        found.append(
            Row(
                prompt,
                truth,
                Image.fromarray(drawn["before"][k]),
                Image.fromarray(drawn["now"][k]),
                train.image(near),
                train.name(near),
                bool(copied[k]),
            )
        )
    return found


def write(
    folder: Path, title: str, plan: Plan, verdicts: Sequence[Verdict], found: Sequence[Row], base: str
) -> Path:
    """Writes `index.html`, with the pictures in it, and `REPORT.md` beside one file of pictures a row."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = sum(row.copied for row in found)
    copied = (
        f"{copies} of {len(found)} drawings lie nearer to one of your pictures than your other pictures do: "
        "look at "
        "them, they may be copies."
        if copies
        else "No drawing lies nearer to one of your pictures than your other pictures do: none is a copy."
    )
    verdict = [f"{one.told()}. The figure: {meaning(one.stage)}." for one in verdicts]
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(_page(title, plan, verdict, found, base, copied), encoding="utf-8")
    with atomic_path(folder / MARKDOWN) as temporary:
        temporary.write_text(_markdown(folder, title, plan, verdict, found, base, copied), encoding="utf-8")
    return folder / PAGE


def _page(
    title: str, plan: Plan, verdicts: Sequence[str], found: Sequence[Row], base: str, copied: str
) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE} td img {{width:{SIDE}px;height:{SIDE}px}}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<pre>{escape(told(plan).split('  done')[0].rstrip())}</pre>",
        "<h2>What was learned</h2><ul>",
        *(f"<li>{escape(line)}" for line in verdicts),
        "</ul><h2>Before and now</h2>",
        f"<p>{escape(copied)} All with seed {SEED}, as small as the decoder draws.</p>",
        f"<table><thead><tr><th>prompt<th>{escape(base)}<th>fitted<th>the nearest of your pictures"
        "<th>held-out picture of this caption</tr></thead><tbody>",
    ]
    for row in found:
        mark = " (perhaps a copy)" if row.copied else ""
        cells = [row.base, row.fitted, row.nearest, row.truth]
        alts = [
            f"{row.prompt}, {base}",
            f"{row.prompt}, fitted",
            row.nearest_caption,
            f"{row.prompt}, held out",
        ]
        pictures = "".join(f"<td>{_embedded(image, alt)}" for image, alt in zip(cells, alts, strict=True))
        parts.append(f"<tr><td>{escape(row.prompt)}{mark}{pictures}</tr>")
    parts.append("</tbody></table>")
    return "\n".join(parts)


def _embedded(image: Image.Image | None, alt: str) -> str:
    if image is None:
        return ""
    data = base64.b64encode(encode(_small(image), "JPEG")).decode()
    return f"<img alt='{escape(alt, quote=True)}' src='data:image/jpeg;base64,{data}'>"


def _small(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _markdown(
    folder: Path,
    title: str,
    plan: Plan,
    verdicts: Sequence[str],
    found: Sequence[Row],
    base: str,
    copied: str,
) -> str:
    lines = [
        f"# {title}",
        "",
        "```",
        told(plan).split("  done")[0].rstrip(),
        "```",
        "",
        "## What was learned",
        "",
        *(f"- {line}" for line in verdicts),
        "",
        "## Before and now",
        "",
        copied,
        "",
        f"| prompt | {base}, fitted, the nearest of your pictures, the held-out picture of this caption |",
        "| --- | --- |",
    ]
    for number, row in enumerate(found):
        shown = [
            _small(image) for image in (row.base, row.fitted, row.nearest, row.truth) if image is not None
        ]
        strip = Image.new("RGB", (SIDE * len(shown), SIDE), "white")
        for place, image in enumerate(shown):
            strip.paste(image, (SIDE * place, 0))
        name = f"row-{number:02d}.jpg"
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(encode(strip, "JPEG"))
        mark = " (perhaps a copy)" if row.copied else ""
        lines.append(f"| {' '.join(row.prompt.split()).replace('|', ' ')}{mark} | ![]({name}) |")
    return "\n".join(lines) + "\n"
