"""guided-diffusion's and GLIDE's networks written a second time, the plain way, over tensors in their names.

Nothing of the package is used. `unet_shapes` lists what a file holds, by the rules of the published
constructors; `unet` and the others compute with such tensors, one head and one group at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

GROUPS = 32


def random_state(shapes: Shapes, seed: int = 0) -> State:
    """Tensors of these shapes: matrices that keep the size of what goes through, no trivial norm or bias."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) >= 2:
            state[name] = values / math.sqrt(math.prod(shape[1:]))
        elif name.endswith((".weight", ".g")):
            state[name] = 1 + 0.2 * values
        else:
            state[name] = 0.2 * values
    return state


# --- what the files hold ---


def _convolution(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def _pointwise(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, 1), f"{name}.bias": (outputs,)}


def linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _residual_shapes(name: str, inputs: int, outputs: int, embedding: int) -> Shapes:
    shapes = norm_shapes(f"{name}.in_layers.0", inputs)
    shapes |= _convolution(f"{name}.in_layers.2", inputs, outputs, 3)
    shapes |= linear_shapes(f"{name}.emb_layers.1", embedding, 2 * outputs)
    shapes |= norm_shapes(f"{name}.out_layers.0", outputs)
    shapes |= _convolution(f"{name}.out_layers.3", outputs, outputs, 3)
    if inputs != outputs:
        shapes |= _convolution(f"{name}.skip_connection", inputs, outputs, 1)
    return shapes


def _attention_shapes(name: str, width: int, context: int | None) -> Shapes:
    shapes = norm_shapes(f"{name}.norm", width)
    shapes |= _pointwise(f"{name}.qkv", width, 3 * width)
    if context is not None:
        shapes |= _pointwise(f"{name}.encoder_kv", context, 2 * width)
    return shapes | _pointwise(f"{name}.proj_out", width, width)


def unet_shapes(
    *,
    inputs: int,
    channels: int,
    widths: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    outputs: int | None = 6,
    classes: int | None = None,
    context: int | None = None,
) -> Shapes:
    """Names and shapes of a UNet; of its first half where `outputs` is None."""
    embedding = 4 * channels
    shapes = linear_shapes("time_embed.0", channels, embedding)
    shapes |= linear_shapes("time_embed.2", embedding, embedding)
    if classes is not None:
        shapes["label_emb.weight"] = (classes, embedding)
    shapes |= _convolution("input_blocks.0.0", inputs, widths[0], 3)
    width, kept, number, factor = widths[0], [widths[0]], 1, 1
    for level, level_width in enumerate(widths):
        for _ in range(blocks):
            shapes |= _residual_shapes(f"input_blocks.{number}.0", width, level_width, embedding)
            width = level_width
            if factor in attention:
                shapes |= _attention_shapes(f"input_blocks.{number}.1", width, context)
            kept.append(width)
            number += 1
        if level != len(widths) - 1:
            shapes |= _residual_shapes(f"input_blocks.{number}.0", width, width, embedding)
            kept.append(width)
            number += 1
            factor *= 2
    shapes |= _residual_shapes("middle_block.0", width, width, embedding)
    shapes |= _attention_shapes("middle_block.1", width, context)
    shapes |= _residual_shapes("middle_block.2", width, width, embedding)
    if outputs is None:
        return shapes
    number = 0
    for level in range(len(widths) - 1, -1, -1):
        for block in range(blocks + 1):
            name = f"output_blocks.{number}"
            shapes |= _residual_shapes(f"{name}.0", width + kept.pop(), widths[level], embedding)
            width = widths[level]
            children = 1
            if factor in attention:
                shapes |= _attention_shapes(f"{name}.1", width, context)
                children = 2
            if level and block == blocks:
                shapes |= _residual_shapes(f"{name}.{children}", width, width, embedding)
                factor //= 2
            number += 1
    shapes |= norm_shapes("out.0", width)
    return shapes | _convolution("out.2", width, outputs, 3)


def classifier_shapes(
    *,
    image_size: int,
    channels: int,
    widths: tuple[int, ...],
    blocks: int,
    attention: tuple[int, ...],
    classes: int,
) -> Shapes:
    """Names and shapes of a classifier with attention pooling."""
    shapes = unet_shapes(
        inputs=3, channels=channels, widths=widths, blocks=blocks, attention=attention, outputs=None
    )
    width, grid = widths[-1], image_size // 2 ** (len(widths) - 1)
    shapes |= norm_shapes("out.0", width)
    shapes["out.2.positional_embedding"] = (width, grid**2 + 1)
    shapes |= _pointwise("out.2.qkv_proj", width, 3 * width)
    return shapes | _pointwise("out.2.c_proj", width, classes)


