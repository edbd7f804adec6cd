"""Promises of GLIDE, ADM and DALL-E 1 that begin with finished weights, of their own kind or of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from support import tiny
from support.tiny import fill_
from unclip.bundle import Bundle
from unclip.errors import InputError
from unclip.models.adm import ADM, ADMConfig
from unclip.models.caption import CaptionConfig
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.dalle1 import Dalle1, Dalle1Config
from unclip.models.decoder import FIRST_WEIGHT, Decoder
from unclip.models.glide import Glide, GlideConfig
from unclip.models.noised_clip import NoisedCLIP, NoisedCLIPConfig
from unclip.native import save_model
from unclip.nn.layers import RGB
from unclip.nn.transformer import Activation
from unclip.nn.unet import UNet
from unclip.train.starting import begin_, take_caption_

DECODER = replace(
    tiny.DECODER,
    channels=16,
    multipliers=(1, 1),
    embedding=12,
    context=24,
    text_width=None,
    learned_range=False,
    noisy_embedding=False,
    inpainting=True,
)
SIZES = {
    "image_size": 16,
    "patch": 2,
    "channels": 16,
    "widths": (16, 16),
    "blocks": 1,
    "attention": (2,),
    "head_channels": 8,
    "dropout": 0.0,
    "learned_range": False,
}
GLIDE = GlideConfig(**SIZES, caption=CaptionConfig(vocabulary=20, context=6, width=24, layers=1, heads=2))
MODELS = {"glide": lambda: Glide(GLIDE), "adm": lambda: ADM(ADMConfig(**SIZES, classes=3))}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return fill_(Decoder(DECODER), 0.1).float()


@pytest.fixture(scope="module")
def weights(decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "decoder.safetensors"
    save_model(path, decoder)
    return path


@pytest.mark.parametrize("stage", MODELS)
def test_they_take_a_decoders_unet(stage: str, decoder: Decoder, weights: Path) -> None:
    model = MODELS[stage]()
    begin_(model, stage, str(weights), "start")
    found, own = decoder.state_dict(), model.state_dict()
    reading = ".context_kv."  # of captions, which the two read otherwise
    drawing = [name for name in own if name.startswith(("unet.", "time.")) and reading not in name]
    assert len(drawing) > 20
    for name in drawing:
        seen = slice(0, RGB * SIZES["patch"] ** 2) if name == FIRST_WEIGHT else slice(None)
        expected = found[name][:, seen] if name == FIRST_WEIGHT else found[name]
        assert torch.equal(own[name], expected), name
    assert isinstance(model.unet, UNet)


@pytest.mark.parametrize("stage", MODELS)
def test_they_take_the_weights_of_their_own_kind(stage: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = MODELS[stage](), MODELS[stage]()
    save_model(tmp_path / "first.safetensors", first)
    begin_(second, stage, str(tmp_path / "first.safetensors"), "start")
    for name, weight in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight)


def test_unets_of_other_sizes_are_refused(weights: Path, run: Path) -> None:
    """Also where a bundle is named, which has a decoder and no GLIDE."""
    wider = Glide(replace(GLIDE, widths=(16, 32)))
    for start in (weights, run / "bundle"):
        with pytest.raises(InputError, match=r"start has (unet|time)\..* make the UNets the same"):
            begin_(wider, "glide", str(start), "start")


TEXT = TextTransformerConfig(vocabulary=20, context=9, width=24, layers=2, heads=2)
DALLE1 = Dalle1Config(
    text_vocabulary=20, text_context=6, vocabulary=12, grid=4, width=24, layers=3, heads=2, tied=True
)


IMAGE = VisionTransformerConfig(image_size=16, patch=8, width=8, layers=1, heads=2)
NOISED = NoisedCLIPConfig(8, IMAGE, replace(TEXT, context=6), end_token=2, labels=5)


def clip(
    text: TextTransformerConfig = TEXT, activation: Activation = Activation.GELU, embedding: int = 8
) -> CLIP:
    torch.manual_seed(2)
    image, channels = replace(IMAGE, patch_dropout=0.5), {"mean": (0.8, 0.7, 0.6), "std": (0.4, 0.3, 0.2)}
    config = CLIPConfig(embedding, image, text, end_token=2, activation=activation, **channels)
    return CLIP(config)


def test_dalle1_reads_captions_as_a_clip_does(tmp_path: Path) -> None:
    """Up to where its own blocks begin."""
    save_model(tmp_path / "clip.safetensors", found := clip())
    begin_(model := Dalle1(DALLE1).eval(), "transformer", str(tmp_path / "clip.safetensors"), "start")
    ids = torch.tensor([[1, 5, 7, 9, 3, 2]])
    read: list[Tensor] = []
    model.resblocks[1].register_forward_hook(lambda _module, _inputs, output: read.append(output))
    with torch.no_grad():
        model(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.int64))
        expected = found.eval().encode_text(ids).sequence
        torch.testing.assert_close(found.text.ln_final(read[0][:, :6]), expected)


def test_glide_reads_captions_as_a_decoder_does() -> None:
    """The encoder is CLIP's, and its attention makes of the features what the decoder's makes of them."""
    torch.manual_seed(3)
    found, decoder = clip(), fill_(Decoder(replace(DECODER, text_width=24))).float()
    model = Glide(
        replace(GLIDE, caption=CaptionConfig(vocabulary=20, context=6, width=24, layers=2, heads=2))
    )
    take_caption_(model, found, decoder, "start")
    assert torch.equal(model.text.token.weight, found.text.token_embedding.weight)
    for taken, block in zip(found.text.transformer.resblocks, model.text.transformer.resblocks, strict=True):
        assert torch.equal(block.mlp.c_fc.weight, taken.mlp.c_fc.weight)
    features = model.text.norm(torch.randn(2, 6, 24))
    expected = decoder.unet.read(decoder.text_to_context(features)).pairs
    assert expected
    for own, wanted in zip(model.unet.read(features).pairs, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-4)


def test_glide_begins_with_a_bundle(run: Path) -> None:
    """With its decoder and its CLIP, whose text encoder must be of the recipe's sizes."""
    bundle = Bundle.load(run / "bundle")
    drawn, read = bundle.config("decoder"), bundle.config("clip").text
    caption = CaptionConfig(read.vocabulary, read.context, read.width, read.layers, read.heads)
    sizes = {name: getattr(drawn, name) for name in SIZES if name != "widths"}
    widths = tuple(drawn.channels * multiplier for multiplier in drawn.multipliers)
    config = GlideConfig(**sizes, widths=widths, caption=caption)
    begin_(model := Glide(config), "glide", str(run / "bundle"), "start")
    taken = bundle.model("clip", dtype=torch.float32).text.token_embedding.weight
    assert torch.equal(model.text.token.weight, taken)
    other = Glide(replace(config, caption=replace(caption, width=2 * read.width)))
    with pytest.raises(InputError, match=f"text encoder of width {read.width}, the recipe says"):
        begin_(other, "glide", str(run / "bundle"), "start")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (clip(replace(TEXT, width=16)), "start has a text encoder of width 16, the recipe says 24"),
        (clip(replace(TEXT, heads=4)), "start has a text encoder of heads 4, the recipe says 2"),
        (clip(replace(TEXT, vocabulary=21)), "start has a text encoder of vocabulary 21, the recipe says 20"),
        (clip(replace(TEXT, context=5)), "start has a text encoder of 5 tokens and 2 layers"),
        (clip(replace(TEXT, layers=4)), "start has a text encoder of 9 tokens and 4 layers"),
        (clip(activation=Activation.QUICK_GELU), "start has the activation quick-gelu"),
    ],
)
def test_a_clip_of_other_sizes_is_refused(found: CLIP, message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "clip.safetensors", found)
    with pytest.raises(InputError, match=message):
        begin_(Dalle1(DALLE1), "transformer", str(tmp_path / "clip.safetensors"), "start")


