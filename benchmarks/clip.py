"""Measure CLIP at work: embedding, indexing real pictures, asking small and large indexes.

    python benchmarks/clip.py [--pictures FOLDER | --corpus CORPUS] [--count 2000] [--million] [--quick]
        [--only index,embed,query]

Prints tables and writes `benchmarks/results/clip-PROCESSOR-CORES.json`. Leave the machine alone meanwhile.

- index: with the shipped bundle all pictures of a folder, `--count` of a corpus (as files), or as many that
  are drawn here; and some of them with ViT-B/32: files to embeddings and to an index with worker processes,
  against the model alone. Aimed at with ViT-B/32: files to embeddings at 90 % of the model alone.
- embed: ViT-B/32 (OpenAI's, with its GELU) with random weights, pictures a second in float32, under bfloat16
  autocast, in bfloat16 and packed; beside it open_clip's, where that is installed, and the rate of a matrix
  product. Aimed at: 1.15 times open_clip's best.
  What is compared is measured in turns, and compared within each round.
- query: latency on 20,000 synthetic vectors, all compared and by a graph, with the recall at 10 of the graph;
  with `--million` on a million too, whose graph should take some five to ten minutes on two cores (one made
  that of 200,000 in 67 seconds, at the same cost a vector as that of 100,000).

Without `--million` and `--corpus` all of it takes less than five minutes on two cores. `--quick` is a run of
seconds that shows that everything works: it measures nothing, leaves ViT-B/32 out and writes no results.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus_files import write_files
from PIL import Image
from places import result_path
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unclip import __version__
from unclip.bundle import Bundle
from unclip.data.records import Split
from unclip.embedding import ClipEmbedder
from unclip.images import SUFFIXES
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP, PRESETS
from unclip.nn.packed import can_pack, pack_weights_
from unclip.runtime import atomic_path, autocast, peak_memory_bytes, pick_precision, processor_name
from unclip.search import vectors
from unclip.search.index import Index
from unclip.search.store import File, Found, Store
from unclip.search.vectors import Vectors, update_graph
from unclip.search.writer import BATCH, Writer

EMBEDDED = 32  # pictures in one call of ViT-B/32
FEW = 600  # pictures that ViT-B/32 indexes
WIDTH = 512  # of the synthetic vectors
CLUSTERS = 1000  # that they lie in: real embeddings are no uniform noise
TOP = 10
AIMED_AT_PEER, AIMED_AT_MODEL = 1.15, 0.9
LEAST_ROUNDS = 3
PEER = "open_clip "
MATRIX, PRODUCT = 2048, "matrix product"  # in bfloat16: what the processor could give
PARTS = ("index", "embed", "query")

Row = dict[str, Any]


@dataclass(frozen=True)
class Extent:
    """The extent of a run: seconds of each rate, vectors of a small and a large index, queries of each."""

    seconds: float = 8.0
    small: int = 20_000
    large: int = 1_000_000
    queries: int = 200


QUICK = Extent(seconds=0.0, small=400, large=900, queries=10)


@dataclass(frozen=True)
class Work:
    """One way to embed some pictures."""

    pictures: int
    embed: Callable[[], object]


def in_turns(works: dict[str, Work], seconds: float) -> dict[str, list[float]]:
    """Pictures a second of each work, one rate a round, after a call each that does not count.

    The rounds take some seconds of each work. The rates of a machine drift while it is measured: only those
    of one round may be compared.
    """
    for work in works.values():
        work.embed()
    rates: dict[str, list[float]] = {name: [] for name in works}
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds * len(works) or min(map(len, rates.values())) < LEAST_ROUNDS:
        for name, work in works.items():
            started = time.perf_counter()
            work.embed()
            rates[name].append(work.pictures / (time.perf_counter() - started))
    return rates


def times(rates: dict[str, list[float]], name: str, other: str) -> float:
    """The speed of one work relative to another: the median of the rounds."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def measure_embedding(seconds: float) -> Row:
    """ViT-B/32 with random weights, ours and open_clip's."""
    torch.manual_seed(0)
    cpu, images = torch.device("cpu"), torch.rand(EMBEDDED, 3, 224, 224) * 2 - 1
    works: dict[str, Work] = {}

    def add(name: str, model: nn.Module, dtype: torch.dtype, autocasts: bool = False) -> None:
        pixels = images.to(dtype)
        model = model.eval().requires_grad_(False).to(dtype)

        def embed() -> None:
            with torch.inference_mode(), autocast(cpu, torch.bfloat16 if autocasts else torch.float32):
                model.encode_image(pixels)

        works[name] = Work(EMBEDDED, embed)

    def add_all(prefix: str, model: nn.Module) -> None:
        add(f"{prefix}float32", model, torch.float32)
        add(f"{prefix}autocast", model, torch.float32, autocasts=True)
        add(f"{prefix}bfloat16", copy.deepcopy(model), torch.bfloat16)

    model = CLIP(PRESETS["ViT-B/32"])
    add_all("", model)
    if can_pack(cpu, torch.bfloat16):
        packed = copy.deepcopy(model).requires_grad_(False).bfloat16()
        add("packed bfloat16", pack_weights_(packed), torch.bfloat16)
    try:
        import open_clip
    except ImportError:
        print("embed  open_clip is not installed: nothing to compare with", flush=True)
    else:
        add_all(PEER, open_clip.create_model("ViT-B-32-quickgelu"))  # the same network
    square = torch.randn(MATRIX, MATRIX, dtype=torch.bfloat16)
    works[PRODUCT] = Work(1, lambda: square @ square)
    rates = in_turns(works, seconds)
    products = statistics.median(rates.pop(PRODUCT)) * 2 * MATRIX**3  # operations a second
    found: Row = {name: round(statistics.median(several), 2) for name, several in rates.items()}
    for name, value in found.items():
        print(f"embed  {name:<24} {value:8.1f} pictures/s", flush=True)
    best = {
        peer: max(
            (name for name in found if name.startswith(PEER) == peer), key=found.__getitem__, default=""
        )
        for peer in (True, False)
    }
    if best[True]:
        found["ratio"] = round(times(rates, best[False], best[True]), 3)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.encode_image(images[:1])
    found["share_of_a_matrix_product"] = round(found[best[False]] * counter.get_total_flops() / products, 3)
    print(f"embed  of a matrix product's rate {found['share_of_a_matrix_product']:8.2f}", flush=True)
    return found


