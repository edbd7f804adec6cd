"""All models that can be loaded by name: the published ones, pulled or not, and the bundles on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors

from unclip.bundle import Bundle
from unclip.catalogue import PUBLISHED, SHIPPED, Ability, HubFiles, Published, available_bundles
from unclip.errors import BundleError

# What bundles of a family can do; of published models the catalogue says more.
ABILITIES = {
    "unclip": (Ability.DRAW,),
    "dalle1": (Ability.DRAW,),
    "dalle-mini": (Ability.DRAW,),
    "glide": (Ability.DRAW,),
    "adm": (Ability.CLASSES,),
    "clip": (Ability.COMPARE,),
    "codec": (Ability.TOKENS,),
}
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes of a parameter


@dataclass(frozen=True)
class Model:
    """A model that has a name.

    Attributes:
        name: what it is loaded by.
        family: of its bundle.
        parameters: how many, by component.
        licence: of the weights, "" where it is not known.
        sources: addresses of the published files; none for a bundle of one's own.
        abilities: what it can do.
        page: where its makers describe it.
        folder: of its bundle; None where it is not on disk.
        stored: bytes of the bundle on disk.
        unfinished: bytes of a download that was broken off.
        problem: what is wrong with the bundle on disk.
    """

    name: str
    family: str
    parameters: Mapping[str, int]
    licence: str = ""
    sources: tuple[str, ...] = ()
    abilities: tuple[Ability, ...] = ()
    page: str = ""
    folder: Path | None = None
    stored: int = 0
    unfinished: int = 0
    problem: str = ""

    @property
    def size(self) -> int:
        """Parameters of all components together."""
        return sum(self.parameters.values())

    @property
    def memory(self) -> dict[str, dict[str, int]]:
        """Bytes that the weights need at each precision: all at once, and the largest component alone.

        The second is what drawing with `--offload` holds; activations come on top of either.
        """
        return {
            precision: {
                "all": self.size * width,
                "offload": max(self.parameters.values(), default=0) * width,
            }
            for precision, width in WIDTHS.items()
        }


def models() -> list[Model]:
    """The shipped bundles, then the published models, then other bundles in the user's data folder."""
    on_disk = available_bundles()
    shipped = [name for name, folder in on_disk.items() if folder.parent == SHIPPED]
    own = [name for name in on_disk if name not in shipped and name not in PUBLISHED]
    return [
        *(bundled(name, on_disk[name]) for name in shipped),
        *(_published(model, on_disk.get(name)) for name, model in PUBLISHED.items()),
        *(bundled(name, on_disk[name]) for name in own),
    ]


def bundled(name: str, folder: Path) -> Model:
    """A bundle on disk, by the name that it is loaded by."""
    try:
        bundle = Bundle.load(folder)
        parameters = {
            part: _count(bundle.path(part))
            for part, component in bundle.components.items()
            if component.file.endswith(".safetensors")
        }
    except (BundleError, safetensors.SafetensorError) as error:
        return Model(name, "?", {}, folder=folder, stored=_bytes(folder), problem=str(error))
    return Model(
        name=name,
        family=bundle.family,
        parameters=parameters,
        licence=bundle.manifest.licence,
        abilities=ABILITIES.get(bundle.family, ()),
        folder=folder,
        stored=_bytes(folder),
    )


def _published(model: Published, folder: Path | None) -> Model:
    there = bundled(model.name, folder) if folder else None
    return Model(
        name=model.name,
        family=model.family,
        parameters=model.parameters,
        licence=model.licence,
        sources=tuple(
            f"https://huggingface.co/{source.repository}" if isinstance(source, HubFiles) else source.url
            for source in model.sources
        ),
        abilities=model.abilities,
        page=model.page,
        folder=folder,
        stored=there.stored if there else 0,
        unfinished=sum(part.stat().st_size for part in model.download_folder.rglob("*.part")),
        problem=there.problem if there else "",
    )


def _count(path: Path) -> int:
    """Numbers in a safetensors file, from its header."""
    with safetensors.safe_open(path, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - it is no mapping


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
