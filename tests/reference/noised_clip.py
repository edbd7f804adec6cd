"""GLIDE's CLIP for noised pictures written a second time, the plain way, and a vocabulary like GPT-2's.

One picture, one text and one head at a time, over tensors in the published names.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch
from torch import Tensor

from reference.guided import Shapes, State, attend, gelu, layer_norm, random_state
from unclip.tokenizer.clip import byte_alphabet

VOCABULARY = 260
NOISED = {"width": 128, "layers": 2, "embedding": 24}


def noised_clip_shapes(
    which: str, *, width: int, layers: int, embedding: int, patches: int, patch: int, context: int, words: int
) -> Shapes:
    """Names and shapes of one encoder of the noised CLIP, by glide-text2im's clip/encoders.py."""
    if which == "image":
        shapes: Shapes = {
            "blocks.input.w_t": (1000, width),
            "blocks.input.patch_proj": (width, 3, patch, patch),
            "blocks.input.w_pos": (1 + patches, width),
            "blocks.input.ln.g": (width,),
            "blocks.input.ln.b": (width,),
        }
    else:
        shapes = {"blocks.input.w_voc": (words, width), "blocks.input.w_pos": (context, width)}
    for i in range(layers):
        block = f"blocks.block_{i}"
        for name in (f"{block}.f_attn.ln", f"{block}.f_mlp.ln"):
            shapes |= {f"{name}.g": (width,), f"{name}.b": (width,)}
        for name in ("q", "k", "v", "c"):
            shapes[f"{block}.f_attn.f_{name}.w"] = (width, width)
            if name != "k":
                shapes[f"{block}.f_attn.f_{name}.b"] = (width,)
        shapes |= {f"{block}.f_mlp.f_1.w": (4 * width, width), f"{block}.f_mlp.f_1.b": (4 * width,)}
        shapes |= {f"{block}.f_mlp.f_2.w": (width, 4 * width), f"{block}.f_mlp.f_2.b": (width,)}
    shapes |= {"blocks.output.ln.g": (width,), "blocks.output.ln.b": (width,)}
    return shapes | {"blocks.output.f.w": (embedding, width)}


def noised_clip(which: str) -> State:
    return random_state(
        noised_clip_shapes(which, **NOISED, patches=16, patch=4, context=7, words=49_408), seed=len(which)
    )


def naive_tower(state: State, tokens: Tensor, causal: bool) -> Tensor:
    """The blocks over one row of tokens (N, W)."""
    length, width = tokens.shape
    mask = torch.ones(length, length, dtype=torch.bool).tril() if causal else None
    for i in range(NOISED["layers"]):
        p = {name.removeprefix(f"blocks.block_{i}."): value for name, value in state.items()}
        x = layer_norm(tokens, p["f_attn.ln.g"], p["f_attn.ln.b"])
        query = x @ p["f_attn.f_q.w"].T + p["f_attn.f_q.b"]
        key = x @ p["f_attn.f_k.w"].T
        value = x @ p["f_attn.f_v.w"].T + p["f_attn.f_v.b"]
        heads = [slice(start, start + 64) for start in range(0, width, 64)]
        done = torch.cat([attend(query[:, h], key[:, h], value[:, h], mask) for h in heads], dim=1)
        tokens = tokens + done @ p["f_attn.f_c.w"].T + p["f_attn.f_c.b"]
        x = layer_norm(tokens, p["f_mlp.ln.g"], p["f_mlp.ln.b"])
        x = gelu(x @ p["f_mlp.f_1.w"].T + p["f_mlp.f_1.b"])
        tokens = tokens + x @ p["f_mlp.f_2.w"].T + p["f_mlp.f_2.b"]
    return tokens


def naive_image(state: State, image: Tensor, label: int) -> Tensor:
    """The published image encoder: one picture (3, S, S) in [-1, 1] -> its unit vector."""
    means = torch.tensor([122.77093945, 116.74601272, 104.09373519])[:, None, None]
    deviations = torch.tensor([68.50053285, 66.63215831, 70.32316309])[:, None, None]
    x = ((image + 1) * 127.5 - means) / deviations
    kernel = state["blocks.input.patch_proj"]
    patches = [
        (x[:, i : i + 4, j : j + 4] * kernel).sum((1, 2, 3))
        for i in range(0, x.shape[1], 4)
        for j in range(0, x.shape[2], 4)
    ]
    tokens = torch.stack([state["blocks.input.w_t"][label], *patches]) + state["blocks.input.w_pos"]
    tokens = layer_norm(tokens, state["blocks.input.ln.g"], state["blocks.input.ln.b"])
    first = naive_tower(state, tokens, causal=False)[0]
    out = layer_norm(first, state["blocks.output.ln.g"], state["blocks.output.ln.b"])
    out = out @ state["blocks.output.f.w"].T
    return out / out.norm()


def naive_text(state: State, ids: list[int], length: int) -> Tensor:
    """The published text encoder: tokens padded to the context, and how many of them are real."""
    tokens = state["blocks.input.w_voc"][torch.tensor(ids)] + state["blocks.input.w_pos"]
    last = naive_tower(state, tokens, causal=True)[length - 1]
    out = layer_norm(last, state["blocks.output.ln.g"], state["blocks.output.ln.b"])
    out = out @ state["blocks.output.f.w"].T
    return out / out.norm()


def vocabulary(folder: Path) -> Path:
    """GPT-2's files as glide-text2im has them, with three merges."""
    words = [*sorted(byte_alphabet()), "re", "\u0120a", "red", "<|endoftext|>"]
    assert len(words) == VOCABULARY
    (folder / "encoder.json.gz").write_bytes(
        gzip.compress(json.dumps({word: i for i, word in enumerate(words)}).encode())
    )
    merges = "#version: 0.2\nr e\n\u0120 a\nre d\n"
    (folder / "vocab.bpe.gz").write_bytes(gzip.compress(merges.encode()))
    return folder
