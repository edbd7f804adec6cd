"""Bundles: a folder of components that draw together (seam 4 of the design).

`bundle.json` names the family and, for each component, its kind, config, file, SHA-256, diffusion, sampling
defaults, preprocessing, licence and data. Weights are safetensors (`native`), the tokenizer is
JSON, `README.md` is the model card. Nothing is taken on trust: files are hashed before they are used, and
tensors must be exactly those of the model.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from unclip import __version__
from unclip.catalogue import MANIFEST, PUBLISHED, SHIPPED, available_bundles
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
from unclip.native import KINDS, LARGEST_SIDE, SIDES, config_from_dict, kind_of, load_model, save_model
from unclip.runtime import atomic_path, check_writable, data_folder, sha256
from unclip.tokenizer import (
    BytePairTokenizer,
    CLIPTokenizer,
    DalleMiniTokenizer,
    GlideTokenizer,
    Tokenizer,
)
from unclip.tokenizer.siglip import SiglipTokenizer

FORMAT = 1
CARD = "README.md"
DEFAULT = "pictograms"

TOKENIZER, CLIP_TOKENIZER = "tokenizer", "clip-tokenizer"  # the second is a noised CLIP's own

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

# What follows an upsampler's name in that of a network which takes its last step.
LAST_STEP = "-last"


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
    """

    known: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The contents of `bundle.json`."""

    format: int
    name: str
    family: str
    version: str
    components: dict[str, Component]
    licence: str = ""
    data: str = ""
    styles: Styles = Styles()
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The source of a component: a model, a tokenizer, a native weight file, or another bundle's part.

    Of a `Shared` part nothing is copied, and the other fields here do not count.
    """

    source: nn.Module | Tokenizer | Path | Shared
    diffusion: DiffusionConfig | None = None
    sampling: Sampling | None = None
    codes: CodeSampling | None = None
    preprocessing: Preprocessing | None = None
    photographic: Photographic | None = None
    licence: str = ""
    data: str = ""


