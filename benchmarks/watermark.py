"""Measures the invisible watermark: survival, visibility, time and false positives, beside two others.

    python benchmarks/watermark.py survival --drawn FOLDER [--photographs FOLDER] [--others]
    python benchmarks/watermark.py unmarked --corpus FOLDER --photographs FOLDER [--count 100000]

`survival` marks pictures, changes them as they are changed on their way, and reads them again. FOLDER has
pictures that were drawn (`unclip generate ... --out FOLDER/`), or photographs: those of scikit-image's wheel
(`skimage/data`) are what the figures are of. With --others, invisible-watermark's DWT-DCT-SVD and melu go
through the same. The script needs numpy and Pillow alone, so that it runs in an environment that has them
(`pip install melu invisible-watermark opencv-python-headless PyWavelets`, PYTHONPATH=src).

`unmarked` looks for marks where there are none: in every picture of a corpus (`unclip data corpus`), whole
and cut, and in cuts of photographs, and says how often one was found. A run that was stopped goes on with
--skip COUNT, the count that the results have.

    python benchmarks/watermark.py table

Both write into `benchmarks/results/watermark.json`, and `table` prints the tables of docs/provenance.md of
it; with --quick on little, and no file.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import secrets
import sys
import tarfile
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from unclip.watermark import Mark, embed, read_mark

RESULTS = Path(__file__).parent / "results" / "watermark.json"
SIZE = 256
AT_ONCE = 256  # pictures that a worker is handed
SIDES = (128, 176)  # of unmarked pictures
PHOTOGRAPHS = 13_000  # cuts of photographs among 100,000 unmarked pictures
MARK = Mark("0123456789ab", (1, 2, 3))
TEXT = b"unclip64"  # 64 bits, as invisible-watermark takes them
SALT = "unclip"

Row = tuple[str, bytes | Path, int]  # the way to look at a picture, the picture, its number
Change = Callable[[Image.Image], Image.Image]


def saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


def resized(image: Image.Image, factor: float, filter: Image.Resampling) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), filter)


def cut(image: Image.Image, left: float, upper: float, right: float, lower: float) -> Image.Image:
    """Without so many pixels, or shares of a side if below 1, of each side."""
    box = [
        round(part * side) if part < 1 else int(part)
        for part, side in zip((left, upper, right, lower), image.size * 2, strict=True)
    ]
    return image.crop((box[0], box[1], image.width - box[2], image.height - box[3]))


def screenshot(image: Image.Image, factor: float) -> Image.Image:
    """Shown at another size in a window with grey around it, and saved as JPEG."""
    shown = resized(image, factor, Image.Resampling.BILINEAR)
    window = Image.new("RGB", (shown.width + 120, shown.height + 90), (236, 236, 236))
    window.paste(shown, (47, 61))
    return saved(window, "JPEG", 85)


CHANGES: dict[str, Change] = {
    "as it is": lambda image: image,
    "JPEG 95": lambda image: saved(image, "JPEG", 95),
    "JPEG 80": lambda image: saved(image, "JPEG", 80),
    "JPEG 65": lambda image: saved(image, "JPEG", 65),
    "JPEG 50": lambda image: saved(image, "JPEG", 50),
    "WebP 75": lambda image: saved(image, "WEBP", 75),
    "half size": lambda image: resized(image, 0.5, Image.Resampling.LANCZOS),
    "half size, JPEG 80": lambda image: saved(resized(image, 0.5, Image.Resampling.LANCZOS), "JPEG", 80),
    "10 px cut off on all sides": lambda image: cut(image, 10, 10, 10, 10),
    "a quarter of the width cut off": lambda image: cut(image, 0.25, 0, 0, 0),
    "a quarter of width and height cut off": lambda image: cut(image, 0.25, 0.25, 0, 0),
    "the same in the middle, JPEG 80": lambda image: saved(
        cut(image, 0.125, 0.125, 0.125, 0.125), "JPEG", 80
    ),
    "mirrored": ImageOps.mirror,
    "screenshot at 125 %": lambda image: screenshot(image, 1.25),
    "screenshot at 87 %": lambda image: screenshot(image, 0.87),
    "screenshot at 200 %": lambda image: screenshot(image, 2.0),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BICUBIC, fillcolor="white"),
}

Way = tuple[Callable[[Image.Image], Image.Image], Callable[[Image.Image], bool]]


def ways(others: bool) -> dict[str, Way]:
    """A picture marked by each watermark, and the mark read again."""
    found: dict[str, Way] = {
        "unclip": (partial(embed, mark=MARK), lambda image: getattr(read_mark(image), "mark", None) == MARK)
    }
    if not others:
        return found
    import melu

    sys.modules["torch"] = types.ModuleType("torch")  # invisible-watermark needs it for another of its ways
    from imwatermark import WatermarkDecoder, WatermarkEncoder

    del sys.modules["torch"]

    def encoded(image: Image.Image) -> Image.Image:
        encoder = WatermarkEncoder()
        encoder.set_watermark("bytes", TEXT)
        blue_first = np.asarray(image)[..., ::-1]
        return Image.fromarray(np.ascontiguousarray(encoder.encode(blue_first, "dwtDctSvd")[..., ::-1]))

    def decoded(image: Image.Image) -> bool:
        try:
            told = WatermarkDecoder("bytes", 64).decode(np.asarray(image)[..., ::-1], "dwtDctSvd")
        except RuntimeError:  # it refuses small pictures
            return False
        bits = np.unpackbits(np.frombuffer(bytes(told).ljust(8, b"\0")[:8], np.uint8))
        # Without a code of its own, it has a picture's bits right by chance: 60 of 64 is below 1 in 10^12.
        return int((bits == np.unpackbits(np.frombuffer(TEXT, np.uint8))).sum()) >= 60

    found["DWT-DCT-SVD (invisible-watermark 0.2.0)"] = (encoded, decoded)

    def melu_marked(image: Image.Image) -> Image.Image:
        marked, _ = melu.embed(image, salt=SALT)
        buffer = Path(f"{SALT}-{secrets.token_hex(4)}.png")
        marked.save(str(buffer))
        try:
            return Image.open(buffer).convert("RGB")
        finally:
            buffer.unlink()

    found["melu 0.8.0"] = (melu_marked, lambda image: bool(melu.detect(image, salt=SALT)))
    return found


def opened(folder: Path, side: int | None) -> list[Image.Image]:
    kinds = (".png", ".jpg", ".jpeg")
    images = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir()) if path.suffix in kinds]
    return images if side is None else [ImageOps.fit(one, (side, side)) for one in images]


def psnr(image: Image.Image, marked: Image.Image) -> float:
    """In decibels, over red, green and blue."""
    error = np.mean((np.asarray(image, np.float64) - np.asarray(marked, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def survival(images: list[Image.Image], way: Way, changes: dict[str, Change]) -> dict[str, object]:
    """The share of marks read after each change, the PSNR, and seconds of processor time."""
    put, read = way
    started = time.process_time()
    marked = [put(image) for image in images]
    embedding = (time.process_time() - started) / len(images)
    ratios = [psnr(*pair) for pair in zip(images, marked, strict=True)]
    survived, seconds = {}, {}
    for name, change in changes.items():
        changed = [change(image) for image in marked]
        started = time.process_time()
        survived[name] = sum(map(read, changed))
        seconds[name] = (time.process_time() - started) / len(images)
        print(f"    {name}: {survived[name]} of {len(images)}", flush=True)
    started = time.process_time()
    wrong = sum(map(read, images))
    return {
        "pictures": len(images),
        "psnr": {"mean": round(float(np.mean(ratios)), 1), "least": round(min(ratios), 1)},
        "survived": survived,
        "found_in_unmarked": wrong,
        "seconds": {
            "embed": round(embedding, 4),
            "read": round(seconds["as it is"], 4),
            "read_changed": round(float(np.mean(list(seconds.values()))), 4),
            "read_unmarked": round((time.process_time() - started) / len(images), 4),
        },
    }


def unmarked(corpus: Path, photographs: Path, count: int) -> Iterator[Row]:
    """Files of pictures without marks, each with what is looked at: its number says how it is cut."""
    cuts = count * PHOTOGRAPHS // 100_000
    files = [path for path in sorted(photographs.iterdir()) if path.suffix in (".png", ".jpg")]
    for number in range(cuts):
        yield "cut", files[number % len(files)], number
    for turn in range(2):
        for tar in sorted(corpus.glob("*.tar")):
            with tarfile.open(tar) as archive:
                for member in archive:
                    if member.name.endswith((".png", ".jpg", ".webp")):
                        file = archive.extractfile(member)
                        assert file is not None
                        yield ("whole", "cut")[turn], file.read(), cuts
                        cuts += 1
                        if cuts == count:
                            return
    for number in range(cuts, count):
        yield "cut", files[number % len(files)], number


def flat(source: Path | bytes) -> Image.Image:
    """A picture on white."""
    with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as file:
        image = file.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


photograph = cache(flat)


def looked_at(rows: list[Row]) -> tuple[int, list[int]]:
    """The count of these pictures, and the numbers of those in which a mark was found."""
    found = []
    for way, data, number in rows:
        random = np.random.default_rng(number)
        image = photograph(data) if isinstance(data, Path) else flat(data)
        side = int(random.integers(*SIDES, endpoint=True))
        if way == "cut":
            part = random.uniform(0.3, 0.9) * min(image.size)
            left, upper = (random.uniform(0, full - part) for full in image.size)
            image = image.crop((int(left), int(upper), int(left + part), int(upper + part)))
        image.thumbnail((side, side))
        if max(image.size) < side:
            image = ImageOps.contain(image, (side, side))
        if read_mark(image) is not None:
            found.append(number)
    return len(rows), found


def batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def kept(name: str, found: dict[str, object]) -> None:
    """Write results beside those of the other command."""
    document = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    document[name] = found
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results of `survival` as two tables, the first of how often a mark was read after a change."""
    found = {name: one for name, one in results.items() if "survived" in one}
    names = sorted(found, key=lambda name: (name.partition(": ")[2] != "unclip", name))
    heads = [name.replace(": unclip", "").replace(": ", ": " + "<br>") for name in names]
    lines = [f"| of | {' | '.join(heads)} |", f"|---{'|---' * len(names)}|"]
    for change in CHANGES:
        cells = [
            f"{found[name]['survived'][change]} of {found[name]['pictures']}"
            if change in found[name]["survived"]
            else "not tried"
            for name in names
        ]
        lines.append(f"| {change} | {' | '.join(cells)} |")
    lines += ["", "| | PSNR, mean and least | put in | read | read, changed | looked for in vain |"]
    lines.append("|---|---|---|---|---|---|")
    for name, head in zip(names, heads, strict=True):
        ratio, seconds = found[name]["psnr"], found[name]["seconds"]
        kinds = ("embed", "read", "read_changed", "read_unmarked")
        times = [f"{1000 * seconds[kind]:,.0f} ms" if kind in seconds else "not measured" for kind in kinds]
        lines.append(f"| {head} | {ratio['mean']} dB, {ratio['least']} dB | {' | '.join(times)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["survival", "unmarked", "table"])
    parser.add_argument("--drawn", type=Path, help="a folder of pictures that were drawn")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--corpus", type=Path, help="a folder of shards")
    parser.add_argument("--size", type=int, default=SIZE, help="side of photographs")
    parser.add_argument("--count", type=int, default=100_000, help="unmarked pictures")
    parser.add_argument("--skip", type=int, default=0, help="unmarked pictures that the results have already")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--called", help="the name of the set of pictures in the results")
    parser.add_argument("--only", help="one watermark, by the beginning of its name")
    parser.add_argument("--most", type=int, help="pictures of each folder at most")
    parser.add_argument("--changes", help="names of changes, with semicolons between; all by default")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.command == "table":
        print(table(json.loads(RESULTS.read_text())))
        return 0
    if options.command == "unmarked":
        count, total, wrong = (4 if options.quick else options.count), 0, []
        started = time.perf_counter()
        rows = (row for row in unmarked(options.corpus, options.photographs, count) if row[2] >= options.skip)
        before = {} if options.quick or not options.skip else json.loads(RESULTS.read_text())["unmarked"]
        known, known_wrong = before.get("pictures", 0), before.get("found", 0)
        if known != options.skip and not options.quick:
            raise SystemExit(f"--skip {options.skip}: the results have {known} pictures")

        def tell() -> None:
            if options.quick:
                return
            looked, found = known + total, known_wrong + len(wrong)
            # No event among N: 3 / N is above the true rate with a confidence of 95 % (the rule of three).
            most = None if found else round(3 / looked, 7)
            kept("unmarked", {"pictures": looked, "found": found, "rate_at_most_95_percent": most})

        with ProcessPoolExecutor(options.workers) as pool:
            waiting = []
            for batch in itertools.chain(batches(rows), [None]):
                if batch is not None:
                    waiting.append(pool.submit(looked_at, batch))
                while waiting and (batch is None or len(waiting) > 2 * options.workers):
                    some, found = waiting.pop(0).result()
                    total, wrong = total + some, wrong + found
                    if total % (AT_ONCE * 20) < some:
                        print(f"{total} pictures, {len(wrong)} found", flush=True)
                        tell()  # a run that is stopped is continued with --skip
        seconds = time.perf_counter() - started
        print(f"{total} pictures, {len(wrong)} found {wrong[:20]}, {seconds:.0f} s")
        tell()
        return 0
    sets: dict[str, list[Image.Image]] = {}
    if options.drawn:
        for image in opened(options.drawn, None):
            sets.setdefault(f"drawn, {image.width} px", []).append(image)
    if options.photographs:
        sets[f"photographs, {options.size} px"] = opened(options.photographs, options.size)
    wanted = list(CHANGES)[:2] if options.quick else (options.changes or ";".join(CHANGES)).split(";")
    changes = {name: CHANGES[name] for name in wanted}
    for size, images in sets.items():
        label = options.called or size
        images = images[: 1 if options.quick else options.most]
        for name, way in ways(options.others).items():
            if not name.startswith(options.only or ""):
                continue
            print(f"{label}, {name}", flush=True)
            found = survival(images, way, changes)
            print("   ", {key: value for key, value in found.items() if key != "survived"}, flush=True)
            if not options.quick:
                kept(f"{label}: {name}", found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
