"""The smallest unCLIP there is, as a recipe, parts of other recipes, and pictures to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.shapes import draw

COLOURS = ("red", "green", "blue", "orange", "purple", "black")

HEAD = """
description = "tiny"
family = "{family}"
[bundle]
name = "{name}"
licence = "CC0-1.0"
data = "shapes"
command = "unclip train tiny.toml"
limits = "It knows shapes."
"""
CLIP = """
[tokenizer]
vocabulary = 300
[clip.model]
embedding = 16
[clip.model.image]
kind = "vit"
image_size = 32
patch = 16
width = 16
layers = 1
heads = 2
[clip.model.text]
kind = "transformer"
context = 24
width = 16
layers = 1
heads = 2
"""
UNCLIP = f"""
{HEAD.format(family="unclip", name="tiny")}
{CLIP}
[clip.train]
steps = 3
batch = 8
evaluate_steps = 2
[prior.model]
context = 24
width = 16
layers = 1
heads = 2
[prior.diffusion]
schedule = "cosine"
prediction = "x0"
[prior.sampling]
steps = 3
[prior.train]
steps = 3
batch = 8
evaluate_steps = 3
[ar-prior.model]
context = 24
buckets = 16
dot_buckets = 4
width = 16
layers = 1
heads = 2
[ar-prior.sampling]
guidance = 2.0
[ar-prior.task]
variance = 0.9
[ar-prior.train]
steps = 3
batch = 8
evaluate_steps = 3
[upsampler-256.model]
patch = 8
channels = 8
multipliers = [1, 2]
blocks = 1
dropout = 0.0
[upsampler-256.diffusion]
schedule = "cosine"
prediction = "v"
[upsampler-256.sampling]
steps = 2
[upsampler-256.train]
steps = 2
batch = 4
preview_steps = 2
[upsampler-1024.model]
low_size = 256
high_size = 1024
patch = 32
channels = 16 # with fewer, oneDNN 3.12 on AMX writes beyond the bias gradient
multipliers = [1]
blocks = 1
dropout = 0.0
[upsampler-1024.diffusion]
schedule = "linear"
prediction = "v"
[upsampler-1024.sampling]
steps = 2
[upsampler-1024.task]
crop = 256
degradation = "bsr"
[upsampler-1024.train]
steps = 2
batch = 2
[layout.model]
side = 8
width = 64
[layout.train]
steps = 60
batch = 32
learning_rate = 3e-3
warmup = 0
evaluate_steps = 60
preview_steps = 60
ema = []
[decoder.model]
image_size = 64
patch = 8
channels = 8
multipliers = [1, 2]
blocks = 1
attention = [2]
head_channels = 8
context = 8
noisy_embedding = true
[decoder.diffusion]
schedule = "cosine"
prediction = "v"
learned_range = true
[decoder.sampling]
steps = 3
noise_level = 0.1
[decoder.task]
embedding_noise = 0.5
weighting = "soft-min-snr"
[decoder.train]
steps = 3
batch = 4
preview_steps = 3
evaluate_steps = 3
"""


def draw_shapes(folder: Path) -> None:
    """Forty-eight shapes as SVG, with captions."""

    def describe(colour: str, shape: str) -> dict[str, Any]:
        captions = {"en": [f"a {colour} {shape}"], "de": [f"{shape} ({colour})"]}
        return {"captions": captions, "concept": f"{colour} {shape}"}

    draw(folder, COLOURS, {"thin": 3, "thick": 9}, describe)
