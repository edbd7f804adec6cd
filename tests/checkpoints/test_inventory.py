"""Promises of the list of models: what is published, what is on disk, how much memory it needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from unclip.catalogue import MANIFEST, PUBLISHED
from unclip.checkpoints.inventory import Model, models


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "unclip"


def by_name() -> Mapping[str, Model]:
    found = models()
    assert len({model.name for model in found}) == len(found)
    return {model.name: model for model in found}


def test_shipped_and_published_models_are_listed() -> None:
    found = by_name()
    shipped = found["pictograms"]
    assert shipped.folder is not None
    assert shipped.stored > 1e6
    assert set(shipped.parameters) > {"clip", "prior", "decoder"}
    assert set(PUBLISHED) < set(found)
    assert found["karlo"].folder is None
    assert found["karlo"].sources == ("https://huggingface.co/kakaobrain/karlo-v1-alpha",)


def test_memory_is_the_weights_and_with_offload_the_largest_component(data: Path) -> None:
    karlo = by_name()["karlo"]
    assert karlo.size == sum(PUBLISHED["karlo"].parameters.values())
    assert karlo.memory["float32"] == {"all": 4 * karlo.size, "offload": 4 * 1_022_030_080}
    assert karlo.memory["bfloat16"] == karlo.memory["float16"]
    assert karlo.memory["bfloat16"]["all"] == 2 * karlo.size


def test_bundles_of_the_user_and_unfinished_downloads_are_seen(data: Path, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, data / "bundles" / "mine")
    shutil.copytree(tiny_bundle, data / "bundles" / "karlo")
    (data / "bundles" / "no bundle").mkdir()
    part = data / "downloads" / "dalle-mega" / "encoder.pt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1000))
    found = by_name()
    assert found["mine"].folder == data / "bundles" / "mine"
    assert found["mine"].stored == sum(path.stat().st_size for path in tiny_bundle.iterdir())
    assert found["mine"].size > 1000
    assert found["karlo"].folder == data / "bundles" / "karlo"
    assert found["dalle-mega"].unfinished == 1000
    assert "no bundle" not in found


def test_a_broken_bundle_is_listed_with_what_is_wrong(data: Path, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, data / "bundles" / "mine")
    (data / "bundles" / "mine" / "prior.safetensors").unlink()
    assert "prior.safetensors is missing" in by_name()["mine"].problem
    (data / "bundles" / "mine" / MANIFEST).write_text("{")
    assert "cannot be read" in by_name()["mine"].problem
