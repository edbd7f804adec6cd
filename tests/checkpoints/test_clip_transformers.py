"""Promises of transformers' format: CLIPModel, CLIPImageProcessor and CLIPTokenizer agree with ours."""

from __future__ import annotations

import hashlib
import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from support.captions import CAPTIONS
from unclip.bundle import Bundle, save_bundle
from unclip.checkpoints import clip_transformers
from unclip.checkpoints.foreign import Conversion, Source
from unclip.embedding import ClipEmbedder
from unclip.errors import CheckpointError
from unclip.images import crop_square, from_uint8
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP, CLIP_MEAN, CLIP_STD
from unclip.tokenizer import CLIP_CONTEXT, CLIP_VOCABULARY, SHIPPED_VOCABULARY, CLIPTokenizer

LARGEST_ERROR = 1e-4  # relative, of issue 4
# SHA-256 of the ids of CAPTIONS, a line each, as openai/CLIP's SimpleTokenizer gives them with ftfy 6.3.1
CAPTION_IDS = "e31b603154c22232fd5352ee9287a8e9d8a66cdd2eb93039af51996ac4cd59ef"
# the letters of CAPTIONS that ftfy repairs, which OpenAI's code does first and transformers' does not
REPAIRED = str.maketrans("“”‘’：ＡＢ１２", "\"\"'':AB12", "") | {ord("ﬁ"): "fi"}


def theirs(folder: Path, activation: str = "quick_gelu", end: int = CLIP_VOCABULARY - 1) -> torch.nn.Module:
    """A random CLIPModel whose norms and biases count, saved to a folder."""
    both = {"hidden_act": activation, "num_hidden_layers": 2}
    config = transformers.CLIPConfig(
        text_config={
            **both,
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_attention_heads": 4,
            "vocab_size": CLIP_VOCABULARY,
            "eos_token_id": end,
        },
        vision_config={
            **both,
            "hidden_size": 96,
            "intermediate_size": 200,
            "num_attention_heads": 3,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=48,
    )
    model = transformers.CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.3 * noise)
    model.save_pretrained(folder)
    return model


def convert(path: Path, **options: str) -> Conversion:
    return clip_transformers.FORMAT.read(Source(path), options)


def clip_of(conversion: Conversion) -> CLIP:
    model = conversion.parts["clip"].source
    assert isinstance(model, CLIP)
    return model


def some_texts() -> Tensor:
    ids = torch.full((3, CLIP_CONTEXT), CLIP_VOCABULARY - 1)
    for row, length in enumerate((2, 20, CLIP_CONTEXT)):
        ids[row, 1 : length - 1] = torch.arange(1, length - 1) * 613
        ids[row, 0] = CLIP_VOCABULARY - 2
    return ids


def assert_same(ours: CLIP, model: torch.nn.Module) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    ids = some_texts()
    with torch.no_grad():
        outputs = model(input_ids=ids, pixel_values=((images + 1) / 2 - mean) / std)
        text = model.text_model(input_ids=ids)
        image, features = ours.encode_image(images), ours.encode_text(ids)
    for found, expected in (
        (torch.nn.functional.normalize(image, dim=-1), outputs.image_embeds),
        (torch.nn.functional.normalize(features.embedding, dim=-1), outputs.text_embeds),
        (features.sequence, text.last_hidden_state),
    ):
        assert (found - expected).abs().max() < LARGEST_ERROR * expected.abs().max()
    assert ours.scale.item() == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("end", [CLIP_VOCABULARY - 1, 2])
def test_both_towers_are_transformers(tmp_path: Path, activation: str, end: int) -> None:
    model = theirs(tmp_path, activation, end)
    assert clip_transformers.looks_like(Source(tmp_path))
    assert_same(clip_of(convert(tmp_path)), model)


def test_a_folder_goes_back_and_transformers_opens_it(tmp_path: Path) -> None:
    model = theirs(tmp_path / "tiny")
    conversion = convert(tmp_path / "tiny")
    bundle = save_bundle(
        tmp_path / "bundle", name="tiny", parts=conversion.parts, card="", family="clip", dtype=None
    )
    clip_transformers.export(bundle, tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    state = load_file(tmp_path / "tiny" / "model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    opened = transformers.CLIPModel.from_pretrained(tmp_path / "back").eval()
    assert_same(clip_of(conversion), opened)
    assert_same(clip_of(convert(tmp_path / "back")), model)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer("a red apple")["input_ids"][1:-1] == bundle.tokenizer().encode("a red apple")


def test_what_clip_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    theirs(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for key, value, message in (
        ("hidden_act", "relu", "hidden_act quick_gelu, relu: it must be the same for both"),
        ("layer_norm_eps", 1e-6, r"text_config.layer_norm_eps 1e-06: CLIP's is 1e-05"),
    ):
        path.write_text(json.dumps({**config, "text_config": {**config["text_config"], key: value}}))
        with pytest.raises(CheckpointError, match=message):
            convert(tmp_path)
    path.write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 2}))
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json: resample = 2, known is 3"):
        convert(tmp_path)


