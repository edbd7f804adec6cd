"""Promises of SigLIP's sizes: timm's table, and as many parameters as the published models have."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from unclip.checkpoints import clip_siglip
from unclip.checkpoints.clip_siglip import TIMM_MODELS
from unclip.models.clip import CLIP, CLIPConfig
from unclip.models.siglip import Gelu, SiglipTextConfig, SiglipVisionConfig

# Parameters and tensors of `open_clip.CustomTextCLIP` for open_clip 3.3.0's configs of these names, built on
# the meta device with timm 1.0.31; docs/model_profile.csv of open_clip has the first nine to 0.01 million.
# timm's model, text: vocabulary, context, width, projection -> parameters, tensors
PUBLISHED = {
    "ViT-B-16-SigLIP": ("base_patch16_siglip_224", 32_000, 64, 768, True, 203_155_970, 314),
    "ViT-B-16-SigLIP-256": ("base_patch16_siglip_256", 32_000, 64, 768, True, 203_202_050, 314),
    "ViT-B-16-SigLIP-384": ("base_patch16_siglip_384", 32_000, 64, 768, True, 203_447_810, 314),
    "ViT-B-16-SigLIP-512": ("base_patch16_siglip_512", 32_000, 64, 768, True, 203_791_874, 314),
    "ViT-B-16-SigLIP-i18n-256": ("base_patch16_siglip_256", 250_000, 64, 768, True, 370_626_050, 314),
    "ViT-L-16-SigLIP-256": ("large_patch16_siglip_256", 32_000, 64, 1024, True, 652_150_786, 602),
    "ViT-L-16-SigLIP-384": ("large_patch16_siglip_384", 32_000, 64, 1024, True, 652_478_466, 602),
    "ViT-SO400M-14-SigLIP": ("so400m_patch14_siglip_224", 32_000, 16, 1152, True, 877_360_306, 674),
    "ViT-SO400M-14-SigLIP-384": ("so400m_patch14_siglip_384", 32_000, 64, 1152, True, 877_960_498, 674),
    "ViT-SO400M-16-SigLIP-i18n-256": (
        *("so400m_patch16_siglip_256", 250_000, 64, 1152, False),
        *(1_127_430_706, 672),
    ),
    "ViT-B-32-SigLIP2-256": ("base_patch32_siglip_256", 256_000, 64, 768, True, 376_856_066, 314),
    "ViT-L-16-SigLIP2-512": ("large_patch16_siglip_512", 256_000, 64, 1024, True, 882_313_218, 602),
    "ViT-SO400M-14-SigLIP2-378": ("so400m_patch14_siglip_378", 256_000, 64, 1152, True, 1_136_008_498, 674),
    "ViT-gopt-16-SigLIP2-384": ("giantopt_patch16_siglip_384", 256_000, 64, 1152, True, 1_871_885_426, 830),
}
TEXT_SIZES = {768: (12, 12, 3072), 1024: (24, 16, 4096), 1152: (27, 16, 4304)}  # layers, heads, MLP


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_the_published_numbers(name: str) -> None:
    timm_name, vocabulary, context, width, projection, parameters, tensors = PUBLISHED[name]
    image = TIMM_MODELS[f"vit_{timm_name}"]
    text = SiglipTextConfig(vocabulary, context, width, *TEXT_SIZES[width], pad=1, projection=projection)
    config = CLIPConfig(image.width, image, text, end_token=1, logit_bias=True)
    with torch.device("meta"):
        model = CLIP(config)
    written = clip_siglip.TABLE.write(model.state_dict())
    assert sum(tensor.numel() for tensor in written.values()) == parameters
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(written) == tensors
    shapes = clip_siglip.TABLE.shapes(written, name)
    assert shapes == {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def test_google_counts_the_same() -> None:
    with torch.device("meta"):
        model = transformers.SiglipModel(transformers.SiglipConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED["ViT-B-16-SigLIP"][-2]


@pytest.mark.parametrize("name", sorted(TIMM_MODELS))
def test_timms_models_are_as_the_table_has_them(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm wants torchvision", exc_type=ImportError)
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0, global_pool="map")
    first, pool = model.blocks[0], model.attn_pool
    (size, _), (patch, _) = model.patch_embed.img_size, model.patch_embed.patch_size
    activation = Gelu.TANH if type(first.mlp.act).__name__ == "GELUTanh" else Gelu.EXACT
    sizes = (model.embed_dim, len(model.blocks), first.attn.num_heads, first.mlp.fc1.out_features)
    assert SiglipVisionConfig(size, patch, *sizes, activation) == TIMM_MODELS[name]
    assert (pool.num_heads, pool.mlp.fc1.out_features) == sizes[2:]
    assert type(pool.mlp.act) is type(first.mlp.act)
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-6}
