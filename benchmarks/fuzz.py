"""Throws broken pictures and senseless options at the package, and counts what it may never answer.

    python benchmarks/fuzz.py [--pictures 1000] [--options 500] [--commands 40] [--seed 0] [--quick]

Pictures of every kind are changed at random (bits, lengths, cuts, pieces of others) and handed in at the one
door for pictures. Options are keywords of the verbs that draw, with values from a list of good and bad ones,
on small untrained bundles of several families; some go through the command line. Allowed is a picture, or an
error of `unclip.errors` in one line. Counted are any other exception, the death of a process, more than 10 s
of processor time, more than 2 GiB of memory, and a picture that is black throughout. Each finding names the
number of its try, by which `--only` repeats it. Writes `benchmarks/results/fuzz.json`, with --quick nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import platform
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageDraw

HERE = Path(__file__).parent
os.environ |= {"OMP_NUM_THREADS": "1"}  # so that processor time is time
sys.path.insert(0, str(HERE.parent / "tests"))
RESULTS = HERE / "results"
SECONDS, BYTES = 10, 2 * 2**30
ADDRESSES = 2**40  # torch takes many more than it fills
PROMPT = "a red apple"
SIDE = 96  # pixels of a picture before it is changed


# --- pictures ---


@cache
def kinds() -> dict[str, bytes]:
    """A sound picture of each kind and way to write it."""
    grey = Image.linear_gradient("L").resize((SIDE, SIDE))
    colour = Image.merge("RGB", (grey, grey.rotate(90), grey.rotate(180)))
    ImageDraw.Draw(colour).ellipse((20, 20, 70, 70), fill=(200, 30, 30))
    clear = colour.copy()
    clear.putalpha(grey)
    sixteen = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"mine")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + '{"prompt": "x"}'.encode("utf-16-le")
    frames = {"save_all": True}
    written: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        *((f"png-{image.mode}", image, "PNG", {}) for image in (grey, colour, clear, sixteen)),
        *((f"png-{mode}", colour.convert(mode), "PNG", {}) for mode in ("1", "P", "LA")),
        ("png-profile", colour, "PNG", {"icc_profile": srgb, "exif": exif}),
        ("png-moves", colour, "PNG", frames),
        ("jpeg", colour, "JPEG", {"exif": exif}),
        ("jpeg-progressive", colour, "JPEG", {"progressive": True, "icc_profile": srgb}),
        ("jpeg-cmyk", colour.convert("CMYK"), "JPEG", {"icc_profile": profile}),
        ("jpeg-several", colour, "MPO", frames),
        ("webp", clear, "WEBP", {"exif": exif}),
        ("webp-lossless", clear, "WEBP", {"lossless": True}),
        ("webp-moves", colour, "WEBP", frames),
        ("avif", clear, "AVIF", {"speed": 10}),
        ("jpeg2000", clear, "JPEG2000", {}),
        ("jpeg2000-stream", colour, "JPEG2000", {"no_jp2": True, "irreversible": True}),
        ("gif", colour, "GIF", {}),
        ("gif-moves", colour, "GIF", frames),
        ("bmp", colour, "BMP", {}),
        ("bmp-P", colour.convert("P"), "BMP", {}),
        *(
            (f"tiff-{way}", colour, "TIFF", {"compression": way})
            for way in (None, "tiff_lzw", "jpeg", "zstd")
        ),
        ("tiff-pages", colour, "TIFF", frames),
        ("tiff-16", sixteen, "TIFF", {}),
    ]
    found = {}
    for name, image, kind, options in written:
        file = io.BytesIO()
        settings = {key: value for key, value in options.items() if value is not None}
        if "save_all" in settings:
            settings["append_images"] = [colour.rotate(40)]
        image.copy().save(file, kind, **settings)  # Pillow leaves settings of one format on the image
        found[name] = file.getvalue()
    found["heic"] = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(64)
    return found


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes of a file with one to four changes, mostly near its beginning, where its headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 4))):
        place = int(len(changed) * chance.random() ** chance.choice((1, 3, 6)))
        match chance.randrange(8):
            case 0:
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1 if changed:
                changed[min(place, len(changed) - 1)] ^= 1 << chance.randrange(8)
            case 2:  # a length, a side or an offset
                form = chance.choice((">I", "<I", ">H", "<H"))
                most = 2**32 - 1 if form[1] == "I" else 2**16 - 1
                number = chance.choice(
                    (0, 1, most, most // 2, most - chance.randrange(99), chance.randrange(most))
                )
                changed[place : place + struct.calcsize(form)] = struct.pack(form, number)
            case 3:
                del changed[place:]
            case 4:
                del changed[place : place + chance.randrange(1, 64)]
            case 5:
                changed[place:place] = chance.randbytes(chance.randrange(1, 64))
            case 6:  # a piece twice
                changed[place:place] = changed[place : place + chance.randrange(1, 4096)]
            case _:  # a piece of another kind
                other = chance.choice(list(kinds().values()))
                start = chance.randrange(len(other))
                changed[place : place + 64] = other[start : start + 64]
    return bytes(changed)


def open_picture(data: bytes) -> str:
    """Everything that is done with a picture that somebody hands in."""
    from unclip import images
    from unclip.data.rasterise import draw
    from unclip.data.records import Fit

    drawn = draw(data, 64, Fit.PAD)
    if (drawn.reason or "") == "broken" and not drawn.detail.startswith(("the picture", "InputError")):
        strange = drawn.detail.partition(":")[0]
        if strange.isidentifier() and strange.endswith("Error") and strange != "UnidentifiedImageError":
            raise RuntimeError(f"rasterise: {drawn.detail}")
    images.header(data)
    images.read_metadata(data)
    picture = images.open_image(data, first_frame=True, at_least=64)
    for how in ("pad", "crop", "crop-floor", "stretch"):
        images.fit(picture, 32, how)
    images.encode(images.opened(data)[0], "webp")
    return "read"


# --- options ---

NUMBERS: tuple[Any, ...] = (
    *(0, 1, 2, 3, -1, 7.5, 0.5, 1.0, -0.0, 1e-300, 1e300, -1e300, 10**400, 2**63, 2**64, -(2**63)),
    *(float("nan"), float("inf"), float("-inf"), True, False, None, "", "1", "nan", "ten", b"1", [], [1], {}),
    *(1j, (1, 2), np.int64(2), np.float32(0.5), np.float64("nan"), np.array(2), np.array([1, 2]), object()),
)
TEXTS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "\0",
        "\ufeff",
        "\ud800",
        "a" * 5000,
        "a" * 200_000,
        "🍎" * 500,
        "<end>",
        "{}",
        "../x",
        "ddim",
    ),
    *(
        "none",
        "ar",
        "diffusion",
        "heun",
        "DPM++",
        "crop",
        "pad",
        "stretch",
        "letterbox",
        None,
        3,
        b"x",
        ["x"],
    ),
    *("dpm++", "langevin", "ancestral", "analytic-dpm", "fast27", "10", "-1", "1e9", "\x1b[2J", "нет"),
)
# Values that are allowed, so that what lies behind them is reached as well.
GOOD: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("n", "frames", "rounds", "candidates"), (1, 2)),
    **dict.fromkeys(("left", "right", "top", "bottom"), (0, 8, 40)),
    **dict.fromkeys(("strength", "amount", "eta", "top_p"), (0.5, 1.0)),
    **dict.fromkeys(("guidance", "prior_guidance", "clip_guidance"), (0, 1.5, 50)),
    "size": (64, 256, None),
    "steps": (2, 4, "3"),
    "rerank": (2, 3),
    "temperature": (0.01, 1, 100),
    "top_k": (1, 9),
    "seed": (0, 2**64 - 1),
    "sampler": ("ddim", "heun"),
    "prior": ("none", "diffusion"),
    "fit": ("crop", "stretch"),
    "weights": ([1, 2], [0.5, 0.5]),
    "components": ([1, 2], [0]),
}


def pictures_to_give() -> tuple[Any, ...]:
    """Good pictures, and what is none."""
    sound = Image.open(io.BytesIO(kinds()["png-RGBA"]))
    holed = Image.new("RGBA", sound.size, (0, 0, 0, 255))
    holed.paste((0, 0, 0, 0), (10, 10, 60, 60))
    array = np.asarray(sound)
    return (
        *(sound, holed, sound, holed, sound, sound.convert("L"), Image.new("RGB", (1, 1)), array, array[:0]),
        *(Image.new("RGB", (1, 3000)), array.astype(float) / 0.3, np.full((3, 8, 8), np.nan, np.float32)),
        *(kinds()["jpeg"], b"", b"no picture", "/nowhere.png", "", "\0", None, 3, [], {}, object(), HERE),
    )


def value_for(name: str, verb: str, chance: random.Random) -> Any:
    """A good or bad value of a parameter."""
    if name in GOOD and chance.random() < 0.8:
        return chance.choice(GOOD[name])
    if name in ("image", "mask", "init", "start") and verb != "blend":
        return pictures_to_give()[0] if chance.random() < 0.85 else chance.choice(pictures_to_give())
    if name in ("images",):
        many = chance.choice((0, 1, 2, 2, 2, 2, 2, 3))
        return [value_for("image", "", chance) for _ in range(many)]
    if name in ("prompt", "to", "origin", "prompts"):
        return PROMPT if chance.random() < 0.9 else chance.choice(TEXTS)
    if name in ("weights", "components"):
        return chance.choice((*NUMBERS, [chance.choice(NUMBERS) for _ in range(chance.randrange(4))]))
    return chance.choice((*NUMBERS, *NUMBERS, *TEXTS))


def too_slow(settings: dict[str, Any]) -> bool:
    """True where many pictures or steps are asked for that are allowed."""
    most = {"n": 4, "rerank": 8, "frames": 8, "rounds": 8, "steps": 60, "left": 300, "right": 300}
    most |= {"top": 300, "bottom": 300, "candidates": 16}
    asked = ((settings.get(name), largest) for name, largest in most.items())
    return any(isinstance(value, (int, float)) and largest < value < 10**5 for value, largest in asked)


def option_set(number: int, seed: int) -> tuple[str, str, list[Any], dict[str, Any]]:
    """(family, verb, what is handed in, settings) of a try."""
    chance = random.Random(f"options {seed} {number}")
    family = chance.choice(("unclip", "unclip", "unclip", "dalle1", "dalle-mini"))
    verb = chance.choice(
        ("generate", "generate", "vary", "blend", "restyle", "reconstruct", "edit", "outpaint")
    )
    named = signature(verb)
    while True:
        given = [
            value_for(name, verb, chance)
            for name, parameter in named.items()
            if parameter.kind is not parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        ]
        names = [name for name, parameter in named.items() if parameter.kind is parameter.KEYWORD_ONLY]
        chosen = chance.sample(names, chance.choice((0, 1, 1, 2, 3, 5)))
        settings = {name: value_for(name, verb, chance) for name in chosen}
        if not too_slow(settings):
            return family, verb, given, settings


@cache
def signature(verb: str) -> dict[str, inspect.Parameter]:
    """The parameters of a verb of `unclip.Model`."""
    import unclip

    found = dict(inspect.signature(getattr(unclip.Model, verb)).parameters)
    return {name: one for name, one in found.items() if name != "self" and one.kind is not one.VAR_KEYWORD}


def write_bundles(folder: Path) -> None:
    """Small untrained bundles, one a family."""
    from support import tiny_bundles
    from unclip.bundle import save_bundle

    made = {
        "unclip": tiny_bundles.unclip_parts(),
        "dalle1": tiny_bundles.dalle1_parts(),
        "dalle-mini": tiny_bundles.dalle_mini_parts(folder),
    }
    for family, parts in made.items():
        save_bundle(folder / family, name=family, parts=parts, card="", family=family)


@cache
def model(folder: str) -> Any:
    """A bundle, loaded once."""
    import unclip

    return unclip.load(folder, device="cpu")


def draw_set(number: int, seed: int, folder: str) -> str:
    """One try of options."""
    family, verb, given, settings = option_set(number, seed)
    drawn = getattr(model(f"{folder}/{family}"), verb)(*given, **settings)
    for picture in drawn:
        if not np.asarray(picture.image).any():
            raise RuntimeError("a black picture")
        picture.encode()
    return "drawn"


# --- how a try ends ---


def judged(what: str, *arguments: Any) -> tuple[str, float, int]:
    """(end, seconds of the processor, most bytes) of a try, in the process that makes it."""
    from unclip.errors import UnclipError

    tried: Callable[..., str] = {"picture": open_picture, "options": draw_set}[what]
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began, started = time.process_time(), time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            end = tried(*arguments)
    except UnclipError as error:
        end = "refused" if len(str(error)) < 3000 else f"a message of {len(str(error))} characters"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        end = f"{type(error).__name__}: {error!s:.200} ({Path(place.filename).name}:{place.lineno})"
    seconds = min(time.process_time() - began, time.monotonic() - started)
    return end, seconds, peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process has held since the peak began anew."""
    from unclip.runtime import peak_memory_bytes

    return peak_memory_bytes()


