"""Adapters: what a fit has learned beside a bundle's attention, in a folder of its own (LoRA, kept apart).

`adapters.json` names the bundle that they belong to, by its identity; `NAME.safetensors` holds two factors
for each weight. They are merged when a network is read, so drawing is as fast as without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.config import from_dict, load_json, to_dict
from unclip.errors import BundleError, CheckpointError, InputError, shown
from unclip.manifest import NO_STYLES, Styles
from unclip.native import check_numbers, open_safetensors
from unclip.nn.low_rank import attention_weights, factors
from unclip.runtime import atomic_path, sha256

ABOUT = "adapters.json"
FORMAT = 1
UP, DOWN = ".up", ".down"  # behind a weight's name


@dataclass(frozen=True)
class Adapters:
    """The contents of `adapters.json`.

    Attributes:
        name: what they are called, in metadata and messages.
        bundle, identity: of the weights that they belong to.
        rank: of each change.
        sha256: of the files, by component.
        styles: of the bundle with them.
        licence: of the changes.
    """

    format: int
    name: str
    bundle: str
    identity: str
    rank: int
    sha256: Mapping[str, str]
    styles: Styles = NO_STYLES
    licence: str = ""


class AdaptedBundle(Bundle):
    """A bundle whose networks come with adapters merged in."""

    def __init__(self, base: Bundle, folder: Path, about: Adapters) -> None:
        manifest = replace(base.manifest, name=f"{base.name}+{about.name}", styles=about.styles)
        super().__init__(base.folder, manifest)
        self.lora: Path = folder
        self.about = about

    @property
    def identity(self) -> str:
        """Twelve digits that stand for the bundle's weights and the adapters."""
        text = f"{super().identity} {sha256(self.lora / ABOUT)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def model(
        self, name: str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> nn.Module:
        """As `Bundle.model`, with the adapters merged in. Raises BundleError for altered ones, too."""
        if name not in self.about.sha256:
            return super().model(name, dtype=dtype, device=device)
        path = self.lora / f"{name}.safetensors"
        if not path.is_file() or sha256(path) != self.about.sha256[name]:
            raise BundleError(f"{path} is missing or was altered: fit again, or copy the folder again")
        model = super().model(name, dtype=torch.float32)
        _merge_(model, path)
        if dtype != torch.float32:
            stored = super().model(name, dtype=dtype).state_dict()
            state = {key: tensor.to(stored[key].dtype) for key, tensor in model.state_dict().items()}
            model.load_state_dict(state, strict=True, assign=True)
        return model.to(device).eval().requires_grad_(False)


def open_bundle(source: str | Path | None, lora: str | Path | None = None) -> Bundle:
    """A bundle, with adapters where a folder of them is given.

    Args:
        source: as of `Bundle.load`; None with adapters is the bundle that they name.
        lora: a folder that `unclip fit --lora` wrote, or that of the fit.

    Raises:
        BundleError: there is no such bundle or folder, or the adapters belong to other weights.
    """
    if lora is None:
        return Bundle.load(source)
    folder, about = read_adapters(lora)
    try:
        base = Bundle.load(about.bundle if source is None else source)
    except BundleError as error:
        if source is not None:
            raise
        raise BundleError(
            f"the adapters {about.name} belong to the bundle {about.bundle} {about.identity}, which is not "
            "found: name its folder (--model)"
        ) from error
    if base.identity != about.identity:
        raise BundleError(
            f"the adapters {about.name} belong to {about.bundle} {about.identity}, not to {base.name} "
            f"{base.identity}: name that bundle, or fit this one"
        )
    return AdaptedBundle(base, folder, about)


def read_adapters(source: str | Path) -> tuple[Path, Adapters]:
    """The folder of adapters, and what it says of them. Raises BundleError where it has none."""
    for folder in (Path(source), Path(source) / "lora"):
        if (folder / ABOUT).is_file():
            try:
                about = from_dict(Adapters, load_json(folder / ABOUT))
            except InputError as error:
                raise BundleError(f"{folder / ABOUT}: {error}") from error
            if about.format != FORMAT:
                raise BundleError(f"{folder}: format {shown(about.format)}, this version reads {FORMAT}")
            if any(Path(name).name != name for name in about.sha256):
                raise BundleError(f"{folder / ABOUT} names files outside of its folder")
            return folder, about
    raise BundleError(f"no adapters in {source} (no {ABOUT}): name a folder that `unclip fit --lora` wrote")


def write_adapters(
    folder: Path,
    name: str,
    base: Bundle,
    fitted: Mapping[str, nn.Module],
    rank: int,
    styles: Styles,
    licence: str,
) -> None:
    """Writes what tells fitted networks from the bundle's own, a change of low rank for each weight.

    Raises:
        CheckpointError: they differ in more than their attention.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    for component, model in fitted.items():
        before, now = base.model(component, dtype=torch.float32).state_dict(), model.state_dict()
        beside = {key for key, _, _ in attention_weights(model)}
        if other := [key for key in now if key not in beside and not torch.equal(now[key], before[key])]:
            raise CheckpointError(f"{component}: {other[0]} was changed as well, adapters cannot hold that")
        tensors: dict[str, Tensor] = {}
        for key in sorted(beside):
            up, down = factors(now[key] - before[key], rank)
            tensors |= {f"{key}{UP}": up.contiguous(), f"{key}{DOWN}": down.contiguous()}
        path = folder / f"{component}.safetensors"
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        files[component] = sha256(path)
    about = Adapters(FORMAT, name, base.name, base.identity, rank, files, styles, licence)
    with atomic_path(folder / ABOUT) as temporary:
        temporary.write_text(json.dumps(to_dict(about), indent=1, ensure_ascii=False), encoding="utf-8")


def _merge_(model: nn.Module, path: Path) -> None:
    """Adds the changes in a file to float32 weights of a model. Raises BundleError where they do not fit."""
    weights = {key: getattr(owner, name) for key, owner, name in attention_weights(model)}
    try:
        with open_safetensors(path) as file:
            names = {*file.keys()}
            wanted = {f"{key}{end}" for key in weights for end in (UP, DOWN)}
            if names != wanted:
                raise CheckpointError(f"{path}: its tensors are not those of this network's attention")
            for key, weight in weights.items():
                up, down = (file.get_tensor(f"{key}{end}") for end in (UP, DOWN))
                for tensor in (up, down):
                    check_numbers(tensor, weight, f"{path}: {key}")
                weight.data = weight.data + _product(up, down, weight, f"{path}: {key}")
    except CheckpointError as error:
        raise BundleError(str(error)) from error


def _product(up: Tensor, down: Tensor, weight: Tensor, what: str) -> Tensor:
    fits = up.ndim == down.ndim == 2 and up.shape[1] == len(down)
    if not fits or (len(up), down.shape[1]) != tuple(weight.shape):
        shapes = f"{tuple(up.shape)} and {tuple(down.shape)}"
        raise CheckpointError(f"{what}: factors of {shapes}, the weight is {tuple(weight.shape)}")
    return up.float() @ down.float()
