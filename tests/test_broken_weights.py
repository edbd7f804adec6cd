"""The promise that broken weights, of any component of any family, draw no picture in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import unclip
from support import tiny_bundles
from unclip.bundle import save_bundle
from unclip.catalogue import MANIFEST
from unclip.errors import BundleError
from unclip.runtime import sha256

# what each component takes part in
DRAWN: dict[str, dict[str, dict[str, Any]]] = {
    "unclip": {
        "clip": {"size": 64},
        "prior": {"size": 64},
        "ar-prior": {"size": 64, "prior": "ar"},
        "decoder": {"size": 64},
        "upsampler-256": {"size": 256},
        "upsampler-1024": {"size": 1024},
    },
    "dalle1": {
        "clip": {"size": 16, "rerank": 2},
        "transformer": {"size": 16},
        "codec": {"size": 16},
        "upsampler": {"size": 64},
    },
    "dalle-mini": {"transformer": {"size": 6}, "codec": {"size": 6}},
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    parts = {
        "unclip": tiny_bundles.unclip_parts() | {"ar-prior": tiny_bundles.ar_prior_part()},
        "dalle1": tiny_bundles.dalle1_parts(),
        "dalle-mini": tiny_bundles.dalle_mini_parts(folder),
    }
    for family, own in parts.items():
        save_bundle(folder / family, name=family, parts=own, card="", family=family)
    return folder


def broken(bundle: Path, component: str, value: float, everywhere: bool) -> None:
    """Puts a value into the weights of a component, whose hash is made right."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    file = bundle / manifest["components"][component]["file"]
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    for tensor in floats if everywhere else floats[-1:]:
        tensor.fill_(value) if everywhere else tensor.view(-1)[-1:].fill_(value)
    save_file(tensors, file, metadata)
    manifest["components"][component] |= {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (bundle / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("family", "component"), [(family, component) for family, own in DRAWN.items() for component in own]
)
def test_weights_that_are_no_numbers_or_become_none_draw_nothing(
    bundles: Path, tmp_path: Path, family: str, component: str
) -> None:
    for number, (value, everywhere) in enumerate(
        ((float("nan"), False), (float("-inf"), False), (3e38, True))
    ):
        copy = Path(shutil.copytree(bundles / family, tmp_path / str(number)))
        broken(copy, component, value, everywhere)
        with pytest.raises(BundleError, match=r"finite|no numbers"):
            unclip.load(copy, device="cpu").generate("a red apple", seed=1, **DRAWN[family][component])
