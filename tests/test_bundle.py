"""Promises of bundles: all or nothing, checked before use, errors that name the file or the tensor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.tiny_bundles import parts_of
from unclip import bundle as bundle_module
from unclip import catalogue
from unclip.bundle import SHIPPED, Bundle, Part, available_bundles, find_bundle, save_bundle
from unclip.catalogue import MANIFEST
from unclip.config import to_dict
from unclip.diffusion.defaults import (
    ClassifierSampling,
    DecoderSampling,
    GuidedSampling,
    PriorSampling,
    Sampling,
)
from unclip.diffusion.denoiser import Threshold
from unclip.errors import BundleError, CheckpointError, InputError
from unclip.manifest import read_sampling, sampling_of
from unclip.models.prior import DiffusionPrior, PriorConfig
from unclip.native import METADATA_KEY, load_model, save_model
from unclip.runtime import sha256
from unclip.tokenizer import BytePairTokenizer

PRIOR = PriorConfig(embedding=8, text_width=8, context=4, width=8, layers=1, heads=2)


@pytest.fixture
def prior() -> DiffusionPrior:
    model = DiffusionPrior(PRIOR)
    model.whitening.fit_(torch.randn(9, 8, generator=torch.Generator().manual_seed(0)))
    return model


def header(path: Path) -> dict[str, Any]:
    """The metadata of a weight file."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[METADATA_KEY])


# --- weight files ---


