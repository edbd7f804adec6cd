"""Measures `unclip data prepare`: speed, memory, and what it finds of copies that were planted.

    python benchmarks/prepare.py --corpus CORPUS [--clip BUNDLE] [--only PARTS]
                                 [--img2dataset PYTHON] [--quick]

speed    pictures a second of one process, beside decoding them alone (opened, turned, on white, reduced to
         256 px) and beside decoding and packing them as PNG
memory   the peak of the process that judges and writes, over made-up records that were drawn already
copies   precision and recall of `perceptual` and, with --clip, `semantic`, by kind of copy, among pictures of
         a corpus
recall   pairs that are found within clusters, of those that comparing all finds, by number of clusterings
calibration
         of `score`: what it drops of right captions and of those of other things; of `semantic`: copies that
         it finds, and pictures that are as near to another
weights  how far the shares of kinds of things move by a policy, and how far with weights
fetch    pictures a second from a server on this machine, and with --img2dataset (a Python that has it) its

Writes `benchmarks/results/prepare.json`, with --quick nothing. A part that is not measured stays as it was.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from PIL import Image

from unclip.data.corpus import Corpus
from unclip.data.draw_workers import STAGED, LocalPool
from unclip.data.prepare.neighbours import CLUSTERINGS, Metric, close_pairs
from unclip.data.prepare.rules import BY_NAME, STANDING, Name, chosen
from unclip.data.prepare.run import prepare
from unclip.data.quick_png import quick_png
from unclip.data.rasterise import Drawn, draw, hashed
from unclip.images import encode, letterbox, on_white, open_image
from unclip.processes import ContainedPool, Inline

RESULT = Path(__file__).parent / "results" / "prepare.json"
SIZE = 256
SIDES = (512, 1024)  # pixels of the photographs that are decoded
REPEATS = 2  # of which the quickest counts: other work on the machine only adds to it
FEW = 16  # pictures whose time is taken away, with that of the start and of the report
PARTS = ("speed", "memory", "copies", "recall", "calibration", "weights", "fetch")
WHITE = (255, 255, 255)


def photograph(seed: int, side: int) -> Image.Image:
    """Patches of colour at several scales, with grain: it packs about as well as a photograph."""
    random = np.random.default_rng(seed)
    whole = np.zeros((side, side, 3), np.float32)
    for cells, weight in ((3, 1.0), (9, 0.6), (40, 0.4), (160, 0.25)):
        part = random.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        layers = [
            Image.fromarray(part[..., c]).resize((side, side), Image.Resampling.BICUBIC) for c in range(3)
        ]
        whole += weight * np.stack([np.asarray(layer) for layer in layers], axis=-1)
    whole += 0.03 * random.normal(size=whole.shape)
    return Image.fromarray(np.clip(127 + 70 * whole, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


# --- speed ---


def speed(quick: bool) -> list[dict[str, object]]:
    """A row a size of pictures."""
    rows: list[dict[str, object]] = []
    for side in SIDES[:1] if quick else SIDES:
        count = FEW + (8 if quick else 48)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            folder.mkdir()
            for number in range(count):
                (folder / f"{number:05d}.jpg").write_bytes(jpeg(photograph(number, side)))
                (folder / f"{number:05d}.txt").write_text(f"a made-up picture, number {number}")
            contents = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

            def decode(content: bytes) -> Image.Image:
                return letterbox(on_white(open_image(content)), SIZE, WHITE)

            def pack(content: bytes) -> None:
                quick_png(decode(content))

            row: dict[str, object] = {"side": side, "pictures": count}
            for name, work in (("decode", decode), ("decode and pack", pack)):
                spent = []
                for _ in range(REPEATS):
                    start = time.process_time()
                    for content in contents:
                        work(content)
                    spent.append(time.process_time() - start)
                row[f"{name}, ms"] = round(1000 * min(spent) / count, 3)
            for name, rules in (("rules off", None), ("rules on", chosen())):
                both = [_cpu(folder, Path(place) / f"{name}-{k}", rules) for k in range(REPEATS + 1)]
                few, every = (min(part) for part in zip(*both[1:], strict=True))  # the first one imports
                row[f"prepare, {name}, ms"] = round(1000 * (every - few) / (count - FEW), 3)
            for name in ("rules off", "rules on"):
                share = float(str(row["decode, ms"])) / float(str(row[f"prepare, {name}, ms"]))
                row[f"throughput of decoding alone, {name}"] = round(share, 3)
            rows.append(row)
    return rows


def _cpu(folder: Path, out: Path, rules: Any) -> tuple[float, float]:
    """Seconds of processor of a preparation in this process: of `FEW` pictures, and of all."""
    spent = []
    with tempfile.TemporaryDirectory() as place:
        little = Path(place) / "few"
        little.mkdir()
        for path in sorted(folder.iterdir())[: 2 * FEW]:
            (little / path.name).write_bytes(path.read_bytes())
        with patch("unclip.data.build.drawing_pool", _here):
            for source, target in ((little, Path(place) / "out"), (folder, out)):
                start = time.process_time()
                for _ in prepare([source], target, rules=rules or STANDING, report=bool(rules), size=SIZE):
                    pass
                spent.append(time.process_time() - start)
    return spent[0], spent[1]


@contextmanager
def _here(workers: int) -> Iterator[LocalPool]:
    """A pool that draws in this process, so that its time is measured with the rest."""

    def painter(content: Any, size: int, fit: Any, limits: Any, *, seconds: int) -> Drawn:
        return draw(content, size, fit, limits)

    free = SimpleQueue[Any]()
    free.put(painter)
    yield LocalPool(ContainedPool(workers, Inline(), free))


# --- memory ---


def memory(quick: bool) -> list[dict[str, object]]:
    """A row a number of records: the peak of a process of its own that judges and writes them."""
    rows = []
    for count in (500,) if quick else (20_000, 40_000):
        here = str(Path(__file__).parent)
        code = f"import sys; sys.path.insert(0, {here!r}); import prepare; prepare.judged({count})"
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        rows.append(
            {"records": count, "peak_mb": int(done.stdout), "seconds": round(time.monotonic() - start)}
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def judged(count: int) -> None:
    """Builds a corpus of made-up records that were drawn already; prints the peak of this process in MB."""
    from unclip.data.build import BUILDING, CHUNK, Input, build
    from unclip.data.prepare.judges import Judges
    from unclip.data.records import Drawing

    peaks, looking = [0], threading.Event()

    def look() -> None:
        """The memory that the process itself holds; files that are mapped are the system's to forget."""
        while not looking.wait(0.05):
            with open("/proc/self/status", encoding="ascii") as file:
                held = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
            peaks[0] = max(peaks[0], held)

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        out = Path(place) / "out"
        (out / BUILDING).mkdir(parents=True)
        (out / BUILDING / "plan").write_text(f"made up size={SIZE} {' '.join(STAGED.names)}")
        for number, start in enumerate(range(0, count, CHUNK)):
            rows = [_record(index) for index in range(start, min(count, start + CHUNK))]
            path = out / BUILDING / f"00-made-up-{number:05d}.arrow"
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, STAGED) as writer:
                writer.write_table(pa.Table.from_pylist(rows, schema=STAGED))

        def drawings() -> Iterator[Drawing]:
            for index in range(count):
                key = _key(index)
                yield Drawing(key, "made-up", "", "", {"en": [""]}, "", "", bitmap=b"")

        threading.Thread(target=look, daemon=True).start()
        source = Input("made-up", drawings)
        judges = Judges(chosen(), report=True)
        options = {"size": SIZE, "fingerprint": "made up", "title": "Made up", "growing": "made up"}
        for event in build(out, [source], judges=judges, **options):  # type: ignore[arg-type]
            if event.stage != "draw made-up":
                print(event, f"{peaks[0] // 1000} MB", file=sys.stderr, flush=True)
    looking.set()
    print(round(max(peaks) / 1000))


