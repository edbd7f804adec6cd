"""Promises of the catalogue: right sizes, addresses that carry their hashes, names that are suggested."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from unclip.catalogue import PUBLISHED, HubFiles, WebFile, find_published
from unclip.checkpoints.formats import formats
from unclip.errors import InputError
from unclip.manifest import FAMILIES
from unclip.models import adm, clip, dalle_mini, glide, noised_clip, vqgan, vqvae

CLIP = {
    f"clip-{name.lower().replace('/', '-').removesuffix('px').replace('@', '-')}": config
    for name, config in clip.PRESETS.items()
}
DETOKENIZER = vqgan.VQGANConfig(encodes=False)
# the networks of each model, by component, where their architecture is ours to build
NETWORKS: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
    **{name: {"clip": (clip.CLIP, config)} for name, config in CLIP.items()},
    **{
        f"adm-{side}": {
            "adm": (adm.ADM, adm.PRESETS[f"adm-{side}"]),
            "classifier": (adm.Classifier, adm.CLASSIFIERS[side]),
        }
        for side in (64, 128, 256, 512)
    },
    "adm-256-unconditional": {"adm": (adm.ADM, adm.PRESETS["adm-256-unconditional"])},
    "adm-lsun-cat": {"adm": (adm.ADM, adm.PRESETS["adm-256-unconditional"])},
    "adm-64-256": {"upsampler-256": (adm.ADM, adm.PRESETS["adm-64-256"])},
    "adm-128-512": {"upsampler-512": (adm.ADM, adm.PRESETS["adm-128-512"])},
    "glide": {
        "glide": (glide.Glide, glide.PRESETS["base"]),
        "upsampler-256": (glide.Glide, glide.PRESETS["upsample"]),
        "noised-clip": (noised_clip.NoisedCLIP, noised_clip.RELEASED),
    },
    "glide-inpaint": {
        "glide": (glide.Glide, glide.PRESETS["base-inpaint"]),
        "upsampler-256": (glide.Glide, glide.PRESETS["upsample-inpaint"]),
    },
    "dvae": {"codec": (vqvae.VQVAE, vqvae.VQVAEConfig())},
    "vqgan-f16-1024": {"codec": (vqgan.VQGAN, vqgan.VQGANConfig(vocabulary=1024))},
    "vqgan-f16-16384": {"codec": (vqgan.VQGAN, vqgan.VQGANConfig())},
    "dalle-mini": {
        "transformer": (dalle_mini.DalleMini, dalle_mini.PRESETS["mini"]),
        "codec": (vqgan.VQGAN, DETOKENIZER),
    },
    "dalle-mega": {
        "transformer": (dalle_mini.DalleMini, dalle_mini.PRESETS["mega"]),
        "codec": (vqgan.VQGAN, DETOKENIZER),
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_size_is_that_of_the_architecture(name: str) -> None:
    for component, (network, config) in NETWORKS[name].items():
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in network(config).parameters())
        assert PUBLISHED[name].parameters[component] == count, component


def test_karlo_has_the_published_sizes() -> None:
    """kakaobrain/karlo-v1-alpha: text encoder, prior, projections, decoder, two for super-resolution."""
    published = (123_650_304, 1_022_030_080, 7_878_400, 885_439_686, 691_579_523, 691_579_523)
    assert sum(PUBLISHED["karlo"].parameters.values()) == sum(published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_entry_is_whole(name: str) -> None:
    model = PUBLISHED[name]
    assert model.name == name
    assert model.family in FAMILIES
    assert model.abilities
    assert model.parameters
    assert model.licence
    assert model.page.startswith("https://")
    paths = [source.path for source in model.sources if isinstance(source, WebFile)]
    assert len(paths) == len(set(paths))
    assert not model.opens or model.opens in paths
    for source in model.sources:
        if isinstance(source, HubFiles):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
        else:
            assert source.url.startswith("https://")
            assert Path(source.path).name == source.path


def test_every_model_has_a_format_that_is_read() -> None:
    known = formats()
    for model in PUBLISHED.values():
        assert known[model.format].family == model.family, model.name


def test_openai_s_hashes_are_those_in_the_addresses() -> None:
    stated = {
        (source.url, source.sha256)
        for model in PUBLISHED.values()
        for source in model.sources
        if isinstance(source, WebFile) and "/clip/models/" in source.url
    }
    assert len(stated) == len(clip.PRESETS)
    assert all(digest and f"/{digest}/" in url for url, digest in stated)


def test_an_unknown_name_suggests_names_like_it() -> None:
    assert find_published("karlo").name == "karlo"
    with pytest.raises(InputError, match="'kralo'.*did you mean karlo"):
        find_published("kralo")
    with pytest.raises(InputError, match="did you mean clip-vit-b-32"):
        find_published("ViT-B/32")
    with pytest.raises(InputError, match="`unclip models` lists all"):
        find_published("stable-diffusion-xl-of-somebody")
