"""512 px: drawn at 1024 and reduced, or enlarged from less to 512 directly? Measured on pictures one knows.

    python benchmarks/half_size.py PICTURE... [--model NAME_OR_FOLDER]

Each picture (at least 512 px a side) is reduced to 256 px and enlarged to 512 in three ways: to 1024 by the
upsampler and reduced; by the upsampler, which enlarges four times, from 128 px; by bicubic filtering, which
is the floor. Prints the mean peak signal-to-noise ratio against the picture itself, and the seconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import unclip
from unclip.drawing import Job
from unclip.images import fit_square, open_image, resize, to_tensor
from unclip.model import Model
from unclip.stages.stage import Batch, images_of
from unclip.stages.upsampler import Upsampler

UPSAMPLER = "upsampler-1024"


def enlarged(model: Model, low: Tensor, index: int) -> Tensor:
    """Four times as wide, (1, 3, S, S) -> (1, 3, 4 S, 4 S)."""
    return images_of(Upsampler.of(model.networks, UPSAMPLER), Batch((Job("", 0, index),), images=low))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    arguments = parser.parse_args()
    model = unclip.load(arguments.model)
    ways = {
        "1024, reduced": lambda low, k: resize(enlarged(model, low, k), 512),
        "128 to 512": lambda low, k: enlarged(model, resize(low, 128), k),
        "bicubic": lambda low, k: resize(low, 512),
    }
    ratios: dict[str, list[float]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for index, path in enumerate(arguments.pictures):
        picture = open_image(path)
        if min(picture.size) < 512:
            parser.error(f"{path} has {picture.width} x {picture.height} pixels: 512 a side are needed")
        whole = to_tensor(fit_square(picture, 512))[None]  # (1, 3, 512, 512)
        low = resize(whole, 256)
        for way, enlarge in ways.items():
            started = time.perf_counter()
            drawn = enlarge(low, index)
            seconds[way] += time.perf_counter() - started
            error = (drawn - whole).square().mean().clamp(min=1e-12)
            ratios[way].append(float(10 * torch.log10(4 / error)))  # the range is 2 wide
    for way, values in ratios.items():
        count = len(values)
        print(f"{way:<14} {sum(values) / count:6.2f} dB {seconds[way] / count:7.3f} s a picture")


if __name__ == "__main__":
    main()