def drawing(width: int, height: int) -> Image.Image:
    """A picture with smooth parts, sharp edges and noise."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    smooth = np.stack([x, y, 0.5 + 0.5 * np.sin(20 * x * y)], axis=-1)
    edges = ((x * 13).astype(int) + (y * 7).astype(int))[..., None] % 2
    noise = np.random.default_rng(width * height).random((height, width, 3))
    return Image.fromarray((255 * (0.5 * smooth + 0.3 * edges + 0.2 * noise)).astype(np.uint8))


@pytest.mark.parametrize(
    ("width", "height"),
    [(640, 480), (333, 517), (225, 224), (224, 224), (17, 5), (1, 1), (2000, 70), (5, 160), (64, 1)],
)
def test_pictures_are_resized_cropped_and_normalised_alike(width: int, height: int) -> None:
    image = drawing(width, height)
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)()
    expected = processor(image, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
    pixels = (from_uint8(np.asarray(crop_square(image, 224))) + 1) / 2
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    found = (pixels - mean) / std
    assert (found - expected).abs().max() < LARGEST_ERROR * expected.abs().max()


def test_a_bundle_cuts_pictures_out_as_transformers_does(tmp_path: Path) -> None:
    theirs(tmp_path)
    assert convert(tmp_path).parts["clip"].preprocessing == Preprocessing(32, "crop-floor")


def test_a_bundle_embeds_pictures_and_texts_as_transformers_does(tmp_path: Path) -> None:
    model = theirs(tmp_path / "tiny")
    parts = convert(tmp_path / "tiny").parts
    save_bundle(tmp_path / "bundle", name="tiny", parts=parts, card="", family="clip", dtype=None)
    embedder = ClipEmbedder.load(tmp_path / "bundle", device="cpu", precision="float32")
    image, text = drawing(100, 61), "a photo of a RED apple &amp; 빨간 사과 🍎"
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    clip_transformers.export(Bundle.load(tmp_path / "bundle"), tmp_path / "back")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "back")
    with torch.no_grad():
        expected = model(
            pixel_values=processor(image, return_tensors="pt")["pixel_values"],
            input_ids=tokenizer(html.unescape(text), return_tensors="pt")["input_ids"],
        )
    torch.testing.assert_close(embedder.embed_images([image]), expected.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(embedder.embed_texts([text]), expected.text_embeds, rtol=0, atol=1e-5)


def test_a_line_of_pixels_is_cropped_before_it_is_enlarged() -> None:
    image = drawing(20_000, 1)  # would become 224 x 4,480,000
    found = np.asarray(crop_square(image, 224))
    middle = image.crop((9_990, 0, 10_010, 1))  # the same scale, with a margin
    expected = np.asarray(middle.resize((20 * 224, 224), Image.Resampling.BICUBIC))[:, 2128:2352]
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_thousand_captions_have_the_same_tokens(tmp_path: Path) -> None:
    ours = CLIPTokenizer.load(SHIPPED_VOCABULARY)
    ours.save_vocabulary(tmp_path)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    rows = [ours.encode(caption) for caption in CAPTIONS]
    assert len(rows) >= 1000
    cleaned = [html.unescape(html.unescape(caption)).translate(REPAIRED) for caption in CAPTIONS]
    for caption, row in zip(cleaned, rows, strict=True):
        assert row == tokenizer(caption)["input_ids"][1:-1], caption
    long = [row for row in rows if len(row) > CLIP_CONTEXT - 2]
    assert len(long) >= 30
    batch = ours.batch(CAPTIONS, CLIP_CONTEXT)
    cut = tokenizer(cleaned, max_length=CLIP_CONTEXT, truncation=True)
    for ids, mask, expected in zip(batch.ids, batch.mask, cut["input_ids"], strict=True):
        assert ids[mask].tolist() == expected
    digest = hashlib.sha256("\n".join(" ".join(map(str, row)) for row in rows).encode()).hexdigest()
    assert digest == CAPTION_IDS
