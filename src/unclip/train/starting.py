"""Training that begins with finished weights: of a bundle, or of a weight file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.config import to_dict
from unclip.errors import InputError
from unclip.models.adm import ADM
from unclip.models.caption import CaptionConfig
from unclip.models.clip import CLIP, TextTransformer, TextTransformerConfig
from unclip.models.dalle1 import Dalle1
from unclip.models.decoder import FIRST_WEIGHT, SEEN, Decoder, DecoderConfig, TextNorm
from unclip.models.glide import Glide
from unclip.models.layout import Layout, LayoutConfig
from unclip.models.noised_clip import NoisedCLIP
from unclip.native import kind_of, load_model, read_config
from unclip.nn.layers import RGB
from unclip.nn.transformer import Activation
from unclip.nn.unet import AttentionBlock

# What stages begin with of a bundle that has no model of their own: a part of another.
INSTEAD = {"glide": "decoder", "adm": "decoder", "transformer": "clip", "noised-clip": "clip"}
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


def start_config(start: str, component: str, source: str) -> Any:
    """The config of the model that training begins with, its weights unread.

    Raises:
        BundleError, CheckpointError: there is no such bundle or file, or no such model in it.
        InputError: the file holds a model of another kind; the message begins with `source`.
    """
    if not start.endswith(".safetensors"):
        return Bundle.load(start).config(component)
    kind, config = read_config(start)
    if kind != component:
        raise InputError(f"{source} holds a {kind}, and a {component} is trained here: name another")
    return config


def begin_(model: nn.Module, component: str, start: str, source: str) -> None:
    """Gives a model finished weights: all of another one of its kind, or what it can take of another kind.

    GLIDE and ADM take a decoder's UNet (`take_unet_`) and GLIDE, of a bundle, CLIP's text encoder
    (`take_caption_`); DALL-E 1 takes that too (`take_text_`), a noised CLIP both encoders (`take_encoders_`).

    Args:
        model: that is to be trained.
        component: what it is called in a bundle.
        start: a bundle, by name or folder, or a weight file.
        source: what messages begin with.

    Raises:
        BundleError, CheckpointError: there is no such bundle or file, or no such model in it.
        InputError: the weights do not fit.
    """
    if not start.endswith(".safetensors") and component not in Bundle.load(start).components:
        component = INSTEAD.get(component, component)
    found = finished(start, component)
    if isinstance(found, Decoder) and isinstance(model, ADM | Glide):
        take_unet_(model, found, source)
        if isinstance(model, Glide) and not start.endswith(".safetensors"):
            clip = finished(start, "clip")
            assert isinstance(clip, CLIP)  # unCLIP's decoder never goes without
            take_caption_(model, clip, found, source)
    elif isinstance(found, CLIP) and isinstance(model, Dalle1):
        take_text_(model, found, source)
    elif isinstance(found, CLIP) and isinstance(model, NoisedCLIP):
        take_encoders_(model, found, source)
    else:
        take_weights_(model, found, source)


def begun_decoder(start: str, config: DecoderConfig, layout: Layout | None) -> Decoder:
    """A decoder to train with the weights of a finished one, which may get another, trained layout.

    One that does not fill in, or is not told of augmentation, begins to where the config says so.

    Raises:
        BundleError, CheckpointError: there is no such bundle or file, or no such model in it.
        InputError: the sizes differ.
    """
    found = finished(start, "decoder")
    assert isinstance(found, Decoder)
    if config.inpainting and not found.config.inpainting:
        found = widened(found)
    if config.augmentation and not found.config.augmentation:
        found = told_of_augmentation(found, config.augmentation)
    if layout is not None and found.config.layout != layout.config:
        found = relaid(found, layout.config)
    decoder = Decoder(config)
    take_weights_(decoder, found, f"decoder.start: {start}")
    return decoder


def relaid(decoder: Decoder, layout: LayoutConfig) -> Decoder:
    """The same decoder with another layout, as yet untrained, in place of one as coarse as its grid.

    New cells share the weights of the old one that they lie in: it draws the same where their mean is what
    the old layout said. Raises InputError where the decoder has no such layout.
    """
    old, config = decoder.config, replace(decoder.config, layout=layout)
    if old.layout_channels != RGB:
        raise InputError(
            f"layout: got {old.layout}; another one takes the place of one as coarse as the decoder's grid: "
            "begin with a decoder that has it"
        )
    new, state = Decoder(config), decoder.state_dict()
    plain = RGB * old.patch**2
    weight = state[FIRST_WEIGHT]
    grid, coarse, seen = weight.split([plain, RGB, weight.shape[1] - plain - RGB], dim=1)
    finer = config.layout_channels // RGB  # new cells in an old one
    coarse = (coarse / finer).repeat_interleave(finer, dim=1)
    state = {name: weight for name, weight in state.items() if not name.startswith("layout.")}
    state |= {name: weight for name, weight in new.state_dict().items() if name.startswith("layout.")}
    new.load_state_dict({**state, FIRST_WEIGHT: torch.cat([grid, coarse, seen], dim=1)})
    return new


def told_of_augmentation(decoder: Decoder, labels: int) -> Decoder:
    """The same decoder, which can be told by so many numbers what was done to a picture: it draws the same.

    Raises InputError where it is told already.
    """
    if decoder.config.augmentation:
        raise InputError(
            f"this decoder is told of augmentation by {decoder.config.augmentation} numbers already"
        )
    told = Decoder(replace(decoder.config, augmentation=labels))
    told.load_state_dict(told.state_dict() | decoder.state_dict())
    return told


def widened(decoder: Decoder) -> Decoder:
    """The same decoder with the input channels to fill in, and zeros for their weights: it draws the same.

    So GLIDE's fine-tuning begins (section 4.3 of 2112.10741). Raises InputError where it has them already.
    """
    if decoder.config.inpainting:
        raise InputError("this decoder has the channels to fill in already: start from one without")
    wide, state, first = Decoder(replace(decoder.config, inpainting=True)), decoder.state_dict(), FIRST_WEIGHT
    weight = state[first]  # (C, 3 p^2, 3, 3)
    new = weight.new_zeros(len(weight), SEEN * decoder.config.patch**2, *weight.shape[2:])
    wide.load_state_dict({**state, first: torch.cat([weight, new], dim=1)})
    return wide


def take_weights_(model: nn.Module, found: nn.Module, source: str) -> None:
    """Gives `model` the weights of `found`, which is of the same kind and sizes.

    Raises:
        InputError: it is not; the message begins with `source` and says what differs.
    """
    if (kind := kind_of(found)) != (wanted := kind_of(model)):
        raise InputError(f"{source} holds a {kind}, and a {wanted} is trained here: name another")
    _same(to_dict(found.config), to_dict(model.config), source)
    model.load_state_dict(found.state_dict())


def take_unet_(model: nn.Module, decoder: Decoder, source: str) -> None:
    """Gives a GLIDE or an ADM the UNet and the time embedding of a decoder, but for what reads captions.

    Of the first layer it takes what sees the noised picture.

    Raises:
        InputError: the UNets are of different sizes; the message begins with `source` and names a weight.
    """
    own, taken = model.state_dict(), {}
    for name, weight in decoder.state_dict().items():
        drawing = name.startswith(UNET) and ".context_kv." not in name
        if drawing and (wanted := own.get(name)) is not None:
            if name == FIRST_WEIGHT:
                weight = weight[:, : wanted.shape[1]]
            if weight.shape != wanted.shape:
                sizes = f"{tuple(weight.shape)}, the recipe makes it {tuple(wanted.shape)}"
                raise InputError(f"{source} has {name} of {sizes}: make the UNets the same")
            taken[name] = weight
    model.load_state_dict(own | taken)


def take_text_(model: Dalle1, clip: CLIP, source: str) -> None:
    """Gives a DALL-E 1 the text encoder of a CLIP: token and position embeddings, and its first blocks.

    So it knows what captions say before it has drawn anything; the blocks behind learn to draw it.

    Raises:
        InputError: the sizes differ; the message begins with `source` and names one.
    """
    config = model.config
    sizes = (config.text_vocabulary, config.text_context, config.width, config.layers, config.heads)
    text = _text_encoder(clip, CaptionConfig(*sizes), source)
    _read_alike_(text, model.token, model.position.weight, model.resblocks)


def take_caption_(model: Glide, clip: CLIP, decoder: Decoder, source: str) -> None:
    """Gives a GLIDE the text encoder of a CLIP, and what a decoder that draws from it makes of what it reads.

    GLIDE reads in both directions and CLIP in one, and it has no layers between encoder and attention: what
    the decoder has there is multiplied into its attention. So it has to learn on, but not from nothing.

    Raises:
        InputError: the sizes differ; the message begins with `source` and names one.
    """
    config, own = model.config.caption, model.text
    text = _text_encoder(clip, config, source)
    _read_alike_(text, own.token, own.position, own.transformer.resblocks)
    own.norm.load_state_dict(text.ln_final.state_dict())
    reads_clip = decoder.text_to_context is not None and decoder.caption is None
    if not reads_clip or decoder.config.text_norm is not TextNorm.BEFORE:
        return
    norm, projection = cast(tuple[nn.LayerNorm, nn.Linear], decoder.text_to_context)
    # of what the encoder gives: its norm has made the features' mean 0 and deviation 1 and then moved them
    mean = own.norm.bias.mean()
    deviation = (own.norm.weight.square().mean() + own.norm.bias.var()).sqrt()
    with torch.no_grad():
        matrix = projection.weight * norm.weight / deviation
        offset = projection.bias + projection.weight @ norm.bias - matrix.sum(dim=1) * mean
        for name, module in model.unet.named_modules():
            if isinstance(module, AttentionBlock) and module.context_kv is not None:
                read = cast(AttentionBlock, decoder.unet.get_submodule(name)).context_kv
                assert read is not None  # UNets of one kind
                module.context_kv.weight.copy_(read.weight @ matrix)
                module.context_kv.bias.copy_(read.bias + read.weight @ offset)


def _read_alike_(text: TextTransformer, token: nn.Embedding, position: Tensor, blocks: nn.ModuleList) -> None:
    """Gives an encoder's embeddings and first blocks those of `text`, as far as its positions go."""
    with torch.no_grad():
        token.weight.copy_(text.token_embedding.weight)
        position.copy_(text.positional_embedding[: len(position)])
    for taken, block in zip(text.transformer.resblocks, blocks, strict=False):
        block.load_state_dict(taken.state_dict())