class Bundle:
    """A bundle on disk. Components are read, and their files hashed once, when they are asked for."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._hashed: dict[Path, tuple[int, int]] = {}  # size and time of files that were found whole

    def __repr__(self) -> str:
        return f"<Bundle {self.name}, family {self.family}, in {self.folder}>"

    @classmethod
    def load(cls, source: str | Path | None = None) -> Bundle:
        """Open a bundle: its manifest is read, and its files are all there with the right sizes.

        Args:
            source: a name (shipped with the package, or in the user's data folder) or a folder; None is the
                shipped bundle.

        Raises:
            BundleError: no such bundle, a wrong manifest, or a file that is missing or of another size.
        """
        folder = find_bundle(DEFAULT if source is None else source)
        bundle = cls(folder, _read_manifest(folder))
        bundle._check_files()
        return bundle

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def family(self) -> str:
        return self.manifest.family

    @property
    def components(self) -> dict[str, Component]:
        return self.manifest.components

    @property
    def styles(self) -> Styles:
        return self.manifest.styles

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that prompts are read in, such as "en"; none where that is not known."""
        tokenizer = self.components.get(TOKENIZER)
        return self.manifest.languages or _read_by(tokenizer.kind if tokenizer else "")

    @property
    def identity(self) -> str:
        """Twelve digits that stand for exactly these weights and settings."""
        return sha256(self.folder / MANIFEST)[:12]

    def component(self, name: str) -> Component:
        """A component by name. Raises BundleError where the bundle has none of that name."""
        try:
            return self.components[name]
        except KeyError:
            raise BundleError(
                f"bundle {self.name} has no {name}: it has {', '.join(self.components)}"
            ) from None

    def config(self, name: str) -> Any:
        """The config of a component's model, its weights unread. Raises BundleError where it is none."""
        component = self.component(name)
        try:
            return config_from_dict(component.kind, component.config, f"{MANIFEST}: {name}")
        except CheckpointError as error:
            raise BundleError(f"bundle {self.name}: {error}") from error

    def model(
        self, name: str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> nn.Module:
        """A component's model with its weights, ready to draw; `dtype` and `device` as in `load_model`.

        Raises:
            BundleError: the file was altered, or its tensors do not fit the config.
        """
        component = self.component(name)
        path = self._checked(component)
        try:
            # not as dictionaries: a field that has come since, with a default, is no difference
            return load_model(path, kind=component.kind, config=self.config(name), dtype=dtype, device=device)
        except CheckpointError as error:
            raise BundleError(f"bundle {self.name}: {error}") from error

    def tokenizer(self, name: str = TOKENIZER) -> Tokenizer:
        """A tokenizer. Raises BundleError where its file was altered, or it has ids that no model has."""
        component = self.component(name)
        if component.kind not in TOKENIZERS:
            raise BundleError(
                f"bundle {self.name}: unknown tokenizer {component.kind!r}, known are {', '.join(TOKENIZERS)}"
            )
        try:
            tokenizer = TOKENIZERS[component.kind].load(self._checked(component))
        except InputError as error:
            raise BundleError(f"bundle {self.name}: {error}") from error
        for reader, model in self.components.items():
            own = (
                CLIP_TOKENIZER
                if model.kind == "noised-clip" and CLIP_TOKENIZER in self.components
                else TOKENIZER
            )
            rows = _text_rows(model.config)
            if own == name and rows is not None and tokenizer.vocabulary > rows:
                raise BundleError(
                    f"bundle {self.name}: {name} and {reader} do not fit each other: {tokenizer.vocabulary} "
                    f"ids, and {rows} are read"
                )
        return tokenizer

    def part(self, name: str) -> Part:
        """A component with its settings, for another bundle. Raises as `model` and `tokenizer` do."""
        component = self.component(name)
        return Part(
            self.tokenizer(name) if component.kind in TOKENIZERS else self.model(name),
            diffusion=component.diffusion,
            sampling=component.sampling,
            codes=component.codes,
            preprocessing=component.preprocessing,
            photographic=component.photographic,
            licence=component.licence,
            data=component.data,
        )

    def verify(self, *names: str) -> None:
        """Hash the files of these components, or all. Raises BundleError that names the first altered one."""
        for name in names or self.components:
            self._checked(self.component(name))

    def path(self, name: str) -> Path:
        """The file of a component, unread. Raises BundleError where there is no such component or bundle."""
        return self._path(self.component(name))

    def _path(self, component: Component) -> Path:
        return (find_bundle(component.bundle) if component.bundle else self.folder) / component.file

    def _check_files(self) -> None:
        for component in self.components.values():
            path = self._path(component)
            if not path.is_file():
                raise BundleError(f"bundle {self.name}: {path} is missing; install or pull the bundle again")
            if path.stat().st_size != component.bytes:
                raise BundleError(
                    f"bundle {self.name}: {path} was altered ({path.stat().st_size} bytes, "
                    f"{MANIFEST} says {component.bytes}); install or pull the bundle again"
                )

    def _checked(self, component: Component) -> Path:
        path = self._path(component)
        try:
            stat = path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            if self._hashed.get(path) == state:
                return path
            found = sha256(path)
        except OSError as error:
            raise BundleError(f"bundle {self.name}: {path} cannot be read ({error.strerror})") from error
        if found != component.sha256:
            raise BundleError(
                f"bundle {self.name}: {path} was altered (its SHA-256 is {found[:12]}..., "
                f"{MANIFEST} says {component.sha256[:12]}...); install or pull the bundle again"
            )
        self._hashed[path] = state
        return path


@dataclass(frozen=True)
class Shared:
    """A component of a bundle that can be found by its name, to be used by another bundle as well."""

    bundle: Bundle
    name: str


def find_bundle(source: str | Path) -> Path:
    """The folder of a bundle: one shipped under that name, one in the user's data folder, or the path itself.

    Raises:
        BundleError: none of them has a manifest; the message says where was looked.
    """
    candidates = [Path(source)]
    if isinstance(source, str) and source and Path(source).name == source:
        candidates = [SHIPPED / source, data_folder() / "bundles" / source, Path(source)]
    for folder in candidates:
        if (folder / MANIFEST).is_file():
            return folder
    if source in PUBLISHED:
        raise BundleError(f"{source} is not on disk yet: `unclip pull {source}` fetches it")
    looked = ", ".join(str(folder) for folder in candidates)
    names = {**available_bundles(), **PUBLISHED}
    near = difflib.get_close_matches(str(source), names, n=1)
    hint = f"did you mean {near[0]}? `unclip models` lists all" if near else "`unclip models` lists all names"
    raise BundleError(f"no bundle {str(source)!r} (no {MANIFEST} in {looked}): {hint}")


def save_bundle(
    folder: Path | str,
    *,
    name: str,
    parts: Mapping[str, Part],
    card: str,
    family: str = "unclip",
    licence: str = "",
    data: str = "",
    dtype: torch.dtype | None = torch.bfloat16,
    styles: Styles = Styles(),
    languages: Sequence[str] = (),
) -> Bundle:
    """Write a bundle, whole or not at all; one that is there already is replaced.

    Args:
        folder: where to; it may hold a bundle, and otherwise must be empty or not exist.
        name: what it is called, in metadata and messages.
        parts: components by name: tokenizer, clip, prior, ar-prior, decoder, upsampler-256, upsampler-1024.
        card: the model card as Markdown.
        family: one of `FAMILIES`.
        licence: of the bundle as a whole.
        data: what it was trained on, in words.
        dtype: what matrices are stored in.
        styles: that it draws in.
        languages: codes of those that it reads; none given are those of a published tokenizer.

    Raises:
        BundleError: an unknown family, a component missing, or a folder with other things in it.
    """
    folder = Path(folder)
    if family not in FAMILIES:
        raise BundleError(f"unknown family {family!r}: known are {', '.join(FAMILIES)}")
    missing = [part for part in FAMILIES[family].parts if part not in parts]
    if missing:
        raise BundleError(f"a bundle of the family {family} needs {', '.join(missing)} as well")
    replaces = check_folder(folder)
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            components = {part: _write(temporary, part, parts[part], dtype) for part in parts}
            read = tuple(languages) or _read_by(components[TOKENIZER].kind if TOKENIZER in parts else "")
            manifest = Manifest(FORMAT, name, family, __version__, components, licence, data, styles, read)
            text = json.dumps(to_dict(manifest), indent=1, ensure_ascii=False)
            (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")
            (temporary / CARD).write_text(card, encoding="utf-8")
            _read_manifest(temporary)  # refuses settings that are no numbers
            if replaces:
                os.replace(folder, old)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return Bundle.load(folder)


def _read_by(tokenizer: str) -> tuple[str, ...]:
    """The languages of the texts that models with a published tokenizer were trained on."""
    return ("en",) if tokenizer in ENGLISH else ()


def check_folder(folder: Path) -> bool:
    """True where a bundle stands in the folder, which one that is written there would replace.

    Raises:
        BundleError: it is a file, or holds other things than a bundle.
        InputError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file: choose a folder for the bundle")
    check_writable(folder.parent)  # where it is made whole
    if (folder / MANIFEST).is_file():
        return True
    if folder.exists() and any(folder.iterdir()):
        raise BundleError(f"{folder} holds other things than a bundle: choose an empty folder")
    return False


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


def _text_rows(config: Mapping[str, Any]) -> int | None:
    """The ids that a model reads texts by; None where it reads none."""
    text = config.get("text") or config.get("caption") or {}
    rows: int | None = config.get("text_vocabulary", text.get("vocabulary"))
    return rows


def _names(cls: type[Sampling]) -> list[str]:
    return [field.name for field in fields(cls)]


def _write(folder: Path, name: str, part: Part, dtype: torch.dtype | None) -> Component:
    if isinstance(part.source, Shared):
        component = part.source.bundle.component(part.source.name)
        return replace(component, bundle=component.bundle or part.source.bundle.name)
    source = load_model(part.source) if isinstance(part.source, Path) else part.source
    config: dict[str, Any] = {}
    if isinstance(source, nn.Module):
        kind = kind_of(source)
        path = folder / f"{name}.safetensors"
        config = to_dict(source.config)
        honoured = sampling_of(kind, config)
        if part.sampling is not None and type(part.sampling) is not honoured:
            raise BundleError(
                f"{name}: got a {type(part.sampling).__name__}, a model like this, of the kind {kind}, has "
                f"{'none' if honoured is None else f'a {honoured.__name__}'}"
            )
        save_model(path, source, dtype=dtype)
    else:
        kind = _tokenizer_kind(source)
        path = folder / f"{name}.json"
        source.save(path)
    return Component(
        kind=kind,
        file=path.name,
        bytes=path.stat().st_size,
        sha256=sha256(path),
        config=config,
        diffusion=part.diffusion,
        sampling=part.sampling,
        codes=part.codes,
        preprocessing=part.preprocessing,
        photographic=part.photographic,
        licence=part.licence,
        data=part.data,
    )


def _tokenizer_kind(tokenizer: Tokenizer) -> str:
    for kind, cls in TOKENIZERS.items():
        if type(tokenizer) is cls:
            return kind
    raise BundleError(f"a bundle cannot keep a {type(tokenizer).__name__}: known are {', '.join(TOKENIZERS)}")


def _read_manifest(folder: Path) -> Manifest:
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
