"""The transformer: equal to plain attention, causal where it says so, blind to padding, cached or not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support.tiny import nudge_
from unclip.errors import InputError
from unclip.nn.transformer import Activation, KVCache, Transformer, TransformerConfig, quick_gelu

CONFIG = TransformerConfig(width=24, layers=3, heads=4)
CAUSAL = replace(CONFIG, causal=True)


def make(config: TransformerConfig, seed: int = 0) -> Transformer:
    """A transformer in double precision whose biases are not zero, so that a forgotten one shows."""
    torch.manual_seed(seed)
    return nudge_(Transformer(config).double().eval(), 0.1, ("bias", "ln_"))


def plain(model: Transformer, x: Tensor, mask: Tensor | None) -> Tensor:
    """A second implementation: one head and one query at a time, by the definition."""
    config, weights = model.config, model.state_dict()
    batch, count, width = x.shape
    head = width // config.heads

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def activation(x: Tensor) -> Tensor:
        if config.activation is Activation.QUICK_GELU:
            return x / (1 + torch.exp(-1.702 * x))
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2

    for i in range(config.layers):
        name = f"resblocks.{i}."
        qkv = norm(x, name + "ln_1") @ weights[name + "attn.in_proj_weight"].T
        query, key, value = (qkv + weights[name + "attn.in_proj_bias"]).split(width, dim=-1)
        attended = torch.zeros_like(x)
        for b in range(batch):
            for n in range(count):
                seen = [
                    m for m in range(count) if (mask is None or mask[b, m]) and (m <= n or not config.causal)
                ]
                for h in range(config.heads if seen else 0):
                    part = slice(h * head, (h + 1) * head)
                    logits = key[b, seen, part] @ query[b, n, part] / math.sqrt(head)
                    attended[b, n, part] = logits.softmax(0) @ value[b, seen, part]
        x = x + linear(attended, name + "attn.out_proj")
        x = x + linear(activation(linear(norm(x, name + "ln_2"), name + "mlp.c_fc")), name + "mlp.c_proj")
    return x


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", list(Activation))
def test_it_equals_plain_attention(causal: bool, masked: bool, activation: Activation) -> None:
    model = make(replace(CONFIG, causal=causal, activation=activation))
    x = torch.randn(3, 7, CONFIG.width, dtype=torch.float64)
    # padding behind, padding before, and a hole in the middle
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 1]]).bool()
    mask = mask if masked else None
    torch.testing.assert_close(model(x, mask), plain(model, x, mask), rtol=0, atol=1e-12)


def test_what_comes_later_does_not_change_what_came_before() -> None:
    causal, both_ways = make(CAUSAL), make(CONFIG)
    x = torch.randn(2, 6, CONFIG.width, dtype=torch.float64)
    changed = torch.cat([x[:, :4], -x[:, 4:]], dim=1)
    assert torch.equal(causal(x)[:, :4], causal(changed)[:, :4])
    assert not torch.allclose(both_ways(x)[:, :4], both_ways(changed)[:, :4])


@pytest.mark.parametrize("config", [CONFIG, CAUSAL])
def test_padding_and_its_length_change_nothing(config: TransformerConfig) -> None:
    model = make(config)
    x = torch.randn(2, 5, CONFIG.width, dtype=torch.float64)
    padded = torch.cat([x, torch.randn(2, 4, CONFIG.width, dtype=torch.float64)], dim=1)
    mask = torch.arange(9).expand(2, 9) < 5
    torch.testing.assert_close(model(padded, mask)[:, :5], model(x), rtol=0, atol=1e-12)


def test_a_causal_transformer_needs_no_mask_for_padding_behind_the_text() -> None:
    model = make(CAUSAL)
    x = torch.randn(2, 6, CONFIG.width, dtype=torch.float64)
    mask = torch.arange(6).expand(2, 6) < torch.tensor([[3], [5]])
    torch.testing.assert_close(model(x)[mask], model(x, mask)[mask], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [CONFIG, CAUSAL])
def test_with_nothing_to_attend_to_values_and_gradients_are_finite(config: TransformerConfig) -> None:
    model = make(config).float()
    x = torch.randn(2, 5, CONFIG.width, requires_grad=True)
    mask = torch.tensor([[False] * 5, [True] * 5])
    out = model(x, mask)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    torch.testing.assert_close(out[1], model(x)[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pieces", [(1,) * 8, (8,), (5, 1, 1, 1), (3, 4, 1)])
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_cached_and_uncached_agree(pieces: tuple[int, ...], masked: bool) -> None:
    model = make(CAUSAL)
    x = torch.randn(2, 8, CONFIG.width, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1, 1, 1]]).bool() if masked else None
    cache = KVCache(CAUSAL, batch=2, length=9, dtype=torch.float64)
    parts = []
    for part in x.split(pieces, dim=1):
        end = cache.position + part.shape[1]
        parts.append(model(part, None if mask is None else mask[:, :end], cache))
    assert cache.position == 8
    torch.testing.assert_close(torch.cat(parts, dim=1), model(x, mask), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_rewound_cache_continues_the_same_prompt() -> None:
    model = make(CAUSAL)
    prompt, one, other = torch.randn(3, 1, 4, CONFIG.width, dtype=torch.float64)
    cache = KVCache(CAUSAL, batch=1, length=8, dtype=torch.float64)
    model(prompt, cache=cache)
    for end in (one, other):
        cache.rewind(4)
        expected = model(torch.cat([prompt, end], dim=1))[:, 4:]
        torch.testing.assert_close(model(end, cache=cache), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_cache_may_be_wider_or_narrower_than_the_activations() -> None:
    model = make(CAUSAL).float()
    x = torch.randn(1, 6, CONFIG.width)
    cache = KVCache(CAUSAL, batch=1, length=6, dtype=torch.bfloat16)
    parts = [model(part, cache=cache) for part in x.split(2, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(x), rtol=0, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        cache = KVCache(CAUSAL, batch=1, length=6)
        parts = [model(part, cache=cache) for part in x.split(2, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1).float(), model(x), rtol=0, atol=0.1)


def test_what_the_cache_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="needs a causal transformer"):
        KVCache(CONFIG, batch=1, length=4)
    cache = KVCache(CAUSAL, batch=1, length=4)
    model = Transformer(CAUSAL)
    with torch.no_grad():
        model(torch.randn(1, 3, CONFIG.width), cache=cache)
        with pytest.raises(InputError, match="room for 4 positions, 3 are taken and 2 more"):
            model(torch.randn(1, 2, CONFIG.width), cache=cache)
    with pytest.raises(InputError, match="the cache holds 0 to 3"):
        cache.rewind(4)


@pytest.mark.parametrize("mask", [torch.ones(2, 4).bool(), torch.ones(2, 5), torch.ones(5).bool()])
def test_a_mask_that_does_not_fit_is_refused(mask: Tensor) -> None:
    with pytest.raises(InputError, match=r"it must be \(2, 5\) torch.bool"):
        Transformer(CONFIG)(torch.randn(2, 5, CONFIG.width), mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "width 24 is not a multiple of its 5 heads"),
        ({"layers": 0}, "each must be at least 1"),
        ({"dropout": 1.0}, "dropout 1.0 is outside"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **changes)


def test_parameters_are_named_as_in_clip() -> None:
    names = {
        name.removeprefix("resblocks.0.") for name in Transformer(replace(CONFIG, layers=1)).state_dict()
    }
    linears = ("attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj")
    assert names == {"attn.in_proj_weight", "attn.in_proj_bias"} | {
        f"{name}.{kind}" for name in linears for kind in ("weight", "bias")
    }


def test_the_initial_weights_follow_width_and_depth() -> None:
    """openai/CLIP, clip/model.py: attention 1/sqrt(D), fc 1/sqrt(2D), residual outputs 1/sqrt(2 D layers)."""
    torch.manual_seed(0)
    block = Transformer(TransformerConfig(width=256, layers=2, heads=4)).resblocks[0]
    expected = {
        "attn.in_proj_weight": 256**-0.5,
        "attn.out_proj.weight": (256 * 4) ** -0.5,
        "mlp.c_fc.weight": 512**-0.5,
        "mlp.c_proj.weight": (256 * 4) ** -0.5,
    }
    for name, std in expected.items():
        assert block.get_parameter(name).std().item() == pytest.approx(std, rel=0.02), name


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    model = Transformer(replace(CONFIG, dropout=0.5))
    x = torch.randn(1, 4, CONFIG.width)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_quick_gelu_is_the_published_approximation() -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    gelu = torch.nn.functional.gelu(x)
    assert (quick_gelu(x) - gelu).abs().max() < 0.021  # close to GELU ...
    assert (quick_gelu(x) - gelu).abs().max() > 0.01  # ... and not the same
