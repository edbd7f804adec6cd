"""The promise that OpenAI's discrete VAE codes and shows pictures as the package that published it does.

The package, `DALL-E`, asks for torchvision, which this project leaves out, so it is no test dependency: the
reference is a second, naive implementation, plain functions over the pickled module's own tensors, written
from `dall_e/encoder.py` and `dall_e/decoder.py`. The files are pickles of whole modules under the package's
names, as published.
"""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.tensors import error
from unclip.checkpoints import dvae_openai
from unclip.checkpoints.foreign import Source
from unclip.errors import CheckpointError, InputError
from unclip.models.vqvae import VQVAE, VQVAEConfig, map_pixels, unmap_pixels

HIDDEN, GROUPS, BLOCKS, CODES, FIRST = 16, 4, 2, 30, 12
TOLERANCE = 1e-4


class Encoder(nn.Module):
    """Holds parameters under the published names; what it computes is in `encoded`."""


class Decoder(nn.Module):
    """The same for `decoded`."""


class DecoderBlock(nn.Module):
    id_path: nn.Module
    res_path: nn.Module


class Conv2d(nn.Module):
    def __init__(self, into: int, out: int, side: int) -> None:
        super().__init__()
        self.n_in, self.n_out, self.kw = into, out, side
        self.w = nn.Parameter(torch.randn(out, into, side, side) * (into * side**2) ** -0.5)
        self.b = nn.Parameter(0.1 * torch.randn(out))


def residual(into: int, out: int, sides: tuple[int, ...]) -> nn.Module:
    block = DecoderBlock()
    inner = out // 4
    block.id_path = nn.Identity() if into == out else Conv2d(into, out, 1)
    widths = [into, inner, inner, inner, out]
    parts: list[tuple[str, nn.Module]] = []
    for i, side in enumerate(sides):
        parts += [(f"relu_{i + 1}", nn.ReLU()), (f"conv_{i + 1}", Conv2d(widths[i], widths[i + 1], side))]
    block.res_path = nn.Sequential(OrderedDict(parts))
    return block