def _text_encoder(clip: CLIP, wanted: CaptionConfig, source: str) -> TextTransformer:
    """The text encoder of a CLIP, if it fits one that is to begin with it; else raises InputError."""
    text = clip.text
    if not isinstance(text, TextTransformer):
        raise InputError(f"{source} has a CLIP whose text encoder is no transformer: name another")
    blocks = text.transformer.config
    if blocks.activation is not Activation.GELU:
        raise InputError(f"{source} has the activation {blocks.activation}, only gelu is trained here")
    sizes = {
        "width": (blocks.width, wanted.width),
        "heads": (blocks.heads, wanted.heads),
        "vocabulary": (text.config.vocabulary, wanted.vocabulary),
    }
    for name, (own, said) in sizes.items():
        if own != said:
            raise InputError(f"{source} has a text encoder of {name} {own}, the recipe says {said}")
    if text.config.context < wanted.context or blocks.layers > wanted.layers:
        raise InputError(
            f"{source} has a text encoder of {text.config.context} tokens and {blocks.layers} layers: let at "
            "most so many tokens be read, by at least so many layers"
        )
    return text


def take_encoders_(model: NoisedCLIP, clip: CLIP, source: str) -> None:
    """Gives a noised CLIP the encoders of a CLIP: it then embeds pictures and texts as that one does.

    Every noise level begins with the same class token. What the two subtract from pictures and divide them by
    differs, which the first layer makes up for. A text encoder of more tokens gives its first ones.

    Raises:
        InputError: the encoders differ in kind or size; the message begins with `source` and names what.
    """
    config, own = model.config, clip.config
    if own.activation is not Activation.GELU:
        raise InputError(f"{source} has the activation {own.activation}, a noised CLIP has none but gelu")
    if isinstance(own.text, TextTransformerConfig) and own.text.context > config.text.context:
        own = replace(own, text=replace(own.text, context=config.text.context))
    for name in ("embedding", "end_token", "image", "text"):
        _same({name: to_dict(own)[name]}, {name: to_dict(config)[name]}, source)
    encoders = ("visual.", "text.")
    taken = {name: weight for name, weight in clip.state_dict().items() if name.startswith(encoders)}
    scale, offset = model.std / clip.std, (model.mean - clip.mean) / clip.std  # (3, 1, 1)
    first, places = taken["visual.conv1.weight"], taken["visual.positional_embedding"].clone()
    places[1:] += (first * offset).sum(dim=(1, 2, 3))
    taken |= {
        "visual.conv1.weight": first * scale,
        "visual.positional_embedding": places,
        "visual.class_embedding": taken["visual.class_embedding"].expand(config.labels, -1),
        "text.positional_embedding": taken["text.positional_embedding"][: config.text.context],
    }
    model.load_state_dict(taken)


def _same(own: dict[str, Any], said: dict[str, Any], source: str) -> None:
    """Raises InputError unless two configs are the same in what weights depend on."""
    own, said = _sizes(own), _sizes(said)
    if own != said:
        name = next(name for name in own if own[name] != said.get(name))
        raise InputError(
            f"{source} has {name} = {own[name]}, the recipe says {said.get(name)}: "
            "make the stage's model the same"
        )


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config by dotted name, without what its weights do not depend on."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": of_it for inner, of_it in _sizes(value).items()}
        elif name not in REGULARISERS:
            flat[name] = value
    return flat