def drawn_pictures(folder: Path, count: int) -> None:
    """JPEG files of 640 x 480 with some detail, where no pictures were given."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:06}.jpg", quality=88)


def vit_b_32() -> ClipEmbedder:
    """ViT-B/32 with random weights and a tokenizer that it can read."""
    tokenizer = Bundle.load().tokenizer()
    config = replace(PRESETS["ViT-B/32"], end_token=tokenizer.end)
    device = torch.device("cpu")
    dtype = pick_precision(device)
    model = CLIP(config).eval().requires_grad_(False).to(dtype)
    if can_pack(device, dtype):  # as `ClipEmbedder.load` does
        model = pack_weights_(model)
    shape = Preprocessing(224, "crop")
    return ClipEmbedder(lambda: model, config, tokenizer, shape, device, dtype, "ViT-B/32", "random")


def some_pictures(folder: Path, count: int) -> list[Path]:
    """The first pictures of a folder."""
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES][:count]


def some_of(folder: Path, count: int, into: Path) -> Path:
    """A folder of links to the first pictures of another."""
    for number, path in enumerate(some_pictures(folder, count)):
        (into / f"{number}{path.suffix}").symlink_to(path.resolve())
    return into


def measure_indexing(folder: Path, clip: ClipEmbedder, extent: Extent) -> Row:
    """Files to embeddings, files to an index with worker processes, and the model alone."""
    paths = some_pictures(folder, FEW)
    batch = np.stack([clip.prepare(path) for path in paths[:BATCH]])
    works = {
        "alone": Work(len(batch), lambda: clip.embed_pixels(batch)),
        "decoded": Work(len(paths), lambda: clip.embed_images(paths)),
    }
    rates = in_turns(works, extent.seconds)
    with tempfile.TemporaryDirectory() as place:
        seconds = []
        for _ in range(2):
            writer = Writer(folder, clip, out=Path(place) / "index")
            for _ in writer.run():
                pass
            seconds.append(writer.summary.seconds)
            if len(seconds) == 1:
                first = writer.summary
        size = sum(file.stat().st_size for file in (Path(place) / "index").iterdir())
        with Index(Path(place) / "index", clip=clip) as index:
            asked = min(50, extent.queries)
            latencies = latency(lambda number: index.query(f"a red thing {number % 20}", top=20), asked)
    found: Row = {
        "model": clip.name,
        "files": first.files,
        "files_per_second": round(first.read / seconds[0], 1),
        "model_alone_per_second": round(statistics.median(rates["alone"]), 1),
        "files_embedded_per_second": round(statistics.median(rates["decoded"]), 1),
        "share_of_model": round(times(rates, "decoded", "alone"), 3),
        "seconds_unchanged": round(seconds[1], 2),
        "embedded_unchanged": writer.summary.embedded,
        "bytes_per_picture": round(size / max(1, first.pictures)),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_memory_of_a_worker_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "query_with_text": latencies,
    }
    for name, value in found.items():
        print(f"index  {name:<24} {value}", flush=True)
    return found


def latency(ask: Callable[[int], object], count: int) -> Row:
    """Milliseconds of a query: median and 99th percentile."""
    ask(0)
    taken = []
    for number in range(count):
        started = time.perf_counter()
        ask(number)
        taken.append((time.perf_counter() - started) * 1000)
    return {
        "p50_ms": round(float(np.percentile(taken, 50)), 2),
        "p99_ms": round(float(np.percentile(taken, 99)), 2),
    }


def synthetic(count: int, seed: int) -> np.ndarray:
    """Vectors around some centres, float32 (N, 512), L2-normalised."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, CLUSTERS, count)]
    rows += 0.7 * random.standard_normal(rows.shape, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure_queries(count: int, asked: int) -> Row:
    """Latency over synthetic vectors, all compared and by a graph, with its recall against comparing all."""
    queries = synthetic(asked, 2)
    with tempfile.TemporaryDirectory() as place:
        store = Store.create(Path(place), {"width": str(WIDTH)})
        piece = 10_000
        for start in range(0, count, piece):
            with store.transaction():
                for offset, vector in enumerate(synthetic(min(piece, count - start), 3 + start)):
                    digest = (start + offset).to_bytes(16, "big")
                    store.add(Found(digest, 1, 1, None, b"", vector, b""))
                    store.put(File(str(start + offset), 1, 1, ""), digest)
        exact = Vectors(store)
        found: Row = {
            "pictures": count,
            "compared": latency(lambda n: exact.nearest(queries[n], TOP), asked),
        }
        before, vectors.EXACT = vectors.EXACT, 0  # a graph for any number
        try:
            started = time.perf_counter()
            for done, total in update_graph(store):
                print(f"query  graph {done}/{total}", end="\r", file=sys.stderr, flush=True)
            found["build_seconds"] = round(time.perf_counter() - started, 1)
        finally:
            vectors.EXACT = before
        print(file=sys.stderr)
        walked = Vectors(store)
        found["graph"] = latency(lambda n: walked.nearest(queries[n], TOP), asked)
        hits = [
            len(set(walked.nearest(query, TOP)[0].tolist()) & set(exact.nearest(query, TOP)[0].tolist()))
            for query in queries
        ]
        found["recall_at_10"] = round(sum(hits) / (TOP * asked), 4)
        store.close()
    for name, value in found.items():
        print(f"query  {name:<24} {value}", flush=True)
    return found


def measure_folders(given: argparse.Namespace, extent: Extent) -> list[Row]:
    """Indexing by the shipped bundle, and by ViT-B/32 where it is no quick run."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as links:
        folder = given.pictures or Path(place)
        if given.corpus is not None:
            write_files(given.corpus, folder, Split, given.count)
        elif given.pictures is None:
            drawn_pictures(folder, given.count)
        rows = [measure_indexing(folder, ClipEmbedder.load(), extent)]
        if not given.quick:
            rows.append(measure_indexing(some_of(folder, FEW, Path(links)), vit_b_32(), extent))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pictures", type=Path, help="folder of pictures to index; drawn here by default")
    source.add_argument("--corpus", type=Path, help="a corpus whose pictures are indexed as files")
    parser.add_argument("--count", type=int, default=2000, help="pictures to draw, or of the corpus")
    parser.add_argument("--million", action="store_true", help="a million vectors too: a quarter of an hour")
    parser.add_argument("--only", default=",".join(PARTS), help="of index, embed and query, with commas")
    parser.add_argument("--quick", action="store_true", help="seconds, and no results")
    given = parser.parse_args(arguments)
    only = given.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]!r}: choose {', '.join(PARTS)}")
    extent = QUICK if given.quick else Extent()
    report: Row = {"unclip": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    if "index" in only:  # first: its memory is that of the process so far
        report["index"] = measure_folders(given, extent)
    if "embed" in only and not given.quick:
        report["embed"] = measure_embedding(extent.seconds)
    if "query" in only:
        sizes = (extent.small, extent.large) if given.million else (extent.small,)
        report["query"] = [measure_queries(size, extent.queries) for size in sizes]
    if given.quick:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    path = result_path("clip", processor_name(), cores)
    # parts that were not measured now stay as they were
    report = {**(json.loads(path.read_text()) if path.is_file() else {}), **report}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    aims = {}
    if "index" in only:
        aims["share of the model alone"] = (report["index"][-1]["share_of_model"], AIMED_AT_MODEL)
    if "embed" in only and "ratio" in report["embed"]:
        aims["times open_clip's best"] = (report["embed"]["ratio"], AIMED_AT_PEER)
    for name, (value, aim) in aims.items():
        print(f"{name:<24} {value:6.2f} of {aim:.2f}  {'met' if value >= aim else 'MISSED'}")
    print(f"written to {path.relative_to(Path(__file__).parent.parent)}")
    return 0 if all(value >= aim for value, aim in aims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
