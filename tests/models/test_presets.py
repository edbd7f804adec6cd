"""The presets are the published models: as many tensors and parameters as OpenAI's files hold."""

from __future__ import annotations

import pytest
import torch

from unclip.config import from_dict, to_dict
from unclip.models.clip import CLIP, PRESETS, CLIPConfig
from unclip.nn.transformer import Activation

# openai/CLIP: tensors of the state dict without input_resolution, context_length and vocab_size, and
# parameters in millions without the batch norms' running statistics
PUBLISHED = {
    "ViT-B/32": (302, 151.3),
    "ViT-B/16": (302, 149.6),
    "ViT-L/14": (446, 427.6),
    "ViT-L/14@336px": (446, 427.9),
    "RN50": (489, 102.0),
    "RN101": (795, 119.7),
    "RN50x4": (669, 178.3),
    "RN50x16": (921, 291.0),
    "RN50x64": (1353, 623.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_size(name: str) -> None:
    with torch.device("meta"):
        model = CLIP(PRESETS[name])
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert (len(model.state_dict()), round(millions, 1)) == PUBLISHED[name]


def test_every_published_model_has_a_preset() -> None:
    assert set(PRESETS) == set(PUBLISHED)
    assert all(config.activation is Activation.QUICK_GELU for config in PRESETS.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_survives_being_written_down(name: str) -> None:
    assert from_dict(CLIPConfig, to_dict(PRESETS[name])) == PRESETS[name]


def test_rn50_has_the_published_names() -> None:
    """A sample of the keys of RN50.pt; the text encoder's stand at the top level there."""
    with torch.device("meta"):
        keys = CLIP(PRESETS["RN50"]).state_dict()
    for key, shape in {
        "visual.conv3.weight": (64, 32, 3, 3),
        "visual.bn3.num_batches_tracked": (),
        "visual.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "visual.layer2.0.downsample.1.running_mean": (512,),
        "visual.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "visual.attnpool.positional_embedding": (50, 2048),
        "visual.attnpool.c_proj.weight": (1024, 2048),
        "text.transformer.resblocks.11.attn.in_proj_weight": (1536, 512),
        "text.positional_embedding": (77, 512),
        "text.token_embedding.weight": (49408, 512),
        "text.text_projection": (512, 1024),
        "logit_scale": (),
    }.items():
        assert keys[key].shape == shape, key


def test_vit_has_the_published_names() -> None:
    with torch.device("meta"):
        keys = CLIP(PRESETS["ViT-L/14"]).state_dict()
    for key, shape in {
        "visual.class_embedding": (1024,),
        "visual.positional_embedding": (257, 1024),
        "visual.proj": (1024, 768),
        "visual.conv1.weight": (1024, 3, 14, 14),
        "visual.ln_pre.weight": (1024,),
        "visual.transformer.resblocks.23.mlp.c_fc.weight": (4096, 1024),
        "visual.ln_post.bias": (1024,),
        "text.ln_final.weight": (768,),
    }.items():
        assert keys[key].shape == shape, key
