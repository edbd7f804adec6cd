"""The smallest unCLIP there is, as a recipe, other recipes and parts of them, and pictures to learn from."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from support.shapes import draw
from unclip import recipes

COLOURS = ("red", "green", "blue", "orange", "purple", "black")

HEAD = """
description = "tiny"
family = "{family}"
[bundle]
name = "{name}"
licence = "CC0-1.0"
data = "shapes"
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
VQGAN = """
[vqvae.model.vqgan]
vocabulary = 32
embedding = 4
latent = 32
channels = 32
multipliers = [1]
blocks = 1
attention = []
patch = 8
"""
DALLE1 = """
[dalle1.model]
text_context = 24
grid = 4
width = 32
layers = 3
heads = 2
kernel = 3
"""
SMALL_UNET = """
image_size = 16
channels = 8
widths = [8]
blocks = 1
attention = [1]
head_channels = 8
patch = 2
"""
TWO_STEPS = """
steps = 2
batch = 8
preview_steps = 0
tensorboard = false
precision = "float32"
"""
# All stages that there are, of two steps each; no family has them all, so there is no bundle of them.
EVERY_STAGE = f"""
{UNCLIP}
[supervised.model.image]
kind = "resnet"
image_size = 32
layers = [1, 1, 1, 1]
width = 8
heads = 4
[supervised.task]
styles = 1
shift = 2
[supervised.train]
{TWO_STEPS}
{VQGAN}
[vqvae.task]
size = 32
perceptual = 0.1
[vqvae.train]
{TWO_STEPS}
{DALLE1}
[dalle1.task]
copies = 2
shift = 2
code_keep = 0.8
[dalle1.train]
{TWO_STEPS}
[noised-clip.model]
embedding = 16
[noised-clip.model.image]
kind = "vit"
image_size = 16
patch = 8
width = 16
layers = 1
heads = 2
[noised-clip.model.text]
kind = "transformer"
context = 24
width = 16
layers = 1
heads = 2
[noised-clip.train]
{TWO_STEPS}
[glide.model]
{SMALL_UNET}
[glide.model.caption]
context = 24
width = 16
layers = 1
heads = 2
[glide.diffusion]
schedule = "cosine"
prediction = "x0"
[glide.train]
{TWO_STEPS}
[classifier.model]
{SMALL_UNET}
[classifier.task.pictures]
by = "concept"
[classifier.train]
{TWO_STEPS}
[adm.model]
{SMALL_UNET}
[adm.task.pictures]
by = "concept"
shift = 2
[adm.diffusion]
schedule = "cosine"
prediction = "x0"
[adm.train]
{TWO_STEPS}
"""


def every_stage(*settings: str) -> dict[str, Any]:
    """The recipe of all stages, of two steps each, with settings such as `clip.train.seed=1`."""
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(EVERY_STAGE)
        file.flush()
        recipe = recipes.load(file.name)
        tables = [key for key, _ in recipes.train_tables(recipe)]
        quick = [f"{table}.{setting}" for table in tables for setting in ("steps=2", "tensorboard=false")]
        recipe = recipes.load(file.name, [*quick, *settings])
    del recipe["bundle"]
    return recipe


def draw_shapes(folder: Path) -> None:
    """Forty-eight shapes as SVG, with captions."""

    def describe(colour: str, shape: str) -> dict[str, Any]:
        captions = {"en": [f"a {colour} {shape}"], "de": [f"{shape} ({colour})"]}
        return {"captions": captions, "concept": f"{colour} {shape}"}

    draw(folder, COLOURS, {"thin": 3, "thick": 9}, describe)
