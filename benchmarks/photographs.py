"""Find the direction of a CLIP's space by which photographs stand out from what it has learned from.

    python benchmarks/photographs.py CORPUS PHOTOGRAPHS [--bundle FOLDER] [--write]

It is Fisher's: the inverse of the mean covariance of both kinds, times the difference of their means. It is
fitted to pictures of the corpus's training split and to the photographs of a folder, each of these whole and
in seven crops, so that neither shape nor white beside it tells them apart. `least` leaves a hundredth of
other training pictures beyond it.

Photographs are counted by a direction that was fitted to all others (leave one out, with its crops), false
alarms on splits that the CLIP has not seen. `--write` puts the direction into the bundle's `bundle.json`.

Prints a table and writes `benchmarks/results/photographs.json`. About a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from unclip import __version__
from unclip.bundle import Bundle
from unclip.catalogue import MANIFEST
from unclip.classify import picture_files
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.embedding import ClipEmbedder
from unclip.images import on_white, open_image
from unclip.runtime import atomic_path

RESULTS = Path(__file__).parent / "results" / "photographs.json"
HELD_OUT = (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS, Split.UNSEEN_STYLES)
PICTURES, MOST = 3000, 1500  # of the training split for each half, and of another split
FALSE_ALARMS = 0.01
RIDGE = 1e-4  # added to each variance
LARGEST = 1024  # pixels
DIGITS = 5  # of each number of the direction
# Width and height of a crop as shares of the shorter side, and where it lies, 0 to 1.
CROPS = {
    "square": (1.0, 1.0, 0.5, 0.5),
    "left or upper square": (1.0, 1.0, 0.0, 0.0),
    "right or lower square": (1.0, 1.0, 1.0, 1.0),
    "portrait": (0.7, 1.0, 0.5, 0.5),
    "landscape": (1.0, 0.56, 0.5, 0.5),
    "middle": (0.6, 0.6, 0.5, 0.5),
    "wide middle": (0.8, 0.55, 0.5, 0.5),
}


def shapes(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """A photograph whole, and its crops."""
    yield "whole", image
    shorter = min(image.size)
    for name, (width, height, across, down) in CROPS.items():
        w, h = int(shorter * width), int(shorter * height)
        x, y = int((image.width - w) * across), int((image.height - h) * down)
        yield name, image.crop((x, y, x + w, y + h))


def direction(pictograms: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant of embeddings (N, E) and (M, E), (E,), of length one."""
    spread = (np.cov(pictograms.T) + np.cov(photographs.T)) / 2 + RIDGE * np.eye(pictograms.shape[1])
    found = np.linalg.solve(spread, photographs.mean(0) - pictograms.mean(0))
    return found / np.linalg.norm(found)


def embedded(clip: ClipEmbedder, corpus: Corpus, most: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Embeddings of some pictures of a split, and the source of each."""
    chosen = np.random.default_rng(seed).permutation(len(corpus))[:most]
    sources = corpus.column("source")
    vectors = clip.embed_images([corpus.image(int(index)) for index in chosen]).numpy()
    return vectors, [sources[index] for index in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder that `unclip data` made")
    parser.add_argument("photographs", type=Path, help="folder of photographs")
    parser.add_argument("--bundle", default=None, help="name or folder")
    parser.add_argument("--write", action="store_true", help=f"into the bundle's {MANIFEST}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    bundle = Bundle.load(arguments.bundle)
    clip = ClipEmbedder.load(bundle.folder)

    both, _ = embedded(clip, Corpus(arguments.corpus, Split.TRAIN), 2 * PICTURES)
    fitted, rest = both[: len(both) // 2], both[len(both) // 2 :]
    kinds: list[str] = []
    owners: list[int] = []
    pictures: list[Image.Image] = []
    for number, path in enumerate(picture_files([arguments.photographs])):
        image = on_white(open_image(path, at_least=LARGEST))
        image.thumbnail((LARGEST, LARGEST))
        for kind, shape in shapes(image):
            kinds.append(kind)
            owners.append(number)
            pictures.append(shape)
    photographs, owner = clip.embed_images(pictures).numpy(), np.array(owners)

    hits = np.zeros(len(photographs), bool)
    for number in range(owner.max() + 1):
        one = owner == number
        found = direction(fitted, photographs[~one])
        hits[one] = photographs[one] @ found > np.quantile(rest @ found, 1 - FALSE_ALARMS)
    found = direction(fitted, photographs).round(DIGITS)
    least = float(np.quantile(rest @ found, 1 - FALSE_ALARMS).round(DIGITS))

    alarms, sources = {}, {}
    for split in HELD_OUT:
        vectors, of = embedded(clip, Corpus(arguments.corpus, split), MOST)
        wrong = vectors @ found > least
        alarms[str(split)] = {"pictures": len(wrong), "taken for photographs": round(float(wrong.mean()), 4)}
        for source in sorted(set(of)):
            at = np.array(of) == source
            sources[f"{split} {source}"] = [int(at.sum()), round(float(wrong[at].mean()), 4)]
    result = {
        "version": __version__,
        "bundle": bundle.name,
        "clip": bundle.component("clip").sha256[:12],
        "photographs": int(owner.max() + 1),
        "noticed": round(float(hits.mean()), 4),
        "noticed by shape": {
            kind: round(float(hits[np.array(kinds) == kind].mean()), 4) for kind in dict.fromkeys(kinds)
        },
        "false alarms": alarms,
        "false alarms by source": sources,
    }
    print(json.dumps(result, indent=1))
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.write:
        path = bundle.folder / MANIFEST
        document = json.loads(path.read_text(encoding="utf-8"))
        test = {"direction": [float(value) for value in found], "least": least}
        document["components"]["clip"]["photographic"] = test
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
