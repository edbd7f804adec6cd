"""A second CLIP, naive and functional, over tensors by OpenAI's names, to compare with.

Written from the layout of openai/CLIP (clip/model.py), without sharing a line with `unclip.models`:
attention is torch's own `multi_head_attention_forward`, one head width for all, QuickGELU or GELU by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]
HEAD = 64


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    statistics = {f"{name}.running_{what}": (width,) for what in ("mean", "var")}
    return {**_norm_shapes(name, width), **statistics, f"{name}.num_batches_tracked": ()}


def _linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def transformer_shapes(name: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
        }
        shapes |= _linear_shapes(f"{block}.attn.out_proj", width, width)
        shapes |= _linear_shapes(f"{block}.mlp.c_fc", width, 4 * width)
        shapes |= _linear_shapes(f"{block}.mlp.c_proj", 4 * width, width)
        shapes |= _norm_shapes(f"{block}.ln_1", width) | _norm_shapes(f"{block}.ln_2", width)
    return shapes


def text_shapes(
    embedding: int, width: int, layers: int, vocabulary: int, context: int
) -> dict[str, tuple[int, ...]]:
    return {
        "token_embedding.weight": (vocabulary, width),
        "positional_embedding": (context, width),
        "text_projection": (width, embedding),
        "logit_scale": (),
        **_norm_shapes("ln_final", width),
        **transformer_shapes("transformer", width, layers),
    }


def vit_shapes(embedding: int, size: int, patch: int, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    return {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((size // patch) ** 2 + 1, width),
        "visual.proj": (width, embedding),
        "visual.conv1.weight": (width, 3, patch, patch),
        **_norm_shapes("visual.ln_pre", width),
        **_norm_shapes("visual.ln_post", width),
        **transformer_shapes("visual.transformer", width, layers),
    }


def resnet_shapes(
    embedding: int, size: int, layers: tuple[int, int, int, int], width: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for i, outputs in enumerate((width // 2, width // 2, width), 1):
        shapes[f"visual.conv{i}.weight"] = (outputs, channels, 3, 3)
        shapes |= _batch_norm_shapes(f"visual.bn{i}", outputs)
        channels = outputs
    for stage, blocks in enumerate(layers, 1):
        inner = width * 2 ** (stage - 1)
        for j in range(blocks):
            block = f"visual.layer{stage}.{j}"
            convolutions = ((channels, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1))
            for k, (inputs, outputs, side) in enumerate(convolutions, 1):
                shapes[f"{block}.conv{k}.weight"] = (outputs, inputs, side, side)
                shapes |= _batch_norm_shapes(f"{block}.bn{k}", outputs)
            if j == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * inner, channels, 1, 1)
                shapes |= _batch_norm_shapes(f"{block}.downsample.1", 4 * inner)
            channels = 4 * inner
    pool = "visual.attnpool"
    shapes[f"{pool}.positional_embedding"] = ((size // 32) ** 2 + 1, channels)
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes |= _linear_shapes(f"{pool}.{name}", channels, channels)
    return shapes | _linear_shapes(f"{pool}.c_proj", channels, embedding)


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights that hide nothing: norms that scale and shift, biases and running statistics that count."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 0.5 + noise.square()
        elif name == "logit_scale":
            state[name] = torch.tensor(math.log(50.0))
        elif len(shape) == 1 and name.endswith("weight"):
            state[name] = 1 + 0.3 * noise
        elif len(shape) == 1:
            state[name] = 0.3 * noise
        else:
            state[name] = noise * math.prod(shape[1:]) ** -0.5
    return state


def _layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def _linear(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _activation(x: Tensor, quick: bool) -> Tensor:
    return x / (1 + (-1.702 * x).exp()) if quick else nn.GELU()(x)


def _transformer(x: Tensor, state: State, name: str, heads: int, causal: bool, quick: bool) -> Tensor:
    """(B, N, W) -> (B, N, W)."""
    layers = len(
        {key.split(".")[len(name.split(".")) + 1] for key in state if key.startswith(f"{name}.resblocks.")}
    )
    count = x.shape[1]
    mask = torch.full((count, count), float("-inf")).triu(1) if causal else None
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        y = _layer_norm(x, state, f"{block}.ln_1").transpose(0, 1)  # (N, B, W)
        y, _ = F.multi_head_attention_forward(
            y,
            y,
            y,
            y.shape[-1],
            heads,
            state[f"{block}.attn.in_proj_weight"],
            state[f"{block}.attn.in_proj_bias"],
            None,
            None,
            False,
            0.0,
            state[f"{block}.attn.out_proj.weight"],
            state[f"{block}.attn.out_proj.bias"],
            training=False,
            need_weights=False,
            attn_mask=mask,
        )
        x = x + y.transpose(0, 1)
        y = _linear(_layer_norm(x, state, f"{block}.ln_2"), state, f"{block}.mlp.c_fc")
        x = x + _linear(_activation(y, quick), state, f"{block}.mlp.c_proj")
    return x


def encode_text(ids: Tensor, state: State, *, quick: bool = True) -> Tensor:
    """(B, L) with the largest id at the end of each text -> (B, E)."""
    width = state["ln_final.weight"].shape[0]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    x = _transformer(x, state, "transformer", max(1, width // HEAD), True, quick)
    x = _layer_norm(x, state, "ln_final")[range(len(ids)), ids.argmax(1)]
    return x @ state["text_projection"]


def encode_vit(images: Tensor, state: State, *, quick: bool = True) -> Tensor:
    """Normalised (B, 3, S, S) -> (B, E)."""
    weight = state["visual.conv1.weight"]
    x = F.conv2d(images, weight, stride=weight.shape[-1])  # (B, W, G, G)
    x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1)  # (B, P, W)
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = _layer_norm(torch.cat([first, x], 1) + state["visual.positional_embedding"], state, "visual.ln_pre")
    x = _transformer(x, state, "visual.transformer", max(1, x.shape[-1] // HEAD), False, quick)
    return _layer_norm(x[:, 0], state, "visual.ln_post") @ state["visual.proj"]


def _batch_norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{what}"].view(-1, 1, 1) for what in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def _bottleneck(x: Tensor, state: State, name: str, stride: int) -> Tensor:
    y = _batch_norm(F.conv2d(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1").relu()
    y = _batch_norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2").relu()
    y = F.avg_pool2d(y, stride)
    y = _batch_norm(F.conv2d(y, state[f"{name}.conv3.weight"]), state, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(F.avg_pool2d(x, stride), state[f"{name}.downsample.0.weight"])
        x = _batch_norm(x, state, f"{name}.downsample.1")
    return (x + y).relu()


def encode_resnet(images: Tensor, state: State) -> Tensor:
    """Normalised (B, 3, S, S) -> (B, E)."""
    x = images
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.conv2d(x, state[f"visual.conv{i}.weight"], stride=stride, padding=1)
        x = _batch_norm(x, state, f"visual.bn{i}").relu()
    x = F.avg_pool2d(x, 2)
    for stage in (1, 2, 3, 4):
        j = 0
        while f"visual.layer{stage}.{j}.conv1.weight" in state:
            x = _bottleneck(x, state, f"visual.layer{stage}.{j}", 2 if stage > 1 and j == 0 else 1)
            j += 1
    x = x.flatten(2).permute(2, 0, 1)  # (P, B, C)
    pool = "visual.attnpool"
    x = torch.cat([x.mean(0, keepdim=True), x]) + state[f"{pool}.positional_embedding"][:, None]
    channels = x.shape[-1]
    y, _ = F.multi_head_attention_forward(
        x[:1],
        x,
        x,
        channels,
        max(1, channels // HEAD),
        None,
        torch.cat([state[f"{pool}.{name}_proj.bias"] for name in "qkv"]),
        None,
        None,
        False,
        0.0,
        state[f"{pool}.c_proj.weight"],
        state[f"{pool}.c_proj.bias"],
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=state[f"{pool}.q_proj.weight"],
        k_proj_weight=state[f"{pool}.k_proj.weight"],
        v_proj_weight=state[f"{pool}.v_proj.weight"],
    )
    return y[0]
