"""Ways to train the decoder fast on a CPU: memory layout, group normalisation, attention.

    python benchmarks/training.py benchmarks/results/training.json

Forward and backward passes of the shipped decoder over random pictures, in bfloat16, all ways in turn in
every round; the result holds the median of the rounds and their spread. Optimiser and data are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.bundle import Bundle
from unclip.models.decoder import Decoder, DecoderCondition
from unclip.nn import group_norm, unet
from unclip.runtime import atomic_path, autocast

TOKENS = 24  # of a caption
WAYS = {  # channels-last, our group normalisation, plain products in attention
    "plain layout, torch's norm and attention": (False, False, False),
    "channels-last, torch's norm and attention": (True, False, False),
    "channels-last, our norm, torch's attention": (True, True, False),
    "channels-last, our norm, plain products": (True, True, True),
}


def fused(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, allowed)


@contextmanager
def in_the_way(own_norm: bool, products: bool) -> Iterator[None]:
    """Torch's own in place of ours, where asked for."""
    with ExitStack() as stack:
        if not own_norm:
            stack.enter_context(mock.patch.object(group_norm, "_channels_last_on_cpu", return_value=False))
        if not products:
            stack.enter_context(mock.patch.object(unet, "attention", fused))
        yield


def condition(decoder: Decoder, batch: int) -> DecoderCondition:
    config = decoder.config
    kept = torch.ones(batch, dtype=torch.bool)
    assert config.text_width is not None
    given = DecoderCondition(
        torch.randn(batch, config.embedding),
        kept,
        sequence=torch.randn(batch, TOKENS, config.text_width),
        mask=torch.ones(batch, TOKENS, dtype=torch.bool),
        keep_text=kept,
        noise_level=torch.rand(batch) if config.noisy_embedding else None,
    )
    if not config.inpainting:
        return given
    side = config.image_size
    return replace(given, known=torch.zeros(batch, 3, side, side), keep=torch.zeros(batch, 1, side, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the result, JSON")
    parser.add_argument("--model", default="pictograms", help="name or folder of a bundle")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    bundle, batch = Bundle.load(arguments.model), arguments.batch
    side = bundle.config("decoder").image_size
    x, label = torch.randn(batch, 3, side, side), 1000 * torch.rand(batch)
    models = {}
    for last in (False, True):
        model = bundle.model("decoder", dtype=torch.float32)
        assert isinstance(model, Decoder)
        model.train().requires_grad_(True)
        if model.layout is not None:
            model.layout.requires_grad_(False)  # as in training
        models[last] = model.to(memory_format=torch.channels_last) if last else model
    given = condition(models[False], batch)

    def step(way: tuple[bool, bool, bool]) -> float:
        last, own_norm, products = way
        began = time.perf_counter()
        with in_the_way(own_norm, products):
            with autocast(torch.device("cpu"), torch.bfloat16):
                loss = models[last](x, label, given).float().square().mean()
            loss.backward()
        models[last].zero_grad()
        return time.perf_counter() - began

    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for round_ in range(arguments.rounds + 1):
        for name, way in WAYS.items():
            took = step(way)
            if round_:  # the first one warms up
                seconds[name].append(took)
    rates = {
        name: {
            "pictures_per_second": round(batch / statistics.median(times), 1),
            "lowest": round(batch / max(times), 1),
            "highest": round(batch / min(times), 1),
        }
        for name, times in seconds.items()
    }
    result = {"batch": batch, "threads": arguments.threads, "rounds": arguments.rounds, "ways": rates}
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