def _key(index: int) -> str:
    return f"shard-{index // 1000:05d}/{index:08d}.jpg"


def _record(index: int) -> dict[str, object]:
    random = np.random.default_rng(index)
    caption = f"a made-up picture of thing number {index} on a ground of many colours"
    bright = random.integers(0, 200)  # photographs differ in it, too
    cells = random.integers(bright, bright + 56, (4, 4, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    png = quick_png(Image.fromarray(cells))
    return {
        "key": _key(index), "concept": f"thing-{index}", "style": "",
        "source": "made-up", "licence": "unknown", "author": "", "tone": 0, "names": [], "width": 512,
        "captions": json.dumps({"en": [caption]}), "vector": False, "png": png + random.bytes(1500),
        "hash": random.bytes(16), "thumb": cells.tobytes(), "aspect": 1.0, "pdq": random.bytes(256),
        "quality": 100, "letters": 50, "findings": [], "fit": "pad", "digest": random.bytes(16),
    }  # fmt: skip


# --- copies ---

COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "recaption": lambda image: jpeg(image, 95),
    "jpeg": lambda image: jpeg(image, 30),
    "resize": lambda image: jpeg(image.resize((image.width * 5 // 8, image.height * 5 // 8))),
    "mirror": lambda image: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "turn": lambda image: jpeg(image.rotate(90, expand=True)),
    "brighten": lambda image: jpeg(image.point(lambda value: min(255, int(value * 1.2)))),
    "crop 5 %": lambda image: jpeg(_cropped(image, 0.05)),
    "crop 15 %": lambda image: jpeg(_cropped(image, 0.15)),
}


def _cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((across, down, image.width - across, image.height - down))


def copies(corpus: Path, clip: str, quick: bool) -> dict[str, object]:
    """Recall by kind of copy, and precision: of all that is dropped the share that was planted."""
    pictures = Corpus(corpus)
    random = Random(0)
    styles = np.array(pictures.column("style"))
    wanted = np.isin(styles, ("photo", "3d", "cartoon", "clip art", "gradient", "noto", "flat"))
    pool = np.flatnonzero(wanted if wanted.any() else np.ones(len(styles), bool))
    count = 16 if quick else 400
    picked = random.sample([int(place) for place in pool], min(count, len(pool)))
    from unclip.data.prepare.rules import Needs

    judges: dict[str, tuple[list[str], dict[str, object]]] = {"perceptual": ([], {})}
    if clip:
        from unclip.embedding import ClipEmbedder

        judges["semantic"] = (["perceptual", "score"], {"embedder": ClipEmbedder.load(clip)})
    found: dict[str, object] = {"pictures": len(picked)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        planted: dict[str, str] = {}
        for number, position in enumerate(picked):
            image = pictures.image(position).convert("RGB")
            (folder / f"a{number:05d}.png").write_bytes(encode(image, "png"))
            (folder / f"a{number:05d}.txt").write_text(f"picture {number}: {pictures.name(position)}")
            kind = list(COPIES)[number % len(COPIES)]
            key = f"z{number:05d}.jpg"
            planted[key] = kind
            (folder / key).write_bytes(COPIES[kind](image))
            (folder / f"z{number:05d}.txt").write_text("said in another way")
        for name, (off, options) in judges.items():
            rules = chosen(
                off=[*off, "language", "duplicate", "near-duplicate"],
                at_hand=[Needs.CLIP] if name == "semantic" else [],
            )
            out = Path(place) / name
            for _ in prepare([folder], out, rules=rules, size=SIZE, workers=2, **options):  # type: ignore[arg-type]
                pass
            lines = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
            dropped = {line["key"] for line in lines if line["reason"].endswith("duplicate")}
            by_kind = defaultdict[str, list[bool]](list)
            for key, kind in planted.items():
                by_kind[kind].append(key in dropped)
            others = {key for key in dropped if key not in planted}
            found[name] = {
                "recall": {kind: round(float(np.mean(hits)), 3) for kind, hits in by_kind.items()},
                "recall of all": round(len(dropped & {*planted}) / len(planted), 3),
                "precision": round(len(dropped & {*planted}) / max(1, len(dropped)), 3),
                "originals dropped": round(len(others) / len(picked), 4),
            }
    return found


# --- recall of clusterings ---


def recall(corpus: Path, clip: str, quick: bool) -> dict[str, object]:
    """Pairs that are found within clusters, of those that comparing everything finds, and the seconds."""
    pictures = Corpus(corpus)
    pixels = pictures.pixels(64)
    some = np.linspace(0, len(pixels) - 1, min(len(pixels), 200 if quick else 30_000)).astype(int)
    hashes = np.stack([np.frombuffer(hashed(Image.fromarray(pixels[k]))[0], np.uint8)[:32] for k in some])
    sets: dict[str, tuple[np.ndarray, Metric, float]] = {"PDQ": (hashes, Metric.HAMMING, 31)}
    if clip:
        from unclip.embedding import ClipEmbedder

        embedder = ClipEmbedder.load(clip)
        few = some[:: 1 if quick else 4]
        vectors = [
            np.asarray(embedder.embed_images([Image.fromarray(pixels[k]) for k in few[start : start + 64]]))
            for start in range(0, len(few), 64)
        ]
        radius = 1 - (BY_NAME[Name.SEMANTIC].threshold or 0)
        sets["CLIP"] = (np.concatenate(vectors).astype(np.float16), Metric.COSINE, radius)
    return {name: _found(*given) for name, given in sets.items()}


def _found(vectors: np.ndarray, metric: Metric, radius: float) -> dict[str, object]:
    def pairs(**options: int) -> tuple[set[tuple[int, int]], float]:
        start, found = time.process_time(), set[tuple[int, int]]()
        for one, other, _ in close_pairs(vectors, vectors, metric, radius, **options):
            later = one > other
            found.update(zip(one[later].tolist(), other[later].tolist(), strict=True))
        return found, round(time.process_time() - start, 2)

    every, seconds = pairs(exact_up_to=len(vectors))
    # a picture is dropped if any earlier one is found: that is what counts
    second = {later for later, _ in every}
    result: dict[str, object] = {
        "vectors": len(vectors),
        "pairs": len(every),
        "pictures with one before them": len(second),
        "seconds, all compared": seconds,
    }
    for count in (1, 2, 3, CLUSTERINGS):
        some, seconds = pairs(exact_up_to=0, clusterings=count)
        result[f"clusterings: {count}"] = {
            "pairs found": round(len(some & every) / max(1, len(every)), 4),
            "pictures found": round(len({later for later, _ in some} & second) / max(1, len(second)), 4),
            "seconds": seconds,
        }
    return result


# --- calibration, and weights ---

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # of `score`
SAME = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)  # of `semantic`
UPRIGHT = ("recaption", "jpeg", "resize", "mirror", "crop 5 %")  # copies that a CLIP can be asked for


def _seen(clip: str, images: Sequence[Image.Image]) -> np.ndarray:
    """float32 (N, E)."""
    from unclip.embedding import ClipEmbedder

    embedder = ClipEmbedder.load(clip)
    parts = [
        np.asarray(embedder.embed_images(images[start : start + 64])) for start in range(0, len(images), 64)
    ]
    return np.concatenate(parts).astype(np.float32)


def calibration(corpus: Path, clip: str, quick: bool) -> dict[str, object]:
    """Shares that `score` and `semantic` drop at several thresholds, of what they should and should not."""
    from unclip.embedding import ClipEmbedder

    pictures = Corpus(corpus, "unseen-pairs")  # no network has learned from them
    random = Random(0)
    some = random.sample(range(len(pictures)), min(len(pictures), 32 if quick else 1000))
    pixels = pictures.pixels(64)
    seen = _seen(clip, [Image.fromarray(pixels[k]) for k in some])
    embedder = ClipEmbedder.load(clip)
    said = [pictures.caption(k, Random(k), {"en": 1.0}) for k in some]
    texts = np.concatenate(
        [np.asarray(embedder.embed_texts(said[start : start + 256])) for start in range(0, len(said), 256)]
    )
    own = (seen * texts).sum(axis=1)
    concepts = [pictures.column("concept")[k] for k in some]
    others = [(k + 1 + next(i for i in range(len(some)) if concepts[(k + 1 + i) % len(some)] != concepts[k]))
              % len(some) for k in range(len(some))]  # fmt: skip
    wrong = (seen * texts[others]).sum(axis=1)
    kinds = UPRIGHT[:2] if quick else UPRIGHT
    few = some[: 16 if quick else 160]
    originals = [pictures.image(k).convert("RGB") for k in few]
    copied = {
        kind: (_seen(clip, [open_image(COPIES[kind](image)) for image in originals]) * seen[: len(few)]).sum(
            axis=1
        )
        for kind in kinds
    }
    among = seen @ seen.T
    np.fill_diagonal(among, -1)
    nearest = among.max(axis=1)
    return {
        "pictures": len(some),
        "score": {
            "cosine of picture and caption, median": round(float(np.median(own)), 3),
            "1 % of pictures are below": round(float(np.quantile(own, 0.01)), 3),
            "dropped": {
                str(least): {
                    "right captions": round(float((own < least).mean()), 4),
                    "captions of other things": round(float((wrong < least).mean()), 4),
                }
                for least in THRESHOLDS
            },
        },
        "semantic": {
            str(least): {
                "copies found": {
                    kind: round(float((found >= least).mean()), 3) for kind, found in copied.items()
                },
                "pictures with another that near": round(float((nearest >= least).mean()), 4),
            }
            for least in SAME
        },
    }


def weights(corpus: Path, clip: str, quick: bool) -> dict[str, object]:
    """The balance of kinds of things before a policy, after it, and after it with weights.

    Two filters: one that refuses names of arms, and one that drops half of a kind of things by chance, as a
    detector may that takes them for something else.
    """
    from unclip.data.prepare.reweighting import reweighted

    pictures = Corpus(corpus)
    groups = np.array(pictures.column("group"))
    pool = np.flatnonzero(groups != "")
    some = np.sort(
        np.random.default_rng(0).choice(pool, min(len(pool), 200 if quick else 3000), replace=False)
    )
    pixels = pictures.pixels(64)
    seen = _seen(clip, [Image.fromarray(pixels[k]) for k in some]).astype(np.float16)
    names, kinds = np.unique(groups[some], return_inverse=True)
    random = np.random.default_rng(1)
    arms = (
        "gun",
        "knife",
        "sword",
        "bomb",
        "dagger",
        "pistol",
        "axe",
        "bow",
        "arrow",
        "weapon",
        "fight",
        "war",
    )
    words = [{*pictures.name(int(k)).lower().split()} for k in some]
    animals = kinds == [*names].index("animals-nature")
    filters = {
        "names of arms": np.array([not ({*arms} & own) for own in words]),
        "half of animals and nature": ~animals | (random.random(len(some)) > 0.5),
    }
    found: dict[str, object] = {"pictures": len(some), "kinds": len(names)}
    for name, kept in filters.items():
        own = reweighted(seen, kept, 10)
        whole, after, weighted = (
            np.bincount(kinds, each, minlength=len(names)) / each.sum()
            for each in (np.ones(len(some)), kept.astype(float), own)
        )
        found[name] = {
            "dropped": round(float((~kept).mean()), 4),
            "shares that moved": round(float(np.abs(after - whole).sum() / 2), 4),
            "with weights": round(float(np.abs(weighted - whole).sum() / 2), 4),
            "animals-nature before, after, with weights": [
                round(float(part[[*names].index("animals-nature")]), 4) for part in (whole, after, weighted)
            ],
            "effective share of pictures": round(
                float(own[kept].sum() ** 2 / (own[kept] ** 2).sum() / kept.sum()), 3
            ),
        }
    return found


# --- fetching ---


def fetch(other: str, quick: bool) -> dict[str, object]:
    """Pictures a second from a server on this machine, here and with img2dataset."""
    count = 16 if quick else 500
    contents = [jpeg(photograph(number, 512)) for number in range(16 if quick else 64)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path.endswith(".jpg")
            content = contents[int(self.path[1:-4]) % len(contents)] if known else b""
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found: dict[str, object] = {
        "pictures": count,
        "kilobytes": round(sum(map(len, contents)) / len(contents) / 1000),
    }
    try:
        with tempfile.TemporaryDirectory() as place:
            table = Path(place) / "table.csv"
            with table.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["url", "caption"])
                address = f"http://127.0.0.1:{server.server_port}"
                rows.writerows(
                    (f"{address}/{number}.jpg", f"made-up picture number {number}") for number in range(count)
                )
            command = [
                sys.executable,
                "-m",
                "unclip",
                "data",
                "prepare",
                str(table),
                str(Path(place) / "out"),
            ]
            off = [
                word for name in ("duplicate", "near-duplicate", "perceptual") for word in ("--without", name)
            ]
            found["unclip"] = _timed([*command, "--fetch", "--allow-private", "--workers", "2", *off], count)
            if other:
                script = str(Path(other).with_name("img2dataset"))
                options = {
                    "url_list": table, "output_folder": Path(place) / "other", "input_format": "csv",
                    "url_col": "url", "caption_col": "caption", "output_format": "webdataset",
                    "image_size": SIZE,
                    "resize_mode": "border", "encode_format": "png", "encode_quality": 6,
                    "processes_count": 2,
                    "thread_count": 32, "enable_wandb": False, "number_sample_per_shard": 1000,
                }  # fmt: skip
                told = [f"--{name}={value}" for name, value in options.items()]
                found["img2dataset"] = _timed([script, *told], count)
    finally:
        server.shutdown()
        server.server_close()
    return found


def _timed(command: list[str], count: int) -> dict[str, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "a second": round(count / seconds, 1), "processor": round(spent, 1)}


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Measures the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="pictures to copy and to compare")
    parser.add_argument("--clip", default="", help="a bundle whose CLIP knows the corpus's pictures")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--img2dataset", default="", help="a Python with img2dataset")
    parser.add_argument("--quick", action="store_true", help="on little, and no results")
    asked = parser.parse_args(arguments)
    results: dict[str, object] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for part in asked.only.split(","):
        if part in ("copies", "recall", "calibration", "weights") and asked.corpus is None:
            parser.error(f"{part} needs --corpus")
        if part in ("calibration", "weights") and not asked.clip:
            parser.error(f"{part} needs --clip")
        measure = {
            "speed": lambda: speed(asked.quick),
            "memory": lambda: memory(asked.quick),
            "copies": lambda: copies(asked.corpus, asked.clip, asked.quick),
            "recall": lambda: recall(asked.corpus, asked.clip, asked.quick),
            "calibration": lambda: calibration(asked.corpus, asked.clip, asked.quick),
            "weights": lambda: weights(asked.corpus, asked.clip, asked.quick),
            "fetch": lambda: fetch(asked.img2dataset, asked.quick),
        }[part]
        results[part] = measure()
        print(part, json.dumps(results[part], indent=1), flush=True)
        if not asked.quick:
            RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    main()
