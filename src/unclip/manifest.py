"""The manifest of a bundle, `bundle.json`: its records, and the rules that a bundle has to keep.

It names the family and, for each component, its kind, config, file, SHA-256, diffusion, sampling defaults,
preprocessing, licence and data. `bundle` reads and writes the folders that such files describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from unclip.catalogue import MANIFEST
from unclip.config import from_dict, load_json, to_dict
from unclip.data.styles import ANY_STYLE
from unclip.diffusion.defaults import (
    ClassifierSampling,
    DecoderSampling,
    GuidedSampling,
    PriorSampling,
    Sampling,
)
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import BundleError, CheckpointError, InputError, escaped, shown
from unclip.images import Fitting
from unclip.languages import CODE
from unclip.models.code_sampling import CodeSampling
from unclip.native import KINDS, LARGEST_SIDE, SIDES, config_from_dict
from unclip.tokenizer import BytePairTokenizer, CLIPTokenizer, DalleMiniTokenizer, GlideTokenizer
from unclip.tokenizer.siglip import SiglipTokenizer

FORMAT = 1
TOKENIZER, CLIP_TOKENIZER = "tokenizer", "clip-tokenizer"  # the second is a noised CLIP's own
# What follows an upsampler's name in that of a network which takes its last step.
LAST_STEP = "-last"
TOKENIZERS: dict[
    str,
    type[BytePairTokenizer]
    | type[CLIPTokenizer]
    | type[DalleMiniTokenizer]
    | type[GlideTokenizer]
    | type[SiglipTokenizer],
] = {
    "byte-pair": BytePairTokenizer,
    "clip-bpe": CLIPTokenizer,
    "dalle-mini-bpe": DalleMiniTokenizer,
    "glide-bpe": GlideTokenizer,
    "siglip": SiglipTokenizer,
}
ENGLISH = ("clip-bpe", "dalle-mini-bpe", "glide-bpe")  # tokenizers of models that learned from English texts


class Kin(NamedTuple):
    """A family of bundles.

    Attributes:
        parts: components that it cannot do without.
        draws: the class that draws, "module:name"; empty where pictures are not drawn from prompts.
    """

    parts: tuple[str, ...]
    draws: str = ""


FAMILIES: dict[str, Kin] = {
    # without a prior it draws from image embeddings alone
    "unclip": Kin(("tokenizer", "clip", "decoder"), "unclip.families.unclip:UnCLIP"),
    "dalle1": Kin(("tokenizer", "transformer", "codec"), "unclip.families.dalle1:Dalle1"),
    "dalle-mini": Kin(("tokenizer", "transformer", "codec"), "unclip.families.dalle_mini:DalleMini"),
    "adm": Kin(("adm",), "unclip.families.adm:ADM"),
    "glide": Kin(("tokenizer", "glide"), "unclip.families.glide:Glide"),
    "codec": Kin(("codec",)),
    "clip": Kin(("tokenizer", "clip")),
}
# What a component's table of sampling is read as, by its kind of model; other kinds do not draw by diffusion.
SAMPLING: dict[str, type[Sampling]] = {
    "diffusion-prior": PriorSampling,
    "decoder": DecoderSampling,
    "upsampler": Sampling,
    "glide": GuidedSampling,
    "adm": ClassifierSampling,
}
# What a component of a name may be, in any family; a transformer's kind is called as its family.
ROLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((TOKENIZER, CLIP_TOKENIZER), tuple(TOKENIZERS)),
    "clip": ("clip", "clip-text"),
    "noised-clip": ("noised-clip",),
    "prior": ("diffusion-prior",),
    "ar-prior": ("ar-prior",),
    "decoder": ("decoder",),
    "transformer": ("dalle1", "dalle-mini"),
    "codec": ("vqgan", "vqvae"),
    "adm": ("adm",),
    "classifier": ("adm-classifier",),
    "glide": ("glide",),
}
# Settings whose least and largest value no other place knows.
RANGES: dict[str, tuple[float, float]] = {
    "diffusion.steps": (1, 100_000),
    "diffusion.shift": (-50, 50),
    "sampling.limit": (1e-6, 1e6),
    "sampling.percentile": (0, 1),
    "sampling.guidance": (-1000, 1000),
    "sampling.eta": (0, 10),
    "sampling.temperature": (0, 100),
    "sampling.candidates": (1, 64),
    "sampling.langevin.steps": (1, 10_000),
    "sampling.langevin.step_size": (0, 1),
    "codes.guidance": (0, 1000),
    "preprocessing.size": (1, LARGEST_SIDE),
}
# Bundles older than this table hold these fields of every component. Where it does not honour them they have
# values that change nothing: no guidance, by a classifier (0) or without (1), one candidate, no noise.
LEFT_OVER = {"guidance": (0.0, 1.0), "interval": (None,), "candidates": (1,), "noise_level": (0.0,)}
# "crop" meant what is now "crop-floor": what was embedded so then stays right for it, and for it alone.
CROPS: dict[str, str] = {"crop": "crop, half to even", "crop-floor": "crop"}


@dataclass(frozen=True)
class Preprocessing:
    """The way from a picture to what a model sees.

    Attributes:
        size: side in pixels.
        fit: how it becomes a square, see `images.fit`.
    """

    size: int
    fit: Fitting = "pad"

    @property
    def identity(self) -> str:
        """A text that changes with the pixels that are made of a picture."""
        return f"{self.size} {CROPS.get(self.fit, self.fit)}"


@dataclass(frozen=True)
class Photographic:
    """A direction of CLIP's space by which photographs stand out from the pictures that it has learned from.

    `benchmarks/photographs.py` finds it; a CLIP that knows photographs has none.

    Attributes:
        direction: (E,), of length one.
        least: along it, from which on an embedding is taken for a photograph's.
    """

    direction: tuple[float, ...]
    least: float


@dataclass(frozen=True)
class Component:
    """One file of a bundle and all that is needed to use it.

    Attributes:
        kind: a kind of model (`native.KINDS`) or of tokenizer (`TOKENIZERS`).
        file: its name, in the bundle's own folder.
        bytes, sha256: the file's size and SHA-256.
        config: the model's config; empty for a tokenizer.
        diffusion: schedule and prediction it was trained with, for prior, decoder and upsamplers.
        sampling: defaults for the same three, of the class that `sampling_of` says.
        codes: defaults for a transformer that draws codes.
        preprocessing: of pictures, for CLIP.
        photographic: what tells photographs, for a CLIP that does not know them.
        licence: of the weights.
        data: what it was trained on, in words.
        bundle: name of the bundle whose file it is; empty where it is this one's own.
    """

    kind: str
    file: str
    bytes: int
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    diffusion: DiffusionConfig | None = None
    sampling: Sampling | None = None
    codes: CodeSampling | None = None
    preprocessing: Preprocessing | None = None
    photographic: Photographic | None = None
    licence: str = ""
    data: str = ""
    bundle: str = ""


@dataclass(frozen=True)
class Styles:
    """The styles that a bundle draws in.

    Attributes:
        known: those that it learned, as captions say them (`data.styles`).
        clear: those of them in which a prompt that names none is drawn; without any it is drawn as it is.
        words: names and phrases that bring a look of their own: a prompt that says one is drawn as it is.
    """

    known: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


NO_STYLES = Styles()


@dataclass(frozen=True)
class Manifest:
    """The contents of `bundle.json`; `policy` is one that the bundle asks for where none is chosen."""

    format: int
    name: str
    family: str
    version: str
    components: dict[str, Component]
    licence: str = ""
    data: str = ""
    styles: Styles = NO_STYLES
    languages: tuple[str, ...] = ()
    policy: str = ""


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        data = load_json(path)
    except InputError as error:
        raise BundleError(str(error)) from error
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise BundleError(f"{path}: format {shown(found)}, this version of unclip reads {FORMAT}")
    tables = data.pop("components", None)
    try:
        if not isinstance(tables, dict):
            raise InputError(f"components: got {shown(tables)}, expected a table")
        components = {name: _read_component(table, f"components.{name}") for name, table in tables.items()}
        manifest = replace(from_dict(Manifest, {**data, "components": {}}), components=components)
        check_manifest(manifest)
    except (InputError, CheckpointError) as error:
        raise BundleError(f"{path}: {error}") from error
    return manifest


def _read_component(data: Any, where: str) -> Component:
    table = data.pop("sampling", None) if isinstance(data, dict) else None
    component = from_dict(Component, data, where)
    if component.kind not in KINDS and component.kind not in TOKENIZERS:
        raise InputError(f"{where} is of the unknown kind {component.kind!r}")
    if component.kind in KINDS:
        config = config_from_dict(component.kind, component.config, f"{where}.config")
        component = replace(component, config=to_dict(config))  # with what was left out
    for outside in (component.file, component.bundle):
        if Path(outside).name != outside or outside == "..":
            raise InputError(f"{where} is to be read from {shown(outside)}, outside the bundle")
    if table is None:
        return component
    if not isinstance(table, dict):
        raise InputError(f"{where}.sampling: got {shown(table)}, expected a table")
    honoured = _names(sampling_of(component.kind, component.config) or Sampling)
    kept = {
        key: value for key, value in table.items() if key in honoured or value not in LEFT_OVER.get(key, ())
    }
    sampling = read_sampling(component.kind, component.config, kept, f"{where}.sampling")
    return replace(component, sampling=sampling)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a bundle whose parts cannot draw together. Raises InputError or CheckpointError."""
    if manifest.family not in FAMILIES:
        raise InputError(f"unknown family {manifest.family!r}, known are {', '.join(FAMILIES)}")
    about: list[Manifest | Component] = [manifest, *manifest.components.values()]
    said = [" ".join(text.split()) for part in about for text in (part.licence, part.data)]
    for text in (manifest.name, *manifest.components, *said):
        if escaped(text) != text:  # people print it
            raise InputError(f"{shown(text)} has control characters")
    for code in manifest.languages:
        if not CODE.fullmatch(code):
            raise InputError(f"languages: got {shown(code)}, expected codes such as en or zh-Hant")
    for style in manifest.styles.known:
        if escaped(style) != style or not style.strip() or style == ANY_STYLE:
            raise InputError(f"styles.known: got {shown(style)}, expected a name other than {ANY_STYLE!r}")
    for phrase in manifest.styles.words:
        if escaped(phrase) != phrase or not phrase.strip():
            raise InputError(f"styles.words: got {shown(phrase)}, expected words of a prompt")
    for style in manifest.styles.clear:
        if style not in manifest.styles.known:
            raise InputError(f"styles.clear: {shown(style)} is not among styles.known")
    for name in FAMILIES[manifest.family].parts:
        if name not in manifest.components:
            raise InputError(f"the component {name} is missing")
    for name, component in manifest.components.items():
        roles = (manifest.family,) if name == "transformer" else ROLES.get(name, (component.kind,))
        if component.kind not in roles:
            raise InputError(f"the component {name} is a {component.kind}, expected {' or '.join(roles)}")
        first = manifest.components.get(name.removesuffix(LAST_STEP), component)
        if any(first.config.get(side) != component.config.get(side) for side in SIDES):
            raise InputError(f"the component {name} draws other sizes than the steps before its own")
        check_ranges(component, f"components.{name}")


