"""Bundles: a folder of components that draw together (seam 4 of the design).

`manifest` reads `bundle.json`. Weights are safetensors (`native`), the tokenizer is JSON, `README.md` is the
model card. Nothing is taken on trust: files are hashed before they are used, and tensors must be exactly
those of the model.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unclip import __version__
from unclip.catalogue import MANIFEST, PUBLISHED, SHIPPED, available_bundles
from unclip.config import to_dict
from unclip.diffusion.defaults import (
    Sampling,
)
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import BundleError, CheckpointError, InputError
from unclip.manifest import (
    CLIP_TOKENIZER,
    FAMILIES,
    FORMAT,
    NO_STYLES,
    TOKENIZER,
    TOKENIZERS,
    Component,
    Manifest,
    Photographic,
    Preprocessing,
    Styles,
    read_by,
    read_manifest,
    sampling_of,
    text_rows,
)
from unclip.models.code_sampling import CodeSampling
from unclip.native import config_from_dict, kind_of, load_model, save_model
from unclip.runtime import atomic_path, check_writable, data_folder, sha256
from unclip.tokenizer import (
    Tokenizer,
)

CARD = "README.md"
PROMPTS = "prompts.json"  # by language, what the bundle draws well; no part of its identity
DEFAULT = "pictograms"
RESULT = "bundle"  # the folder of a run's bundle, within the run's


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


SETTINGS = tuple(item.name for item in fields(Part) if item.name != "source")  # a component has them, too


class Bundle:
    """A bundle on disk. Components are read, and their files hashed once, when they are asked for.

    `lora` is the folder of the adapters that its networks come with, see `adapters`; None without.
    """

    lora: Path | None = None

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
        bundle = cls(folder, read_manifest(folder))
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
        return self.manifest.languages or read_by(tokenizer.kind if tokenizer else "")

    @property
    def prompts(self) -> Mapping[str, tuple[str, ...]]:
        """Prompts that it draws well, by a language's code; empty where nobody has said.

        Raises:
            BundleError: its file of them is of another form.
        """
        path = self.folder / PROMPTS
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text("utf-8"))
            return {str(language): tuple(map(str, texts)) for language, texts in found.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise BundleError(
                f"bundle {self.name}: {PROMPTS} cannot be read ({error}): give lists of texts by language"
            ) from error

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
            rows = text_rows(model.config)
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
            **_settings(component),
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

    The folder of a run or of a fit stands for the bundle that it ended with.

    Raises:
        BundleError: none of them has a manifest; the message says where was looked.
    """
    candidates = [Path(source)]
    if isinstance(source, str) and source and Path(source).name == source:
        candidates = [SHIPPED / source, data_folder() / "bundles" / source, Path(source)]
    for folder in candidates:
        for found in (folder, folder / RESULT):
            if (found / MANIFEST).is_file():
                return found
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
    styles: Styles = NO_STYLES,
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
            read = tuple(languages) or read_by(components[TOKENIZER].kind if TOKENIZER in parts else "")
            manifest = Manifest(FORMAT, name, family, __version__, components, licence, data, styles, read)
            text = json.dumps(to_dict(manifest), indent=1, ensure_ascii=False)
            (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")
            (temporary / CARD).write_text(card, encoding="utf-8")
            read_manifest(temporary)  # refuses settings that are no numbers
            if replaces:
                os.replace(folder, old)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return Bundle.load(folder)


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
        **_settings(part),
    )


def _settings(of: Part | Component) -> dict[str, Any]:
    """The settings that a part and the component made of it have in common."""
    return {name: getattr(of, name) for name in SETTINGS}


def _tokenizer_kind(tokenizer: Tokenizer) -> str:
    for kind, cls in TOKENIZERS.items():
        if type(tokenizer) is cls:
            return kind
    raise BundleError(f"a bundle cannot keep a {type(tokenizer).__name__}: known are {', '.join(TOKENIZERS)}")
