"""Draw with Karlo's architecture beside Diffusers: the same weights, steps and noise, both in one run.

    python benchmarks/karlo.py [--width 64] [--batches 1,4] [--full-steps] [--device cpu] [--out FILE]

A random UnCLIPPipeline is saved, converted and drawn with by both: whole pipeline and by stage, float32 and
bfloat16, one picture and four, each in a child process of its own whose peak memory is kept. On a CPU the
widths are reduced to `--width` channels at the first level (320 in Karlo), and the report says so; ours holds
one network at a time there (`offload`), which Diffusers can on accelerators only. `--width 320` on a GPU is
Karlo itself. `--full-steps` adds single steps of the full-size networks, which hold 4 GB each. Writes
`benchmarks/results/karlo-PROCESSOR-DEVICE-WIDTH.json`. Diffusers and transformers must be installed. Leave
the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from places import result_path
from torch import nn

from unclip import __version__
from unclip.bundle import save_bundle
from unclip.checkpoints import karlo_diffusers
from unclip.checkpoints.foreign import Source
from unclip.model import load
from unclip.models import decoder as decoders
from unclip.models import prior as priors
from unclip.models import upsampler as upsamplers
from unclip.models.decoder import Decoder, DecoderCondition
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.models.upsampler import Upsampler
from unclip.runtime import peak_memory_bytes, processor_name

TESTS = Path(__file__).parent.parent / "tests"
KARLO_WIDTH = 320
PROMPT = "a red apple on a wooden table"
STEPS = (25, 25, 7)
TARGETS = {"cpu": (0.8, 0.6), "cuda": (0.4, 1.0)}  # time and peak memory, as shares of Diffusers'
STAGES = ("prior", "decoder", "upsampler")

Row = dict[str, Any]


def _waits(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def _memory(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_memory_bytes()


def widened(interpolate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`F.interpolate` by way of float32: Diffusers asks for bicubic in bfloat16, which a CPU has not."""

    def wide(image: torch.Tensor, **options: Any) -> torch.Tensor:
        return interpolate(image.float(), **options).to(image.dtype)

    return wide


def theirs(folder: Path, device: str, dtype: torch.dtype, batch: int) -> Row:
    """Diffusers: seconds of the whole pipeline and of each stage, with the peak memory of this process."""
    sys.path.insert(0, str(TESTS))
    from reference import karlo

    pipe = karlo.loaded(folder, dtype).to(device)
    module = sys.modules[type(pipe).__module__]
    module.F = SimpleNamespace(**{**vars(F), "interpolate": widened(F.interpolate)})
    networks = {
        "prior": [pipe.prior],
        "decoder": [pipe.decoder],
        "upsampler": [pipe.super_res_first, pipe.super_res_last],
    }
    seconds, wait = dict.fromkeys(STAGES, 0.0), _waits(device)

    def watch(stage: str, network: nn.Module) -> None:
        started = 0.0

        def before(*_: Any) -> None:
            nonlocal started
            wait()
            started = time.perf_counter()

        def after(*_: Any) -> None:
            wait()
            seconds[stage] += time.perf_counter() - started

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)

    for stage, parts in networks.items():
        for network in parts:
            watch(stage, network)

    def draw(steps: tuple[int, int, int]) -> None:
        pipe(
            [PROMPT] * batch,
            prior_num_inference_steps=steps[0],
            decoder_num_inference_steps=steps[1],
            super_res_num_inference_steps=steps[2],
            output_type="np",
        )

    draw((2, 2, 2))  # warm
    seconds.update(dict.fromkeys(STAGES, 0.0))
    started = time.perf_counter()
    draw(STEPS)
    wait()
    return {"seconds": time.perf_counter() - started, **seconds, "memory": _memory(device)}


def ours(folder: Path, device: str, dtype: torch.dtype, batch: int) -> Row:
    """This package, the same figures; a stage's seconds are those of its events, sampling included."""
    offload = device == "cpu"  # where Diffusers cannot
    model = load(folder, device=device, precision=str(dtype).removeprefix("torch."), offload=offload)
    size = model.sizes[-1]
    model.generate(PROMPT, n=batch, size=size, seed=0, steps=2)  # warm
    wait = _waits(device)
    wait()
    seconds, started = dict.fromkeys(STAGES, 0.0), time.perf_counter()
    for event in model.stream(PROMPT, n=batch, size=size, seed=0):
        stage = event.stage.split("-")[0]
        if stage in seconds:
            seconds[stage] += event.seconds
    wait()
    return {"seconds": time.perf_counter() - started, **seconds, "memory": _memory(device)}


SIDES = {"diffusers": theirs, "unclip": ours}


def full_steps(device: str) -> Row:
    """Seconds of a full-size step of our prior and decoder (batch 2) and upsampler (1), random weights."""
    found: Row = {}
    for dtype in (torch.float32, torch.bfloat16):
        for name, step in (
            ("prior", _prior_step),
            ("decoder", _decoder_step),
            ("upsampler", _upsampler_step),
        ):
            run = step(torch.device(device), dtype)
            with torch.inference_mode():
                run()
                started = time.perf_counter()
                run()
                _waits(device)()
            found[f"{name} {str(dtype).removeprefix('torch.')}"] = time.perf_counter() - started
            del run
    return found