def test_weights_config_and_details_survive_a_file(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_model(path, prior, details={"step": 7})
    about = header(path)
    assert (about["kind"], about["config"], about["details"]) == (
        "diffusion-prior",
        to_dict(PRIOR),
        {"step": 7},
    )
    again = load_model(path, kind="diffusion-prior", config=PRIOR)
    assert isinstance(again, DiffusionPrior)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for name, tensor in prior.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_weight_file_may_be_read_by_whom_any_file_may(prior: DiffusionPrior, tmp_path: Path) -> None:
    """A bundle that root installs is for everybody."""
    save_model(tmp_path / "prior.safetensors", prior)
    (tmp_path / "any").touch()
    assert (tmp_path / "prior.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_the_same_weights_make_the_same_bytes(prior: DiffusionPrior, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_model(tmp_path / name, prior, dtype=torch.bfloat16, details={"b": 1, "a": 2})
    assert sha256(tmp_path / "a.safetensors") == sha256(tmp_path / "b.safetensors")


def test_bf16_is_for_matrices_and_vectors_keep_their_digits(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_model(path, prior, dtype=torch.bfloat16)
    stored = load_model(path)
    assert stored.out.weight.dtype == torch.bfloat16
    assert torch.equal(stored.whitening.std, prior.whitening.std)
    wide = load_model(path, dtype=torch.float32)
    assert all(tensor.dtype == torch.float32 for tensor in wide.state_dict().values())
    assert torch.equal(wide.out.weight, prior.out.weight.to(torch.bfloat16).float())


def test_an_average_can_be_written_in_place_of_the_weights(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    average = {name: tensor + 1 for name, tensor in prior.state_dict().items()}
    save_model(path, prior, state=average)
    assert torch.equal(load_model(path).out.bias, prior.out.bias + 1)
    del average["out.bias"]
    with pytest.raises(CheckpointError, match=r"missing out\.bias"):
        save_model(path, prior, state=average)


def test_buffers_that_are_not_saved_are_there_after_loading(tiny_bundle: Path) -> None:
    """CLIP keeps its pixel mean outside its weights: it must not come back as whatever memory held."""
    clip = Bundle.load(tiny_bundle).model("clip")
    assert clip.mean.flatten().tolist() == pytest.approx(clip.config.mean)


def test_loading_is_strict_and_names_the_tensors(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_model(path, prior)
    tensors = load_file(path)
    said = {"format": 1, "kind": "diffusion-prior", "config": to_dict(PRIOR), "details": {}}
    about = {METADATA_KEY: json.dumps(said)}
    without = {name: tensor for name, tensor in tensors.items() if name != "query"}
    for broken, message in (
        (without, "missing query"),
        ({**tensors, "quary": torch.zeros(8)}, "extra quary"),
        ({**tensors, "query": torch.zeros(3)}, r"mis-shaped query is \[3\] and should be \[8\]"),
        ({**without, "quary": torch.zeros(3)}, "missing query; extra quary"),
    ):
        save_file(broken, path, about)
        with pytest.raises(CheckpointError, match=message) as caught:
            load_model(path)
        assert str(path) in str(caught.value)


def test_files_that_are_not_ours_are_refused(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    with pytest.raises(CheckpointError, match="no such weight file"):
        load_model(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not one of our weight files"):
        load_model(path)
    save_model(path, prior)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(path)
    save_model(path, prior)
    with pytest.raises(CheckpointError, match="holds a diffusion-prior, expected a decoder"):
        load_model(path, kind="decoder")
    for change, message in (
        ({"kind": "oracle"}, "unknown kind of model 'oracle'"),
        ({"config": {"width": "wide"}}, "width"),
        ({"format": 9}, "format 9"),
    ):
        about = {"format": 1, "kind": "diffusion-prior", "config": to_dict(PRIOR), "details": {}, **change}
        save_file({"a": torch.zeros(1)}, path, {METADATA_KEY: json.dumps(about)})
        with pytest.raises(CheckpointError, match=message):
            load_model(path)


def test_a_failed_save_leaves_the_old_file(prior: DiffusionPrior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    save_model(path, prior)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_model(path, prior, details={"not json": object()})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["prior.safetensors"]


# --- bundles ---


def test_a_bundle_comes_back_whole(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    bundle.verify()
    assert (bundle.name, bundle.family, bundle.manifest.licence) == ("tiny", "unclip", "Apache-2.0")
    assert sorted(file.name for file in tiny_bundle.iterdir()) == sorted(
        ["README.md", MANIFEST, *(component.file for component in bundle.components.values())]
    )
    assert isinstance(bundle.tokenizer(), BytePairTokenizer)
    for name, component in bundle.components.items():
        if name != "tokenizer":
            assert to_dict(bundle.model(name).config) == component.config
    prior = bundle.component("prior")
    assert prior.sampling is not None
    assert prior.sampling.candidates == 2
    assert prior.diffusion is not None
    assert prior.diffusion.prediction == "x0"


@pytest.mark.parametrize("name", ["decoder", "tokenizer", "upsampler-1024"])
def test_a_missing_file_is_named(tiny_bundle_copy: Path, name: str) -> None:
    path = tiny_bundle_copy / Bundle.load(tiny_bundle_copy).component(name).file
    path.unlink()
    with pytest.raises(BundleError, match=f"{path.name} is missing"):
        Bundle.load(tiny_bundle_copy)


@pytest.mark.parametrize("name", ["decoder", "tokenizer", "upsampler-1024"])
def test_an_altered_byte_is_noticed_and_its_file_named(tiny_bundle_copy: Path, name: str) -> None:
    bundle = Bundle.load(tiny_bundle_copy)
    path = tiny_bundle_copy / bundle.component(name).file
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{path.name} was altered \(its SHA-256"):
        bundle.tokenizer() if name == "tokenizer" else bundle.model(name)
    with pytest.raises(BundleError, match=f"{path.name} was altered"):
        bundle.verify()
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match=rf"{path.name} was altered \({len(data) - 1} bytes"):
        Bundle.load(tiny_bundle_copy)


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_tensors_that_do_not_fit_are_named_even_when_the_hash_is_right(tiny_bundle_copy: Path) -> None:
    bundle = Bundle.load(tiny_bundle_copy)
    path = tiny_bundle_copy / bundle.component("prior").file
    about = json.dumps({**header(path), "details": {}})
    tensors = load_file(path)
    tensors["extra.weight"] = torch.zeros(1)
    save_file(tensors, path, {METADATA_KEY: about})
    components = json.loads((tiny_bundle_copy / MANIFEST).read_text())["components"]
    components["prior"] |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    _edit_manifest(tiny_bundle_copy, components=components)
    with pytest.raises(BundleError, match=r"prior\.safetensors.*extra extra\.weight"):
        Bundle.load(tiny_bundle_copy).model("prior")


def test_a_wrong_manifest_is_refused_with_the_key(tiny_bundle_copy: Path) -> None:
    components = json.loads((tiny_bundle_copy / MANIFEST).read_text())["components"]
    without_decoder = {name: value for name, value in components.items() if name != "decoder"}
    outside = {**components, "prior": {**components["prior"], "file": "../prior.safetensors"}}
    unknown = {**components, "prior": {**components["prior"], "kind": "oracle"}}
    mistyped = {**components, "prior": {**components["prior"], "bytes": "many"}}
    for changes, message in (
        ({"format": 2}, "format 2"),
        ({"family": "cubism"}, "unknown family 'cubism'"),
        ({"components": without_decoder}, "component decoder is missing"),
        ({"components": outside}, "outside the bundle"),
        ({"components": unknown}, "unknown kind 'oracle'"),
        ({"components": mistyped}, r"components\.prior\.bytes"),
        ({"colour": "red"}, "colour"),
    ):
        good = (tiny_bundle_copy / MANIFEST).read_text()
        _edit_manifest(tiny_bundle_copy, **changes)
        with pytest.raises(BundleError, match=message):
            Bundle.load(tiny_bundle_copy)
        (tiny_bundle_copy / MANIFEST).write_text(good)
    (tiny_bundle_copy / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(tiny_bundle_copy)


def test_config_in_manifest_and_weights_must_agree(tiny_bundle_copy: Path) -> None:
    components = json.loads((tiny_bundle_copy / MANIFEST).read_text())["components"]
    components["prior"]["config"]["dropout"] = 0.5
    _edit_manifest(tiny_bundle_copy, components=components)
    with pytest.raises(BundleError, match=r"its config is PriorConfig.*dropout=0\.0.*expected.*dropout=0\.5"):
        Bundle.load(tiny_bundle_copy).model("prior")


def test_a_field_that_a_config_has_got_since_does_not_matter(tiny_bundle_copy: Path) -> None:
    """A bundle from before the field: its manifest does not name it, the default stands for it."""
    components = json.loads((tiny_bundle_copy / MANIFEST).read_text())["components"]
    del components["decoder"]["config"]["noisy_embedding"]
    _edit_manifest(tiny_bundle_copy, components=components)
    assert Bundle.load(tiny_bundle_copy).model("decoder").config.noisy_embedding is False


# --- how a component draws ---

# The table that every component had before each kind had its own, with values that do nothing.
ALL_KEYS = {
    "steps": 7,
    "sampler": "ddim",
    "spacing": None,
    "guidance": 1.0,
    "interval": None,
    "eta": 0.0,
    "langevin": None,
    "threshold": "static",
    "limit": 1.0,
    "percentile": 0.995,
    "candidates": 1,
    "noise_level": 0.0,
    "temperature": 1.0,
}


def _edit_sampling(folder: Path, name: str, table: object) -> None:
    components = json.loads((folder / MANIFEST).read_text())["components"]
    components[name]["sampling"] = table
    _edit_manifest(folder, components=components)


@pytest.mark.parametrize(
    ("kind", "config", "honoured"),
    [
        ("diffusion-prior", {}, PriorSampling),
        ("decoder", {}, DecoderSampling),
        ("upsampler", {}, Sampling),
        ("glide", {"low_size": None}, GuidedSampling),
        ("glide", {"low_size": 64}, GuidedSampling),
        ("adm", {"low_size": None}, ClassifierSampling),
        ("adm", {"low_size": 64}, Sampling),
        ("clip", {}, None),
    ],
)
def test_each_kind_of_model_has_the_sampling_that_it_honours(
    kind: str, config: dict[str, Any], honoured: type[Sampling] | None
) -> None:
    assert sampling_of(kind, config) is honoured


def test_a_manifest_holds_what_its_components_honour_and_nothing_else(tiny_bundle: Path) -> None:
    components = json.loads((tiny_bundle / MANIFEST).read_text())["components"]
    plain = ALL_KEYS.keys() - {"guidance", "interval", "candidates", "noise_level"} | {"variance"}
    assert components["prior"]["sampling"].keys() == plain | {"guidance", "interval", "candidates"}
    assert components["decoder"]["sampling"].keys() == plain | {"guidance", "interval", "noise_level"}
    assert components["upsampler-256"]["sampling"].keys() == plain


def test_bundles_from_before_the_kinds_of_sampling_load_as_they_did(tiny_bundle_copy: Path) -> None:
    for name, honoured in (
        ("prior", PriorSampling(7, threshold=Threshold.STATIC)),
        ("decoder", DecoderSampling(7, threshold=Threshold.STATIC)),
        ("upsampler-256", Sampling(7, threshold=Threshold.STATIC)),
    ):
        _edit_sampling(tiny_bundle_copy, name, ALL_KEYS)
        assert Bundle.load(tiny_bundle_copy).component(name).sampling == honoured
    _edit_sampling(tiny_bundle_copy, "upsampler-256", {**ALL_KEYS, "guidance": 0.0})  # of ADM's, converted
    assert Bundle.load(tiny_bundle_copy).component("upsampler-256").sampling == honoured


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda folder: folder.name)
def test_shipped_bundles_draw_as_their_manifests_say(folder: Path) -> None:
    tables = json.loads((folder / MANIFEST).read_text())["components"]
    for name, component in Bundle.load(folder).components.items():
        if component.sampling is None:
            assert tables[name]["sampling"] is None
            continue
        read = to_dict(component.sampling)
        assert read.pop("variance") is None  # has come since
        assert read.items() <= tables[name]["sampling"].items()


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        (
            "upsampler-256",
            {**ALL_KEYS, "guidance": 2.0},
            "upsampler-256.sampling: .*upsampler, has no guidance",
        ),
        ("decoder", {**ALL_KEYS, "candidates": 3}, "decoder.sampling: .*has no candidates, leave it out"),
        ("prior", {**ALL_KEYS, "noise_level": 0.1}, "has no noise_level"),
        ("prior", {**ALL_KEYS, "stepz": 1}, "unknown key 'components.prior.sampling.stepz'"),
        ("prior", 3, "components.prior.sampling: got 3"),
        ("clip", ALL_KEYS, "components.clip.sampling: the kind clip does not draw by diffusion"),
    ],
)
def test_sampling_that_a_component_does_not_honour_is_refused(
    name: str, table: object, message: str, tiny_bundle_copy: Path
) -> None:
    _edit_sampling(tiny_bundle_copy, name, table)
    with pytest.raises(BundleError, match=message):
        Bundle.load(tiny_bundle_copy)


def test_a_recipe_is_refused_even_what_would_do_nothing() -> None:
    with pytest.raises(
        InputError, match=r"^up\.sampling: .* has no guidance and no candidates, leave it out"
    ):
        read_sampling("upsampler", {}, {"steps": 3, "guidance": 1.0, "candidates": 1}, "up.sampling")


def test_a_part_is_saved_with_the_sampling_of_its_kind_alone(tiny_bundle_copy: Path, tmp_path: Path) -> None:
    old = Bundle.load(tiny_bundle_copy)
    parts = parts_of(old)
    parts["decoder"] = Part(old.model("decoder"), sampling=PriorSampling(3))
    with pytest.raises(BundleError, match="decoder: got a PriorSampling, .* decoder, has a DecoderSampling"):
        save_bundle(tmp_path / "new", name="new", parts=parts, card="")


def test_names_are_looked_up_shipped_first_then_in_the_users_folder(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, users = tmp_path / "shipped", tmp_path / "xdg" / "unclip" / "bundles"
    for module in (bundle_module, catalogue):
        monkeypatch.setattr(module, "SHIPPED", shipped)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    for folder in (users / "tiny", shipped / "tiny", tmp_path / "tiny"):
        with pytest.raises(BundleError, match="no bundle 'nothing'"):
            find_bundle("nothing")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(tiny_bundle)
    assert find_bundle("tiny") == shipped / "tiny"
    (shipped / "tiny").unlink()
    assert find_bundle("tiny") == users / "tiny"
    assert available_bundles() == {"tiny": users / "tiny"}
    (users / "tiny").unlink()
    assert find_bundle("tiny") == Path("tiny")
    assert find_bundle(str(tiny_bundle)) == tiny_bundle
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bundle").symlink_to(tiny_bundle)  # the folder of a run stands for its bundle
    assert find_bundle("run") == Path("run/bundle")
    with pytest.raises(BundleError, match="no bundle"):
        Bundle.load("pictograms")


def test_saving_replaces_a_bundle_and_nothing_else(
    tiny_bundle_copy: Path, tmp_path: Path, prior: DiffusionPrior
) -> None:
    old = Bundle.load(tiny_bundle_copy)
    names = [name for name in old.components if name != "tokenizer"]
    parts = {"tokenizer": Part(old.tokenizer()), **{name: Part(old.model(name)) for name in names}}
    path = tmp_path / "prior.safetensors"
    save_model(path, old.model("prior"))
    parts["prior"] = Part(path)  # a weight file does as well as a model
    new = save_bundle(tiny_bundle_copy, name="new", parts=parts, card="# new\n")
    assert new.name == Bundle.load(tiny_bundle_copy).name == "new"
    assert new.component("prior").sha256 == old.component("prior").sha256
    with pytest.raises(BundleError, match="needs tokenizer, clip, decoder as well"):
        save_bundle(tiny_bundle_copy, name="new", parts={"prior": Part(prior)}, card="")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="holds other things"):
        save_bundle(full, name="new", parts=parts, card="")
    with pytest.raises(TypeError):
        save_bundle(tiny_bundle_copy, name=object(), parts=parts, card="")  # fails late
    assert Bundle.load(tiny_bundle_copy).name == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "full", "prior.safetensors"]


# --- numbers ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_no_numbers_are_named(
    prior: DiffusionPrior, tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    path = tmp_path / "prior.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in prior.state_dict().items()}
    state["out.bias"][3] = value
    save_model(path, prior, state=state)
    with pytest.raises(
        CheckpointError, match=r"prior.safetensors: out\.bias: has numbers that are not finite"
    ):
        load_model(path)


def test_weights_that_a_type_does_not_hold_are_not_written_and_not_cast(
    prior: DiffusionPrior, tmp_path: Path
) -> None:
    path = tmp_path / "prior.safetensors"
    state = dict(prior.state_dict())
    state["out.weight"] = torch.full_like(state["out.weight"], 1e6)
    with pytest.raises(
        CheckpointError, match=r"out\.weight as torch.float16: has numbers that are not finite"
    ):
        save_model(path, prior, state=state, dtype=torch.float16)
    assert not path.exists()
    save_model(path, prior, state=state, dtype=torch.bfloat16)
    assert load_model(path).out.weight[0, 0] == torch.tensor(1e6, dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"out\.weight as torch.float16"):
        load_model(path, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.float8_e4m3fn, torch.bool])
def test_weights_are_floats(prior: DiffusionPrior, tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "prior.safetensors"
    state = dict(prior.state_dict())
    state["out.bias"] = state["out.bias"].to(dtype)
    save_model(path, prior, state=state)
    with pytest.raises(CheckpointError, match=rf"out\.bias: its numbers are {dtype}, expected torch.float64"):
        load_model(path)


def test_settings_that_are_no_numbers_are_not_written(tmp_path: Path, tiny_bundle: Path) -> None:
    parts = parts_of(Bundle.load(tiny_bundle))
    broken = replace(parts["decoder"], sampling=DecoderSampling(3, guidance=float("nan")))
    with pytest.raises(BundleError, match=r"components\.decoder\.sampling\.guidance: got nan"):
        save_bundle(tmp_path / "out", name="x", parts={**parts, "decoder": broken}, card="")
    assert list(tmp_path.iterdir()) == []
