"""CLIP's encoders: equal to a plain second implementation, and blind to what must not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.tiny import nudge_
from unclip.config import from_dict, to_dict
from unclip.errors import InputError
from unclip.models.clip import (
    CLIP,
    CBOWConfig,
    CLIPConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
    first_end,
)
from unclip.models.clip_resnet import ModifiedResNet, ModifiedResNetConfig
from unclip.nn.transformer import Activation

VIT = VisionTransformerConfig(image_size=16, patch=4, width=32, layers=2, heads=4)
RESNET = ModifiedResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=8, heads=4)
TEXT = TextTransformerConfig(vocabulary=40, context=12, width=24, layers=2, heads=3)
CBOW = CBOWConfig(vocabulary=40, context=12, width=24)
END = 2
CONFIG = CLIPConfig(embedding=20, image=VIT, text=TEXT, end_token=END)
EXACT = {"rtol": 0.0, "atol": 1e-12}

IDS = torch.tensor([[1, 7, 8, 9, 2, 0, 0], [1, 5, 5, 6, 7, 8, 2], [1, 2, 0, 0, 0, 0, 0]])
MASK = IDS != 0


def make(config: CLIPConfig, seed: int = 0) -> CLIP:
    """A CLIP in double precision in which no parameter is 0 or 1, so that a forgotten one shows."""
    torch.manual_seed(seed)
    model = CLIP(config).double().eval()
    for module in nudge_(model, 0.1).modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def pictures(config: CLIPConfig, count: int = 3) -> Tensor:
    size = config.image.image_size
    return torch.rand(count, 3, size, size, dtype=torch.float64) * 2 - 1


# --- a second implementation, from openai/CLIP's description and with torch's own multi-head attention


def plain_blocks(weights: dict[str, Tensor], prefix: str, x: Tensor, heads: int, causal: bool) -> Tensor:
    """Pre-norm blocks with matrix products only, (N, D) -> (N, D)."""
    count, width = x.shape
    i = 0
    while f"{prefix}resblocks.{i}.ln_1.weight" in weights:
        block = {
            k.split(f"resblocks.{i}.")[1]: v for k, v in weights.items() if f"{prefix}resblocks.{i}." in k
        }
        y = F.layer_norm(x, (width,), block["ln_1.weight"], block["ln_1.bias"])
        qkv = y @ block["attn.in_proj_weight"].T + block["attn.in_proj_bias"]
        out = []
        for head in range(heads):
            query, key, value = (part.chunk(heads, dim=1)[head] for part in qkv.chunk(3, dim=1))
            logits = query @ key.T / math.sqrt(width // heads)
            if causal:
                logits = logits + torch.full((count, count), -math.inf).triu(1)
            out.append(logits.softmax(1) @ value)
        x = x + torch.cat(out, 1) @ block["attn.out_proj.weight"].T + block["attn.out_proj.bias"]
        y = F.layer_norm(x, (width,), block["ln_2.weight"], block["ln_2.bias"])
        y = F.gelu(y @ block["mlp.c_fc.weight"].T + block["mlp.c_fc.bias"])
        x = x + y @ block["mlp.c_proj.weight"].T + block["mlp.c_proj.bias"]
        i += 1
    return x


def plain_image(model: CLIP, image: Tensor) -> Tensor:
    weights = model.state_dict()
    channels = [(image[c] * 0.5 + 0.5 - CONFIG.mean[c]) / CONFIG.std[c] for c in range(3)]
    image = torch.stack(channels)
    kernel = weights["visual.conv1.weight"].flatten(1)  # (W, 3 * patch * patch)
    tokens = [weights["visual.class_embedding"]]
    for top in range(0, VIT.image_size, VIT.patch):
        for left in range(0, VIT.image_size, VIT.patch):
            tokens.append(kernel @ image[:, top : top + VIT.patch, left : left + VIT.patch].flatten())
    x = torch.stack(tokens) + weights["visual.positional_embedding"]
    x = F.layer_norm(x, (VIT.width,), weights["visual.ln_pre.weight"], weights["visual.ln_pre.bias"])
    x = plain_blocks(weights, "visual.transformer.", x, VIT.heads, causal=False)[0]
    x = F.layer_norm(x, (VIT.width,), weights["visual.ln_post.weight"], weights["visual.ln_post.bias"])
    return x @ weights["visual.proj"]


def plain_text(model: CLIP, ids: list[int]) -> tuple[Tensor, Tensor]:
    """One text without padding, which ends with its end token."""
    weights = model.state_dict()
    x = torch.stack([weights["text.token_embedding.weight"][token] for token in ids])
    x = x + weights["text.positional_embedding"][: len(ids)]
    x = plain_blocks(weights, "text.transformer.", x, TEXT.heads, causal=True)
    x = F.layer_norm(x, (TEXT.width,), weights["text.ln_final.weight"], weights["text.ln_final.bias"])
    return x[-1] @ weights["text.text_projection"], x


def test_the_image_encoder_equals_the_plain_one() -> None:
    model = make(CONFIG)
    images = pictures(CONFIG)
    expected = torch.stack([plain_image(model, image) for image in images])
    # mean and std are float32 constants in the model
    torch.testing.assert_close(model.encode_image(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK])
def test_the_text_encoder_equals_the_plain_one_without_padding(mask: Tensor | None) -> None:
    model = make(CONFIG)
    features = model.encode_text(IDS, mask)
    for i, ids in enumerate(IDS):
        embedding, sequence = plain_text(model, ids[MASK[i]].tolist())
        torch.testing.assert_close(features.embedding[i], embedding, **EXACT)
        torch.testing.assert_close(features.sequence[i, MASK[i]], sequence, **EXACT)


@pytest.mark.parametrize("text", [TEXT, CBOW])
@pytest.mark.parametrize("with_mask", [False, True])
def test_text_features_do_not_depend_on_the_padding(
    text: TextTransformerConfig | CBOWConfig, with_mask: bool
) -> None:
    model = make(replace(CONFIG, text=text))
    long_ids = F.pad(IDS, (0, 5))  # the full context
    short = model.encode_text(IDS, MASK if with_mask else None)
    long = model.encode_text(long_ids, long_ids != 0 if with_mask else None)
    torch.testing.assert_close(long.embedding, short.embedding, **EXACT)
    torch.testing.assert_close(long.sequence[:, :7][MASK], short.sequence[MASK], **EXACT)


def test_the_text_feature_is_read_at_the_first_end_token() -> None:
    """Published checkpoints pad with anything, the end token too; what follows the first one is no text."""
    model = make(CONFIG)
    ids = torch.tensor([[1, 7, 8, 2, 0, 0], [1, 7, 8, 2, 2, 2], [1, 7, 8, 2, 9, 2]])
    assert first_end(ids, END).tolist() == [3, 3, 3]
    embedding = model.encode_text(ids).embedding
    torch.testing.assert_close(embedding[1:], embedding[:1].expand(2, -1), **EXACT)


def test_a_bag_of_words_is_the_projected_mean_of_its_token_embeddings() -> None:
    model = make(replace(CONFIG, text=CBOW))
    weights = model.state_dict()
    features = model.encode_text(IDS, MASK)
    tokens = weights["text.token_embedding.weight"]
    torch.testing.assert_close(features.sequence, tokens[IDS], **EXACT)
    mean = tokens[IDS[0, :5]].mean(0)
    torch.testing.assert_close(features.embedding[0], mean @ weights["text.text_projection"], **EXACT)
    shuffled = model.encode_text(IDS[:1, [0, 3, 1, 2, 4]]).embedding
    torch.testing.assert_close(shuffled, features.embedding[:1], **EXACT)


def test_the_resnet_equals_the_plain_one() -> None:
    """Strides are average pools; attention pooling is torch's own multi-head attention, as in openai/CLIP."""
    model = make(replace(CONFIG, image=RESNET))
    weights = {k.removeprefix("visual."): v for k, v in model.state_dict().items() if k.startswith("visual.")}

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = weights[name + ".running_mean"], weights[name + ".running_var"]
        return F.batch_norm(x, mean, var, weights[name + ".weight"], weights[name + ".bias"])

    images = pictures(model.config)
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (CONFIG.mean, CONFIG.std))
    x = ((images + 1) / 2 - mean) / std
    x = F.relu(norm(F.conv2d(x, weights["conv1.weight"], stride=2, padding=1), "bn1"))
    x = F.relu(norm(F.conv2d(x, weights["conv2.weight"], padding=1), "bn2"))
    x = F.relu(norm(F.conv2d(x, weights["conv3.weight"], padding=1), "bn3"))
    x = F.avg_pool2d(x, 2)
    for stage, blocks in enumerate(RESNET.layers, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}."
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, weights[name + "conv1.weight"]), name + "bn1"))
            y = F.relu(norm(F.conv2d(y, weights[name + "conv2.weight"], padding=1), name + "bn2"))
            y = norm(F.conv2d(F.avg_pool2d(y, stride), weights[name + "conv3.weight"]), name + "bn3")
            if block == 0:
                kernel = weights[name + "downsample.0.weight"]
                x = norm(F.conv2d(F.avg_pool2d(x, stride), kernel), name + "downsample.1")
            x = F.relu(x + y)
    assert x.shape == (3, RESNET.features, 2, 2)
    x = x.flatten(2).permute(2, 0, 1)  # (P, B, C)
    x = torch.cat([x.mean(0, keepdim=True), x]) + weights["attnpool.positional_embedding"][:, None]
    q, k, v, c = (f"attnpool.{letter}_proj" for letter in "qkvc")
    x, _ = F.multi_head_attention_forward(
        query=x[:1],
        key=x,
        value=x,
        embed_dim_to_check=RESNET.features,
        num_heads=RESNET.heads,
        q_proj_weight=weights[q + ".weight"],
        k_proj_weight=weights[k + ".weight"],
        v_proj_weight=weights[v + ".weight"],
        in_proj_weight=None,
        in_proj_bias=torch.cat([weights[name + ".bias"] for name in (q, k, v)]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0,
        out_proj_weight=weights[c + ".weight"],
        out_proj_bias=weights[c + ".bias"],
        use_separate_proj_weight=True,
        training=False,
        need_weights=False,
    )
    torch.testing.assert_close(model.encode_image(images), x[0], rtol=0, atol=1e-5)


def test_a_new_resnet_starts_with_blocks_that_pass_their_input_on() -> None:
    model = ModifiedResNet(RESNET, embedding=20)
    block = model.layer2[1]
    x = torch.rand(2, RESNET.width * 8, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_the_scale_starts_as_published_and_is_clipped_at_100() -> None:
    model = CLIP(CONFIG)
    assert model.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.logit_scale.fill_(5.0)  # exp(5) is 148
    assert model.scale.item() == pytest.approx(100)


def test_a_scale_above_its_limit_can_come_back_but_not_rise() -> None:
    model = CLIP(CONFIG)
    with torch.no_grad():
        model.logit_scale.fill_(5.0)
    (down,) = torch.autograd.grad(model.scale, model.logit_scale)  # a loss that wants a smaller scale
    (up,) = torch.autograd.grad(-model.scale, model.logit_scale)
    assert (down.item(), up.item()) == (pytest.approx(100), 0)


def test_with_a_logit_bias_both_start_as_siglip_does_and_the_scale_is_free() -> None:
    """Published SigLIP models end above 100."""
    model = CLIP(replace(CONFIG, logit_bias=True))
    features = model(pictures(CONFIG).float(), IDS)
    assert features.scale.item() == pytest.approx(10)
    assert features.bias.item() == -10
    with torch.no_grad():
        model.logit_scale.fill_(5.0)
    assert model.scale.item() == pytest.approx(math.exp(5))
    assert CLIP(CONFIG)(pictures(CONFIG).float(), IDS).bias is None


def test_patches_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    model = CLIP(replace(CONFIG, image=replace(VIT, patch_dropout=0.5)))
    seen: list[int] = []
    model.visual.transformer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    images = pictures(CONFIG).float()
    assert not torch.equal(model.encode_image(images), model.encode_image(images))
    model.eval()
    assert torch.equal(model.encode_image(images), model.encode_image(images))
    assert seen == [1 + 8, 1 + 8, 1 + 16, 1 + 16]


def test_a_dropped_patch_takes_its_position_along() -> None:
    """The patches that remain keep their own positions: as a set they are a part of the whole."""
    model = make(replace(CONFIG, image=replace(VIT, patch_dropout=0.25)))
    tokens: list[Tensor] = []
    model.visual.ln_pre.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0]))
    images = pictures(CONFIG, count=2)
    model.encode_image(images)
    model.train()
    model.encode_image(images)
    whole, part = tokens
    distance = torch.cdist(part, whole)  # (B, 13, 17)
    assert part.shape[1] == 1 + 12
    assert (distance.min(2).values < 1e-6).all()
    assert torch.equal(part[:, 0], whole[:, 0])