def _prior_step(device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    config = priors.KARLO
    model = DiffusionPrior(config).eval().to(device, dtype)
    tokens = torch.randn(2, 16, config.text_width, device=device, dtype=dtype)
    mask, keep = (
        torch.ones(2, 16, dtype=torch.bool, device=device),
        torch.ones(2, dtype=torch.bool, device=device),
    )
    embedding = torch.randn(2, config.embedding, device=device, dtype=dtype)
    with torch.inference_mode():
        read = model.read(PriorCondition(embedding, tokens, mask, keep))
    return lambda: model(embedding, torch.full((2,), 500.0, device=device), read)


def _decoder_step(device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    config = decoders.KARLO
    model = Decoder(config).eval().to(device, dtype)
    embedding = torch.randn(2, config.embedding, device=device, dtype=dtype)
    condition = DecoderCondition(
        embedding=embedding,
        keep_image=torch.tensor([True, False], device=device),
        sequence=torch.randn(2, 16, config.embedding, device=device, dtype=dtype),
        mask=torch.ones(2, 16, dtype=torch.bool, device=device),
        text_embedding=embedding,
    )
    with torch.inference_mode():
        read = model.read(condition)
    x = torch.randn(2, 3, config.image_size, config.image_size, device=device, dtype=dtype)
    return lambda: model(x, torch.full((2,), 500.0, device=device), read)


def _upsampler_step(device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    config = upsamplers.KARLO
    model = Upsampler(config).eval().to(device, dtype)
    low = torch.randn(1, 3, config.low_size, config.low_size, device=device, dtype=dtype)
    x = torch.randn(1, 3, config.high_size, config.high_size, device=device, dtype=dtype)
    return lambda: model(x, torch.full((1,), 500.0, device=device), low)


def prepare(width: int, folder: Path) -> None:
    """A random pipeline of Karlo's layout at that width, saved as theirs and converted to ours."""
    sys.path.insert(0, str(TESTS))
    from reference import karlo

    sizes = karlo.of_width(width)
    karlo.pipeline(folder / "vocabulary", sizes).save_pretrained(folder / "theirs")
    made = karlo_diffusers.FORMAT.read(Source(folder / "theirs"))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        save_bundle(folder / name, name="karlo", parts=made.parts, card="", family=made.family, dtype=dtype)


def child(arguments: list[str]) -> Row:
    """Run this file once more for one measurement, alone in its process."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True, env=os.environ, text=True
    )
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def compare(width: int, device: str, batches: Sequence[int], *, full: bool) -> Row:
    """All figures."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        child(["--prepare", temporary, "--width", str(width)])
        for precision in ("float32", "bfloat16"):
            for batch in batches:
                row: Row = {"precision": precision, "batch": batch}
                for side in SIDES:
                    place = folder / ("theirs" if side == "diffusers" else precision)
                    row[side] = child(
                        [
                            *("--side", side, "--folder", str(place), "--precision", precision),
                            *("--batch", str(batch), "--device", device),
                        ]
                    )
                    print(side, row, file=sys.stderr)
                rows.append(row)
    report: Row = {
        "version": __version__,
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name(),
        "threads": torch.get_num_threads(),
        "device": device,
        "width": width,
        "full_size": width == KARLO_WIDTH,
        "steps": STEPS,
        "rows": rows,
    }
    if full:
        report["full_size_steps"] = child(["--steps-alone", "--device", device])
    return report


def table(report: Row) -> str:
    """The figures as Markdown."""
    size = "full size" if report["full_size"] else f"width {report['width']} in place of {KARLO_WIDTH}"
    lines = [
        f"{report['device']}, {size}, {'/'.join(map(str, report['steps']))} steps; shares are of Diffusers'",
        "",
        "| precision | batch | Diffusers s | unclip s | share | prior | decoder | upsampler | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        other, own = row["diffusers"], row["unclip"]
        shares = [own[key] / other[key] for key in ("seconds", *STAGES, "memory")]
        cells = [f"{share:.2f}" for share in shares]
        lines.append(
            f"| {row['precision']} | {row['batch']} | {other['seconds']:.2f} | {own['seconds']:.2f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, write, print; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64, help="channels of the first level, a multiple of 64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", default="1,4", help="numbers of pictures, with commas")
    parser.add_argument("--full-steps", action="store_true")
    parser.add_argument("--out", type=Path)
    for hidden in ("--prepare", "--side", "--folder", "--precision"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps-alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.prepare:
        prepare(given.width, Path(given.prepare))
        print("{}")
        return 0
    if given.steps_alone:
        print(json.dumps(full_steps(given.device)))
        return 0
    if given.side:
        dtype = getattr(torch, given.precision)
        print(json.dumps(SIDES[given.side](Path(given.folder), given.device, dtype, given.batch)))
        return 0
    batches = [int(batch) for batch in given.batches.split(",")]
    report = compare(given.width, given.device, batches, full=given.full_steps)
    path = given.out or result_path("karlo", report["machine"], given.device.replace(":", "-"), given.width)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    time_share, memory_share = TARGETS["cuda" if given.device.startswith("cuda") else "cpu"]
    missed = 0
    for row in report["rows"]:
        for name, share in (("seconds", time_share), ("memory", memory_share)):
            found = row["unclip"][name] / row["diffusers"][name]
            missed += found > share
            verdict = "met" if found <= share else "MISSED"
            print(f"{row['precision']} {row['batch']} {name:<8} {found:5.2f} of {share:.2f}  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
