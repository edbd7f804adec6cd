"""Ask an index of a corpus's pictures for things in three languages, and draw what comes first.

    python benchmarks/search_sheet.py CORPUS docs/images/search.png [--splits unseen-pairs,...] [--quick]

The pictures are written as files, indexed with worker processes, and asked for. A row of the sheet is what
comes first for a query; nothing is chosen by hand. `--quick` is a few pictures and no file of results.

Beside the sheet, `benchmarks/results/search.json` says what was found, how fast the index was made, what a
second run over the same folder embedded, how much memory it took, and how well the probabilities are
calibrated: names of some of the pictures are asked for, and of the hits that are said to be right with some
probability, the share is counted that shows what was asked for. That is by the corpus's names, so a hit of
nearly the same thing is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus_files import write_files
from PIL import Image

from unclip import __version__
from unclip.data.records import Split
from unclip.embedding import ClipEmbedder
from unclip.images import fit_square
from unclip.runtime import atomic_path, peak_memory_bytes
from unclip.search.index import Index
from unclip.search.query import Term
from unclip.search.writer import Summary, Writer
from unclip.sheets import contact_sheet

RESULTS = Path(__file__).parent / "results" / "search.json"
QUERIES = (
    *("a red apple", "a rocket", "a bicycle", "flag of Japan"),
    *("고양이", "눈사람", "피아노", "빨간 하트"),
    *("ein Schmetterling", "ein Regenbogen", "eine Katze mit Herzaugen", "ein gelber Stern"),
)
ACROSS = 8  # pictures in a row
SHOWN = 96  # pixels of a picture on the sheet
COLOURS = 256  # of the sheet, which makes a third of the file
QUICK = 24  # pictures
ASKED = 300  # names for the calibration
LOOKED_AT = 5  # hits of each
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the probabilities that are counted together


def indexed(folder: Path, out: Path, clip: ClipEmbedder, workers: int | None) -> Summary:
    """One run of the writer over a folder."""
    writer = Writer(folder, clip, out=out, workers=workers)
    for stage, done, total in writer.run():
        print(f"{stage} {done}/{total}", end="\r", flush=True)
    print()
    return writer.summary


def asked(index: Index, query: str) -> tuple[list[Image.Image], list[str], list[dict[str, Any]]]:
    """The first row of a query: pictures, captions, and both as data."""
    hits = index.query(query, top=ACROSS)
    pictures = [index.thumbnail(hit) for hit in hits]
    shown = [fit_square(picture, SHOWN) for picture in pictures if picture is not None]
    captions = [f"{hit.probability:.0%}" for hit in hits]
    captions[0] = query
    blank = ACROSS - len(shown)
    shown += [Image.new("RGB", (SHOWN, SHOWN), "white")] * blank
    found = [
        {
            "path": hit.path.relative_to(index.folder).as_posix(),
            "probability": round(hit.probability, 4),
            "cosine": round(hit.cosine, 4),
        }
        for hit in hits
    ]
    return shown, captions + [""] * blank, found


def calibration(index: Index, shown: dict[Path, str]) -> list[dict[str, float]]:
    """Mean probability and share of right hits, for hits of like probability."""
    names = sorted(set(shown.values()) - {""})
    chosen = random.Random(0).sample(names, min(ASKED, len(names)))
    said, right = [], []
    for name in chosen:
        for hit in index.query((Term(name),), top=LOOKED_AT):
            said.append(hit.probability)
            right.append(shown[hit.path] == name)
    place = np.clip(np.digitize(said, EDGES) - 1, 0, len(EDGES) - 2)  # (H,)
    rows = []
    for number in np.unique(place):
        own = place == number
        row = {"from": EDGES[number], "to": EDGES[number + 1], "hits": int(own.sum())}
        means = {"said": np.mean(np.array(said)[own]), "right": np.mean(np.array(right)[own])}
        rows.append(row | {key: round(float(value), 3) for key, value in means.items()})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of a corpus, see `unclip data`")
    parser.add_argument("sheet", type=Path, help="PNG to draw")
    parser.add_argument("--splits", default=",".join(Split), help="with commas; all by default")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--workers", type=int, help="processes that read; one a core by default")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pictures, no file of results")
    given = parser.parse_args(arguments)
    clip = ClipEmbedder.load(given.model)
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "pictures", Path(place) / "index"
        folder = folder.resolve()  # as hits name it
        shown = write_files(given.corpus, folder, given.splits.split(","), QUICK if given.quick else None)
        first = indexed(folder, out, clip, given.workers)
        again = indexed(folder, out, clip, given.workers)
        with Index(out, clip=clip) as index:
            rows = {query: asked(index, query) for query in QUERIES}
            calibrated = calibration(index, shown)
        size = sum(file.stat().st_size for file in out.iterdir())
    pictures = [picture for shown, _, _ in rows.values() for picture in shown]
    captions = [caption for _, row, _ in rows.values() for caption in row]
    with atomic_path(given.sheet) as temporary:
        sheet = contact_sheet(pictures, ACROSS, captions).quantize(COLOURS)
        sheet.save(temporary, "PNG", optimize=True)
    report = {
        "version": __version__,
        "model": {"name": clip.name, "clip": clip.identity},
        "splits": given.splits.split(","),
        "threads": torch.get_num_threads(),
        "files": first.files,
        "pictures": first.pictures,
        "seconds": round(first.seconds, 1),
        "files_per_second": round(first.read / first.seconds, 1),
        "seconds_again": round(again.seconds, 2),
        "embedded_again": again.embedded,
        "bytes_per_picture": round(size / first.pictures),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_memory_of_a_worker_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "calibration": calibrated,
        "found": {query: found for query, (_, _, found) in rows.items()},
    }
    print({name: value for name, value in report.items() if name != "found"})
    if not given.quick:
        with atomic_path(RESULTS) as temporary:
            temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