def module(
    kind: type[nn.Module], first: Conv2d, widths: list[int], sides: tuple[int, ...], last: Conv2d
) -> nn.Module:
    parts: list[tuple[str, nn.Module]] = [("input", first)]
    between = ("pool", nn.MaxPool2d(2)) if kind is Encoder else ("upsample", nn.Upsample(scale_factor=2))
    for i in range(GROUPS):
        blocks = [
            (f"block_{j + 1}", residual(widths[i + (j > 0)], widths[i + 1], sides)) for j in range(BLOCKS)
        ]
        parts.append((f"group_{i + 1}", nn.Sequential(OrderedDict([*blocks, between][: BLOCKS + (i < 3)]))))
    parts.append(("output", nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", last)]))))
    net = kind()
    net.blocks = nn.Sequential(OrderedDict(parts))
    return net


@pytest.fixture(scope="module")
def halves() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    widths = [HIDDEN * 2**i for i in range(GROUPS)]
    return {
        "encoder": module(
            Encoder,
            Conv2d(3, HIDDEN, 7),
            [HIDDEN, *widths],
            (3, 3, 3, 1),
            Conv2d(widths[-1], CODES, 1),
        ),
        "decoder": module(
            Decoder,
            Conv2d(CODES, FIRST, 1),
            [FIRST, *reversed(widths)],
            (1, 3, 3, 3),
            Conv2d(HIDDEN, 6, 1),
        ),
    }


@pytest.fixture
def files(halves: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pickled under the names that the published files mention."""
    homes = {Encoder: "encoder", Decoder: "decoder", DecoderBlock: "decoder", Conv2d: "utils"}
    monkeypatch.setitem(sys.modules, "dall_e", types.ModuleType("dall_e"))
    for home in set(homes.values()):
        monkeypatch.setitem(sys.modules, f"dall_e.{home}", types.ModuleType(f"dall_e.{home}"))
    for kind, home in homes.items():
        monkeypatch.setattr(kind, "__module__", f"dall_e.{home}")
        setattr(sys.modules[f"dall_e.{home}"], kind.__name__, kind)
    for half, net in halves.items():
        torch.save(net, tmp_path / f"{half}.pkl")
    return tmp_path


# --- the naive network ---


def conv(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.w"]
    return F.conv2d(x, weight, state[f"{name}.b"], padding=(weight.shape[-1] - 1) // 2)


def groups(state: dict[str, Tensor], x: Tensor, between: Any) -> Tensor:
    x = conv(state, "blocks.input", x)
    for group in range(1, GROUPS + 1):
        for block in range(1, BLOCKS + 1):
            at = f"blocks.group_{group}.block_{block}"
            h = x
            for i in range(1, 5):
                h = conv(state, f"{at}.res_path.conv_{i}", h.relu())
            same = x if f"{at}.id_path.w" not in state else conv(state, f"{at}.id_path", x)
            x = same + h / (GROUPS * BLOCKS) ** 2
        if group < GROUPS:
            x = between(x)
    return conv(state, "blocks.output.conv", x.relu())


def encoded(net: nn.Module, images: Tensor) -> Tensor:
    return groups(net.state_dict(), 0.8 * images + 0.1, lambda x: F.max_pool2d(x, 2))


def decoded(net: nn.Module, codes: Tensor) -> Tensor:
    one_hot = F.one_hot(codes, CODES).movedim(-1, 1).float()
    return groups(net.state_dict(), one_hot, lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3))


# --- tests ---


def converted(path: Path) -> VQVAE:
    source = Source(path)
    assert dvae_openai.looks_like(source)
    conversion = dvae_openai.FORMAT.read(source)
    model = conversion.parts["codec"].source
    assert (conversion.name, conversion.family) == ("dvae", "codec")
    assert isinstance(model, VQVAE)
    return model


@pytest.mark.parametrize("name", [".", "encoder.pkl", "decoder.pkl"])
def test_pictures_are_coded_and_shown_as_theirs(files: Path, halves: dict[str, nn.Module], name: str) -> None:
    model = converted(files / name)
    assert model.config == VQVAEConfig(CODES, HIDDEN, (1, 2, 4, 8), BLOCKS, FIRST)
    colours = torch.randint(0, 2, (2, 3, 4, 6), generator=torch.Generator().manual_seed(1)).float()
    images = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)  # (2, 3, 32, 48): one for each code
    logits = encoded(halves["encoder"], images)
    assert error(model.logits(images * 2 - 1), logits) <= TOLERANCE
    codes = model.encode(images * 2 - 1)
    assert torch.equal(codes, logits.argmax(1))
    assert len(codes.unique()) > 2
    statistics = decoded(halves["decoder"], codes)
    assert error(model.decoder.from_codes(codes), statistics) <= TOLERANCE
    expected = ((statistics[:, :3].sigmoid() - 0.1) / 0.8).clamp(0, 1)
    assert error((model.decode(codes) + 1) / 2, expected) <= TOLERANCE


def test_mapped_pixels_come_back() -> None:
    pixels = torch.linspace(0, 1, 11)
    assert torch.allclose(map_pixels(pixels), torch.linspace(0.1, 0.9, 11))
    assert torch.allclose(unmap_pixels(map_pixels(pixels)), pixels, atol=1e-6)
    assert unmap_pixels(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_the_other_half_must_be_there(files: Path) -> None:
    (files / "decoder.pkl").rename(files / "other.pkl")
    with pytest.raises(CheckpointError, match=r"decoder\.pkl: missing: .* encoder\.pkl and decoder\.pkl"):
        converted(files / "encoder.pkl")
    (files / "decoder.pkl").write_bytes((files / "encoder.pkl").read_bytes())
    with pytest.raises(CheckpointError, match=r"decoder\.pkl: is not the decoder"):
        converted(files / "encoder.pkl")


def test_a_tensor_too_many_is_named(halves: dict[str, nn.Module], tmp_path: Path) -> None:
    for half, net in halves.items():
        torch.save(net.state_dict() | {"blocks.bonus.w": torch.ones(1)}, tmp_path / f"{half}.pkl")
    with pytest.raises(CheckpointError, match="without a place in the model encoder.blocks.bonus.weight"):
        converted(tmp_path)


def test_sides_without_whole_codes_are_refused(files: Path) -> None:
    with pytest.raises(
        InputError, match="32 x 36 pixels has no whole codes: the sides must be multiples of 8"
    ):
        converted(files).encode(torch.zeros(1, 3, 36, 32))