def test_a_noised_clip_embeds_as_a_clip_does(tmp_path: Path) -> None:
    """Whatever noise it is told of: it has yet to learn what that means."""
    save_model(tmp_path / "clip.safetensors", found := clip().eval())
    begin_(model := NoisedCLIP(NOISED).eval(), "noised-clip", str(tmp_path / "clip.safetensors"), "start")
    ids, images = torch.tensor([[1, 5, 7, 9, 3, 2], [1, 4, 2, 0, 0, 0]]), torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        texts = nn.functional.normalize(found.encode_text(ids).embedding, dim=-1)
        torch.testing.assert_close(model.encode_text(ids), texts)
        pictures = nn.functional.normalize(found.encode_image(images), dim=-1)
        for label in (0, 4):
            torch.testing.assert_close(model.encode_image(images, torch.tensor([label, label])), pictures)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (clip(embedding=12), r"start has embedding = 12, the recipe says 8: make the stage's model the same"),
        (clip(replace(TEXT, layers=4)), r"start has text\.layers = 4, the recipe says 2"),
        (clip(replace(TEXT, context=5)), r"start has text\.context = 5, the recipe says 6"),
        (clip(activation=Activation.QUICK_GELU), "start has the activation quick-gelu"),
    ],
)
def test_a_noised_clip_of_other_sizes_is_refused(found: CLIP, message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "clip.safetensors", found)
    with pytest.raises(InputError, match=message):
        begin_(NoisedCLIP(NOISED), "noised-clip", str(tmp_path / "clip.safetensors"), "start")