@pytest.mark.parametrize("image", [VIT, RESNET])
@pytest.mark.parametrize("text", [TEXT, CBOW])
def test_every_combination_learns_and_works_in_bfloat16(
    image: VisionTransformerConfig | ModifiedResNetConfig, text: TextTransformerConfig | CBOWConfig
) -> None:
    config = replace(CONFIG, image=image, text=text)
    torch.manual_seed(0)
    model = CLIP(config)
    images = pictures(config).float()
    features = model(images, IDS, MASK)
    assert features.image.shape == features.text.shape == (3, 20)
    ((features.image * features.text).sum() * features.scale).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    model.eval().to(torch.bfloat16)
    with torch.no_grad():
        features = model(images, IDS, MASK)
    assert features.image.dtype == features.text.dtype == torch.bfloat16
    assert features.image.isfinite().all()


def test_autocast_changes_little() -> None:
    model = make(CONFIG).float()
    images = pictures(CONFIG).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(images, IDS)
    exact = model(images, IDS)
    for a, b in ((rough.image, exact.image), (rough.text, exact.text)):
        assert F.cosine_similarity(a.float(), b).min() > 0.999


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CLIPConfig(16, RESNET, CBOW, END, Activation.QUICK_GELU, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), True),
    ],
)
def test_a_config_survives_being_written_down(config: CLIPConfig) -> None:
    data = to_dict(config)
    assert data["image"]["kind"] in ("vit", "resnet")
    assert from_dict(CLIPConfig, data) == config


