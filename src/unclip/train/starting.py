"""Training that begins with finished weights: of a bundle, or of a weight file."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unclip.bundle import Bundle
from unclip.checkpoints.native import kind_of, load_model
from unclip.config import to_dict
from unclip.errors import InputError
from unclip.models.decoder import FIRST_WEIGHT, Decoder

UNET = ("unet.", "time.")  # what a decoder's weights begin with that draw, whatever they are told
REGULARISERS = ("dropout", "patch_dropout")  # settings of a model that its weights do not depend on


def finished(start: str, component: str) -> nn.Module:
    """The model that training begins with, in float32.

    Args:
        start: a bundle, by name or folder, or a weight file.
        component: what the model is called in a bundle.

    Raises:
        BundleError, CheckpointError: there is no such bundle or file, or no such model in it.
    """
    if start.endswith(".safetensors"):
        return load_model(start, dtype=torch.float32)
    return Bundle.load(start).model(component, dtype=torch.float32)


def take_weights(model: nn.Module, found: nn.Module, source: str) -> None:
    """Gives `model` the weights of `found`, which is of the same kind and sizes.

    Raises:
        InputError: it is not; the message begins with `source` and says what differs.
    """
    if (kind := kind_of(found)) != (wanted := kind_of(model)):
        raise InputError(f"{source} holds a {kind}, and a {wanted} is trained here: name another")
    own, said = _sizes(to_dict(found.config)), _sizes(to_dict(model.config))
    if own != said:
        name = next(name for name in own if own[name] != said.get(name))
        raise InputError(
            f"{source} has {name} = {own[name]}, the recipe says {said.get(name)}: "
            "make the stage's model the same"
        )
    model.load_state_dict(found.state_dict())


def take_unet(model: nn.Module, decoder: Decoder, source: str) -> None:
    """Gives a GLIDE or an ADM the UNet and the time embedding of a decoder; what tells it what to draw stays.

    Of the first layer it takes what sees the noised picture.

    Raises:
        InputError: the UNets are of different sizes; the message begins with `source` and names a weight.
    """
    own, taken = model.state_dict(), {}
    for name, weight in decoder.state_dict().items():
        if name.startswith(UNET) and (wanted := own.get(name)) is not None:
            if name == FIRST_WEIGHT:
                weight = weight[:, : wanted.shape[1]]
            if weight.shape != wanted.shape:
                sizes = f"{tuple(weight.shape)}, the recipe makes it {tuple(wanted.shape)}"
                raise InputError(f"{source} has {name} of {sizes}: make the UNets the same")
            taken[name] = weight
    model.load_state_dict(own | taken)


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config by dotted name, without what its weights do not depend on."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": of_it for inner, of_it in _sizes(value).items()}
        elif name not in REGULARISERS:
            flat[name] = value
    return flat