def glide_shapes(*, context: int, width: int, layers: int, vocabulary: int, **unet: object) -> Shapes:
    """Names and shapes of a GLIDE network; `unet` as in `unet_shapes`, without its context."""
    shapes = unet_shapes(context=width, **unet)
    shapes |= {
        "token_embedding.weight": (vocabulary, width),
        "positional_embedding": (context, width),
        "padding_embedding": (context, width),
    }
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        shapes |= linear_shapes(f"{name}.attn.c_qkv", width, 3 * width)
        shapes |= linear_shapes(f"{name}.attn.c_proj", width, width)
        shapes |= norm_shapes(f"{name}.ln_1", width) | norm_shapes(f"{name}.ln_2", width)
        shapes |= linear_shapes(f"{name}.mlp.c_fc", width, 4 * width)
        shapes |= linear_shapes(f"{name}.mlp.c_proj", 4 * width, width)
    shapes |= norm_shapes("final_ln", width)
    return shapes | linear_shapes("transformer_proj", width, 4 * int(unet["channels"]))


# --- what the networks compute ---


def _group_norm(state: State, name: str, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    size = x.shape[1] // GROUPS
    for group in range(GROUPS):
        rows = slice(group * size, (group + 1) * size)
        values = x[:, rows]
        mean = values.mean((1, 2, 3), keepdim=True)
        variance = (values - mean).square().mean((1, 2, 3), keepdim=True)
        out[:, rows] = (values - mean) / (variance + 1e-5).sqrt()
    return out * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * gain + bias


def _silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def _convolve(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return torch.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return x @ weight.reshape(len(weight), -1).T + state[f"{name}.bias"]


def _halved(x: Tensor) -> Tensor:
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _residual(state: State, name: str, x: Tensor, embedding: Tensor, way: str = "") -> Tensor:
    resample = {"": lambda x: x, "down": _halved, "up": _doubled}[way]
    h = resample(_silu(_group_norm(state, f"{name}.in_layers.0", x)))
    h = _convolve(state, f"{name}.in_layers.2", h)
    modulation = linear(state, f"{name}.emb_layers.1", _silu(embedding))
    gain, bias = modulation[:, : h.shape[1]], modulation[:, h.shape[1] :]
    h = _group_norm(state, f"{name}.out_layers.0", h) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]
    h = _convolve(state, f"{name}.out_layers.3", _silu(h))
    x = resample(x)
    if f"{name}.skip_connection.weight" in state:
        x = _convolve(state, f"{name}.skip_connection", x)
    return x + h


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """One head of one picture: (N, d), (M, d), (M, d) -> (N, d)."""
    logits = query @ key.T / math.sqrt(query.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf)
    weights = (logits - logits.max(-1, keepdim=True).values).exp()
    return weights / weights.sum(-1, keepdim=True) @ value


def _parts(joined: Tensor, heads: int, parts: int, by_head: bool) -> list[list[Tensor]]:
    """(N, parts * C) -> for each head its parts (N, C / heads)."""
    size = joined.shape[1] // (heads * parts)
    pieces = list(joined.split(size, dim=1))
    if by_head:
        return [pieces[head * parts : (head + 1) * parts] for head in range(heads)]
    return [[pieces[part * heads + head] for part in range(parts)] for head in range(heads)]


def _attention(
    state: State, name: str, x: Tensor, heads: int, by_head: bool, context: Tensor | None
) -> Tensor:
    out = x.clone()
    normed = _group_norm(state, f"{name}.norm", x)
    for i in range(len(x)):
        tokens = normed[i].flatten(1).T  # (HW, C)
        own = _parts(linear(state, f"{name}.qkv", tokens), heads, 3, by_head)
        done = []
        for head in range(heads):
            query, key, value = own[head]
            if context is not None:
                read = _parts(linear(state, f"{name}.encoder_kv", context[i]), heads, 2, by_head)
                key, value = torch.cat([read[head][0], key]), torch.cat([read[head][1], value])
            done.append(attend(query, key, value))
        out[i] += linear(state, f"{name}.proj_out", torch.cat(done, dim=1)).T.reshape(x.shape[1:])
    return out


def _time(state: State, label: Tensor) -> Tensor:
    width = state["time_embed.0.weight"].shape[1]
    rows = []
    for t in label.tolist():
        angles = [t * math.exp(-math.log(10_000) * i / (width // 2)) for i in range(width // 2)]
        rows.append([*map(math.cos, angles), *map(math.sin, angles)])
    hidden = _silu(linear(state, "time_embed.0", torch.tensor(rows)))
    return linear(state, "time_embed.2", hidden)


def _children(state: State, name: str) -> Iterator[tuple[int, str]]:
    for child in range(3):
        if f"{name}.{child}.in_layers.0.weight" in state:
            yield child, "residual"
        elif f"{name}.{child}.qkv.weight" in state:
            yield child, "attention"


class Network:
    """A UNet over tensors in their names; `heads` counts them, `wide` is the channels of each."""

    def __init__(self, state: State, *, blocks: int, wide: int = 0, heads: int = 0, by_head: bool = True):
        self.state, self.blocks, self.wide, self.heads, self.by_head = state, blocks, wide, heads, by_head

    def _block(self, name: str, x: Tensor, embedding: Tensor, context: Tensor | None, way: str) -> Tensor:
        for child, kind in _children(self.state, name):
            if kind == "attention":
                heads = self.heads or x.shape[1] // self.wide
                x = _attention(self.state, f"{name}.{child}", x, heads, self.by_head, context)
            else:
                # on the way up a second residual block enlarges
                own = "up" if way == "up" and child > 0 else way if way == "down" else ""
                x = _residual(self.state, f"{name}.{child}", x, embedding, own)
        return x

    def half(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        h = _convolve(self.state, "input_blocks.0.0", x)
        kept, number = [h], 1
        while f"input_blocks.{number}.0.in_layers.0.weight" in self.state:
            way = "down" if number % (self.blocks + 1) == 0 else ""
            h = self._block(f"input_blocks.{number}", h, embedding, context, way)
            kept.append(h)
            number += 1
        return self._block("middle_block", h, embedding, context, ""), kept

    def unet(self, x: Tensor, embedding: Tensor, context: Tensor | None = None) -> Tensor:
        h, kept = self.half(x, embedding, context)
        number = 0
        while f"output_blocks.{number}.0.in_layers.0.weight" in self.state:
            h = self._block(
                f"output_blocks.{number}", torch.cat([h, kept.pop()], 1), embedding, context, "up"
            )
            number += 1
        return _convolve(self.state, "out.2", _silu(_group_norm(self.state, "out.0", h)))

    def adm(
        self, x: Tensor, label: Tensor, classes: Tensor | None = None, low: Tensor | None = None
    ) -> Tensor:
        embedding = _time(self.state, label)
        if classes is not None:
            embedding = embedding + self.state["label_emb.weight"][classes]
        if low is not None:
            x = torch.cat([x, bilinear(low, x.shape[2] // low.shape[2])], dim=1)
        return self.unet(x, embedding)

    def classifier(self, x: Tensor, label: Tensor) -> Tensor:
        h, _ = self.half(x, _time(self.state, label), None)
        h = _silu(_group_norm(self.state, "out.0", h))
        rows = []
        for grid in h:
            tokens = grid.flatten(1)
            tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
            tokens = (tokens + self.state["out.2.positional_embedding"]).T
            joined = linear(self.state, "out.2.qkv_proj", tokens)
            heads = _parts(joined, tokens.shape[1] // self.wide, 3, by_head=False)
            pooled = torch.cat([attend(*parts) for parts in heads], dim=1)
            rows.append(linear(self.state, "out.2.c_proj", pooled)[0])
        return torch.stack(rows)

    def captions(self, ids: Tensor, mask: Tensor, text_heads: int) -> Tensor:
        """GLIDE's caption encoder; ids and mask (B, whole context)."""
        state = self.state
        rows = []
        for row, real in zip(ids, mask, strict=True):
            x = state["token_embedding.weight"][row] + state["positional_embedding"]
            for position in range(len(row)):
                if not real[position]:
                    x[position] = state["padding_embedding"][position]
            layer = 0
            while f"transformer.resblocks.{layer}.ln_1.weight" in state:
                name = f"transformer.resblocks.{layer}"
                normed = layer_norm(x, state[f"{name}.ln_1.weight"], state[f"{name}.ln_1.bias"])
                heads = _parts(linear(state, f"{name}.attn.c_qkv", normed), text_heads, 3, by_head=True)
                x = x + linear(state, f"{name}.attn.c_proj", torch.cat([attend(*p) for p in heads], dim=1))
                normed = layer_norm(x, state[f"{name}.ln_2.weight"], state[f"{name}.ln_2.bias"])
                x = x + linear(state, f"{name}.mlp.c_proj", gelu(linear(state, f"{name}.mlp.c_fc", normed)))
                layer += 1
            rows.append(layer_norm(x, state["final_ln.weight"], state["final_ln.bias"]))
        return torch.stack(rows)

    def glide(
        self,
        x: Tensor,
        label: Tensor,
        text: Tensor,
        *,
        known: Tensor | None = None,
        keep: Tensor | None = None,
        low: Tensor | None = None,
    ) -> Tensor:
        """GLIDE, given captions as `captions` reads them."""
        embedding = _time(self.state, label) + linear(self.state, "transformer_proj", text[:, -1])
        seen = [x]
        if known is not None and keep is not None:
            seen += [known * keep, keep]
        if low is not None:
            seen.append(bilinear(low, x.shape[2] // low.shape[2]))
        return self.unet(torch.cat(seen, dim=1), embedding, text)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def bilinear(low: Tensor, scale: int) -> Tensor:
    """Bilinear enlargement with half-pixel centres, edges repeated."""

    def along(x: Tensor) -> Tensor:  # the last dimension
        size = x.shape[-1]
        columns = []
        for i in range(size * scale):
            position = (i + 0.5) / scale - 0.5
            below = math.floor(position)
            share = position - below
            left, right = (min(max(j, 0), size - 1) for j in (below, below + 1))
            columns.append(x[..., left] * (1 - share) + x[..., right] * share)
        return torch.stack(columns, dim=-1)

    return along(along(low).transpose(-1, -2)).transpose(-1, -2)
