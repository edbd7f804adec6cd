"""Do two versions of the code draw the same? Record with each, then compare bit for bit, on one machine.

    PYTHONPATH=OLD/src python benchmarks/same_pictures.py record old.pt BUNDLE...
    PYTHONPATH=NEW/src python benchmarks/same_pictures.py record new.pt BUNDLE...
    python benchmarks/same_pictures.py compare old.pt new.pt

Every verb that a bundle can do is drawn with: priors, samplers, rerank, sizes, pictures to start from, edits,
variations, blends, text diffs, extensions, offloaded and not, in float32 and in the machine's own precision.
Recorded are the events' stages, steps and totals, the last estimate of each stage, and the pictures with
their scores and metadata. A figure of `compare` is the largest difference of an estimate.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

import unclip
from unclip.drawing import Job, Options
from unclip.errors import UnclipError
from unclip.images import to_tensor
from unclip.manipulate import editing, variations
from unclip.manipulate import outpaint as extending

PROMPTS = ["a red apple", "Red", "3", "anything"]  # the first that a bundle understands is drawn
Case = tuple[str, Callable[[Any, str], Iterator[Any]]]


def picture(side: int, colour: tuple[int, int, int] = (210, 40, 40)) -> Image.Image:
    """A disc on white."""
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((side // 5, side // 5, side * 4 // 5, side * 4 // 5), fill=colour)
    return image


def mask(side: int) -> Image.Image:
    """The right half is to be redrawn."""
    image = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (side // 2, 0, side, side))
    return image


def drawn(**settings: Any) -> Callable[[Any, str], Iterator[Any]]:
    return lambda model, prompt: model.stream(prompt, **{"seed": 7, **settings})


def cases(model: Any) -> Iterator[Case]:
    """The drawings that are tried; where a bundle refuses one, the message is recorded."""
    small, usual = model.sizes[0], model.default_size
    yield "two prompts", lambda model, prompt: model.stream([prompt, prompt.upper()], n=3, seed=7)
    yield "alone", drawn(size=small)
    for size in model.sizes:
        yield f"{size} px", drawn(size=size, n=2)
    yield "nineteen", drawn(size=small, n=19)
    for prior in ("diffusion", "ar", "none"):
        yield f"prior {prior}", drawn(size=small, prior=prior, n=2)
    yield "ar prior, 3 candidates", drawn(size=small, prior="ar", candidates=3, prior_guidance=2.0)
    yield "rerank 2 of 5", drawn(n=2, rerank=5)
    yield "rerank 2 of 5 by the ar prior", drawn(n=2, rerank=5, prior="ar", size=small)
    for sampler in ("ancestral", "ddim", "analytic-dpm", "dpm++", "heun"):
        yield f"sampler {sampler}", drawn(size=small, sampler=sampler, steps=5)
    yield "guidance", drawn(size=small, guidance=4.0)
    yield "clip guidance", drawn(size=small, clip_guidance=2.0)
    yield "codes", drawn(size=small, temperature=0.9, top_k=5, top_p=0.9)
    for strength in (0.0, 0.5, 1.0):
        yield f"init {strength}", drawn(init=picture(90), strength=strength, n=2)
    yield "start", drawn(size=small, start=picture(90), keep_rows=1, n=2)
    yield "edit", lambda m, p: editing.edit(m, picture(usual), mask(usual), p, n=2, seed=7)
    yield (
        "edit, steps",
        lambda m, p: editing.edit(m, picture(small), mask(small), p, seed=7, steps=4, rounds=2),
    )
    yield (
        "extended",
        lambda m, p: extending.outpaint(
            m, picture(small), p, extending.Margins(right=small), seed=7, n=2, steps=4
        ),
    )
    yield "varied", lambda m, p: variations.vary(m, picture(90), n=2, strength=0.6, seed=7, steps=6)
    yield "varied, whole", lambda m, p: variations.vary(m, picture(90), n=2, seed=7, size=small)
    yield (
        "blended",
        lambda m, p: variations.blend(
            m, [picture(90), picture(80, (30, 90, 200))], frames=3, seed=7, steps=6
        ),
    )
    yield (
        "restyled",
        lambda m, p: variations.restyle(m, picture(90), "a blue apple", "a red apple", seed=7, steps=6),
    )
    yield "embedding", embedding
    yield "filled in", filled_in


def embedding(model: Any, prompt: str) -> Iterator[Any]:
    if not hasattr(model, "draw_embeddings"):
        raise UnclipError("no embeddings")
    jobs = [Job("", 7, index) for index in range(2)]
    rows = model.embed([picture(90), picture(80, (30, 90, 200))])
    return model.draw_embeddings(dict(zip(jobs, rows, strict=True)), Options(size=model.default_size))


def filled_in(model: Any, prompt: str) -> Iterator[Any]:
    """As GLIDE's notebooks do, by tensors."""
    if not hasattr(model, "filling_in") or model.bundle.family != "glide":
        raise UnclipError("not by tensors")
    side = model.sizes[-1]
    keep = torch.ones(1, side, side)
    keep[..., side // 2 :] = 0
    return model.filling_in(to_tensor(picture(side)), keep).stream(prompt, n=2, size=side, seed=7)


def told(events: Iterator[Any]) -> dict[str, Any]:
    """The record of a drawing: its steps, last estimates and pictures."""
    steps, last, pictures = [], {}, []
    for event in events:
        steps.append((event.stage, event.step, event.total))
        if event.estimate is not None:
            last[event.stage] = event.estimate.float().cpu().clone()
        pictures += [(np.asarray(one.image).copy(), one.score, dict(one.metadata)) for one in event.pictures]
    return {"steps": steps, "last": last, "pictures": pictures}


def record(bundles: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for bundle in bundles:
        for way in ({"precision": "float32"}, {}, {"precision": "float32", "offload": True}):
            torch.manual_seed(0)
            label = f"{Path(bundle).name} {' '.join(f'{k}={v}' for k, v in way.items()) or 'own precision'}"
            started = time.perf_counter()
            try:
                model = unclip.load(bundle, device="cpu", **way)
            except UnclipError as error:
                found[label] = str(error)
                continue
            prompt = next(one for one in PROMPTS if understood(model, one))
            for name, begin in cases(model):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        found[f"{label}: {name}"] = told(begin(model, prompt))
                    except (UnclipError, AttributeError, TypeError) as error:
                        found[f"{label}: {name}"] = f"{type(error).__name__}: {error}"
            print(f"{label}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return found


def understood(model: Any, prompt: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.stream(prompt, size=model.sizes[0])
        except UnclipError:
            return False
    return True


def compare(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Print what differs, and count it; the number of cases that were drawn and now are not the same."""
    different, drawn_now, drawn = 0, [], 0
    for name in sorted({*old, *new}):
        a, b = old.get(name, "not recorded"), new.get(name, "not recorded")
        reasons = []
        if isinstance(a, str) or isinstance(b, str):
            if not isinstance(b, str):
                drawn_now.append(name)
            if not isinstance(a, str):
                reasons.append(f"drawn -> {b!r}")
        else:
            drawn += 1
            if a["steps"] != b["steps"]:
                reasons.append(f"events: {len(a['steps'])} -> {len(b['steps'])}")
            for stage in {*a["last"], *b["last"]}:
                x, y = a["last"].get(stage), b["last"].get(stage)
                if x is None or y is None or x.shape != y.shape:
                    reasons.append(f"{stage}: of another shape")
                elif not torch.equal(x, y):
                    reasons.append(f"{stage}: {float((x - y).abs().max()):.2g}")
            if len(a["pictures"]) != len(b["pictures"]):
                reasons.append("another number of pictures")
            for (image, score, texts), (image2, score2, texts2) in zip(
                a["pictures"], b["pictures"], strict=False
            ):
                if image.shape != image2.shape or (image != image2).any():
                    reasons.append("pixels")
                if score != score2:
                    reasons.append(f"score {score} -> {score2}")
                if texts != texts2:
                    reasons.append(f"metadata {sorted(set(texts.items()) ^ set(texts2.items()))}")
        if reasons:
            different += 1
            print(f"{name}: {'; '.join(dict.fromkeys(reasons))}")
    print(f"{drawn} drawn by both, {different} of them not the same; drawn now alone: {len(drawn_now)}")
    print("\n".join(f"  {name}" for name in drawn_now))
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("others", nargs="+", help="bundles to record, or the file to compare with")
    arguments = parser.parse_args()
    if arguments.what == "record":
        torch.save(record(arguments.others), arguments.file)
        return 0
    files = (torch.load(path, weights_only=False) for path in (arguments.file, arguments.others[0]))
    return int(compare(*files) > 0)


if __name__ == "__main__":
    sys.exit(main())