def test_the_normalisation_is_in_the_config_and_not_in_the_weights() -> None:
    keys = CLIP(CONFIG).state_dict()
    assert "mean" not in keys
    assert "std" not in keys
    model = make(replace(CONFIG, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    images = pictures(CONFIG)
    torch.testing.assert_close(model.encode_image(images), model.visual(images), **EXACT)


@pytest.mark.parametrize("shape", [(1, 3, 16, 20), (1, 3, 32, 32), (1, 1, 16, 16), (3, 16, 16)])
def test_images_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes \(B, 3, 16, 16\)"):
        CLIP(CONFIG).encode_image(torch.zeros(shape))


@pytest.mark.parametrize("text", [TEXT, CBOW])
def test_texts_that_cannot_be_read_are_refused(text: TextTransformerConfig | CBOWConfig) -> None:
    model = CLIP(replace(CONFIG, text=text))
    with pytest.raises(InputError, match=r"\(B, L\) with L from 1 to 12"):
        model.encode_text(torch.ones(1, 13, dtype=torch.int64))
    with pytest.raises(InputError, match="text 1 of the batch has no end token 2"):
        model.encode_text(torch.tensor([[1, 2, 0], [1, 3, 4]]))
    with pytest.raises(InputError, match=r"text mask \(3, 6\) torch.bool: it must be \(3, 7\) torch.bool"):
        model.encode_text(IDS, MASK[:, :6])


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (CONFIG, {"end_token": 40}, "end_token 40 is not in the vocabulary of 40"),
        (CONFIG, {"std": (0.5, 0.0, 0.5)}, "each must be above 0"),
        (CONFIG, {"image": RESNET, "text": CBOW, "dropout": 0.1}, "no transformer to drop from"),
        (VIT, {"patch": 5}, "image size 16 is not a multiple of the patch size 5"),
        (VIT, {"patch_dropout": 1.0}, "patch_dropout 1.0 is outside"),
        (RESNET, {"image_size": 60}, "not a multiple of 32"),
        (RESNET, {"layers": (1, 2, 3)}, "there must be 4 numbers"),
        (RESNET, {"width": 7}, "must be even"),
        (RESNET, {"heads": 3}, "3 heads do not divide the 256 channels"),
    ],
)
def test_impossible_configs_are_refused(config: object, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(config, **changes)