def tries(what: str, arguments: Iterator[tuple[int, tuple[Any, ...]]], report: Report) -> None:
    """Makes tries one after the other, in a process that may die of them."""
    from unclip.processes import Contained, Died

    process = Contained("fuzz:judged", ADDRESSES)
    try:
        process("picture", b"", seconds=600)  # imports
        for number, given in arguments:
            try:
                end, seconds, peak = process(what, *given, seconds=3 * SECONDS)
            except Died as death:
                end, seconds, peak = f"the process ended (signal {death.signal})", 0.0, 0
            report.add(what, number, end, seconds, peak)
    finally:
        process.close()


class Report:
    """The counts, and the findings."""

    def __init__(self) -> None:
        self.ends: dict[str, Counter[str]] = {}
        self.findings: list[str] = []
        self.most_seconds: dict[str, float] = {}
        self.most_mib: dict[str, int] = {}

    def add(self, what: str, number: int, end: str, seconds: float, peak: int) -> None:
        """Enters a try."""
        sound = end in ("read", "drawn", "refused")
        wrong = [] if sound else [end]
        wrong += [f"{seconds:.1f} s"] if seconds > SECONDS else []
        wrong += [f"{peak / 2**20:.0f} MiB"] if peak > BYTES else []
        self.ends.setdefault(what, Counter())[end if sound and not wrong else "finding"] += 1
        self.most_seconds[what] = max(self.most_seconds.get(what, 0), round(seconds, 2))
        self.most_mib[what] = max(self.most_mib.get(what, 0), peak // 2**20)
        if wrong:
            self.findings.append(f"{what} {number}: {', '.join(wrong)}")
            print(self.findings[-1], flush=True)


def pictures(count: int, seed: int, only: int | None) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Changed pictures, by number."""
    names = list(kinds())
    for number in range(count) if only is None else [only]:
        chance = random.Random(f"picture {seed} {number}")
        yield number, (mutated(kinds()[names[number % len(names)]], chance),)


def options(count: int, seed: int, folder: str, only: int | None) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Sets of options, by number."""
    for number in range(count) if only is None else [only]:
        yield number, (number, seed, folder)


# --- the command line ---


def command(number: int, seed: int, folder: Path) -> list[str]:
    """A command of one of the verbs that draw, with options of any value."""
    import typer

    from unclip.cli import app

    chance = random.Random(f"command {seed} {number}")
    group = typer.main.get_command(app)
    verb = chance.choice(("generate", "vary", "blend", "restyle", "reconstruct", "edit", "outpaint"))
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    named = {one.name: one for one in commands[verb].params}
    words = [verb]
    for one in named.values():
        if one.param_type_name == "argument":
            picture = str(folder / "picture.png")
            words += [PROMPT if one.name in ("prompt", "prompts") else picture] * (
                2 if verb == "blend" else 1
            )
    usual = [f"--model={folder / 'unclip'}", f"--out={folder}", "--size=64"]
    left_out = {
        "help",
        "model",
        "out",
        "size",
        "preview",
        "json",
        "gif",
        "webp",
        "sheet",
        "from_file",
        "device",
    }
    choosable = [
        one for one in named.values() if one.param_type_name == "option" and one.name not in left_out
    ]
    values = [
        str(value) for value in (*NUMBERS, *TEXTS) if "\0" not in str(value) and "\ud800" not in str(value)
    ]
    values = [value for value in values if len(value) < 10_000]
    settings: dict[str, Any] = {}
    for one in chance.sample(choosable, chance.choice((1, 2, 3))):
        value = None if getattr(one, "is_flag", False) else chance.choice(values)
        words.append(one.opts[0] if value is None else f"{one.opts[0]}={value}")
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            settings[str(one.name)] = float(value or "")
    return command(number + 10**6, seed, folder) if too_slow(settings) else [*words, *usual]


# A process tells its peak itself: what its parent asks for begins with the parent's own size.
COMMAND = """
import sys
from unclip.cli import main
from unclip.runtime import peak_memory_bytes
path = sys.argv.pop(1)
code = main(sys.argv[1:])
open(path, "w").write(str(peak_memory_bytes()))
sys.exit(code)
"""


def run_command(number: int, words: Sequence[str], report: Report) -> None:
    """Runs a command as a person does."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile() as said, tempfile.NamedTemporaryFile("r") as peak:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, peak.name, *words], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=said, env=environment, timeout=600,
        )  # fmt: skip
        said.seek(0)
        text = said.read().decode(errors="replace")
        most = int(peak.read() or 0)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    end = {0: "drawn", 1: "refused", 2: "refused", 3: "refused"}.get(
        done.returncode, f"exit code {done.returncode}"
    )
    if "Traceback" in text or "bug in unclip" in text:
        end = text.strip().splitlines()[-1][:300]
    elif end == "refused" and not text.strip():
        end = "refused without a word"
    report.add("command", number, end, seconds, most)
    if end not in ("drawn", "refused"):
        print("   ", words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes all tries, and returns how many found something."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--options", type=int, default=500)
    parser.add_argument("--commands", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one try")
    parser.add_argument("--quick", action="store_true", help="write no results")
    chosen = parser.parse_args(arguments)
    report = Report()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "picture.png").write_bytes(kinds()["png-RGBA"])
        write_bundles(folder)
        if chosen.pictures:
            tries("picture", pictures(chosen.pictures, chosen.seed, chosen.only), report)
        if chosen.options:
            tries("options", options(chosen.options, chosen.seed, place, chosen.only), report)
        for number in (
            range(chosen.commands) if chosen.only is None else [chosen.only] * bool(chosen.commands)
        ):
            run_command(number, command(number, chosen.seed, folder), report)
    result = {
        "seed": chosen.seed,
        "python": platform.python_version(),
        "ends": {what: dict(sorted(ends.items())) for what, ends in report.ends.items()},
        "most_processor_seconds": report.most_seconds,
        "most_mib": report.most_mib,
        "findings": report.findings,
    }
    print(json.dumps(result, indent=1))
    if not chosen.quick and chosen.only is None:
        (RESULTS / "fuzz.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return len(report.findings)


if __name__ == "__main__":
    sys.exit(min(1, main()))