def check_ranges(component: Component, where: str) -> None:
    """Refuse settings with which no component could draw. Raises InputError that begins with `where`."""
    for place, (least, most) in RANGES.items():
        value: Any = component
        for key in place.split("."):
            value = getattr(value, key, None)
        if value is not None and not least <= value <= most:
            raise InputError(f"{where}.{place}: got {value}, allowed is {least:g} to {most:g}")

    width = component.config.get("embedding")
    if (test := component.photographic) is not None and len(test.direction) != width:
        raise InputError(f"{where}.photographic: {len(test.direction)} numbers, the embedding has {width}")


def sampling_of(kind: str, config: Mapping[str, Any]) -> type[Sampling] | None:
    """The sampling that a model honours, by kind and config; None where it does not draw by diffusion."""
    # no classifier guides those of ADM's networks that enlarge
    return Sampling if kind == "adm" and config.get("low_size") is not None else SAMPLING.get(kind)


def read_sampling(kind: str, config: Mapping[str, Any], table: Mapping[str, Any], where: str) -> Sampling:
    """The sampling that a bundle or a recipe says for a model.

    Args:
        kind: of the model, in `native.KINDS`.
        config: the model's, as a dictionary.
        table: names of fields and their values.
        where: the dotted key of the table, for messages.

    Raises:
        InputError: a key or value that no model honours, or not this one.
    """
    cls = sampling_of(kind, config)
    if cls is None:
        raise InputError(f"{where}: the kind {kind} does not draw by diffusion, leave this table out")
    known = _names(cls)
    idle = [key for key in table if key not in known and any(key in _names(one) for one in SAMPLING.values())]
    if idle:
        raise InputError(
            f"{where}: a model like this, of the kind {kind}, has no {' and no '.join(idle)}, leave it out; "
            f"it has {', '.join(known)}"
        )
    return from_dict(cls, table, where)


def _names(cls: type[Sampling]) -> list[str]:
    return [field.name for field in fields(cls)]


def read_by(tokenizer: str) -> tuple[str, ...]:
    """The languages of the texts that models with a published tokenizer were trained on."""
    return ("en",) if tokenizer in ENGLISH else ()


def text_rows(config: Mapping[str, Any]) -> int | None:
    """The ids that a model reads texts by; None where it reads none."""
    text = config.get("text") or config.get("caption") or {}
    rows: int | None = config.get("text_vocabulary", text.get("vocabulary"))
    return rows
