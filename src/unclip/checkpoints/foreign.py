"""The pieces of a foreign format: a source on disk, the bundle parts it becomes, and the format itself.

A format is one file of this folder with a `FORMAT`. It recognises a source by the names of its tensors and by
the JSON that lies beside them, reads its weights through a strict key table (`checkpoints.table`), and gives
the parts of a bundle. `checkpoints.formats` lists the formats and guesses which one a source is of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from unclip.bundle import Bundle, Part
from unclip.checkpoints.table import Table
from unclip.checkpoints.weights import Weights, open_weights
from unclip.config import LARGEST_JSON, load_json, to_dict
from unclip.errors import CheckpointError, InputError, UnclipError, is_out_of_memory
from unclip.native import IMPOSSIBLE, check_numbers, config_from_dict, unfilled

MOST_SETS = 8  # of weights in one file: "model", "ema", states of optimisers

Options = Mapping[str, str]


class Source:
    """A file or folder that somebody hands in: its weights, opened when asked for, and the JSON beside them.

    Attributes:
        path: the file or folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise CheckpointError(f"{self.path}: no such file or folder")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name, or the file's without its suffix."""
        return self.path.resolve().name if self.path.is_dir() else self.path.stem

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that the file lies in."""
        return self.path if self.path.is_dir() else self.path.parent

    @cached_property
    def weights(self) -> Weights:
        """Its tensors, read when they are asked for. Raises CheckpointError where it holds none."""
        return open_weights(self.path)

    @cached_property
    def has_weights(self) -> bool:
        """True where `weights` opens: a folder of components (Diffusers) has none of its own."""
        try:
            return bool(self.weights)
        except CheckpointError:
            return False

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """JSON objects by file name, from the folder itself (not from the folders in it)."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with suppress(OSError, InputError):  # not for us: whoever needs this file says that it is missing
                # vocabularies and indexes of larger models are no configs
                if path.is_file() and path.stat().st_size <= LARGEST_JSON:
                    content = load_json(path)
                    if isinstance(content, dict):
                        found[path.name] = content
        return found

    def config(self, name: str = "config.json") -> dict[str, Any]:
        """The JSON object in the file called `name`. Raises CheckpointError where it is not there."""
        try:
            return self.configs[name]
        except KeyError:
            raise CheckpointError(f"{self.folder}: no readable {name}, which this format needs") from None

    def part(self, name: str) -> Source:
        """The folder or file called `name` in this folder. Raises CheckpointError where it is not there."""
        return Source(self.folder / name)

    def inside(self, name: str) -> Source:
        """The same place, of whose weights only those inside `name` are meant."""
        part = Source(self.path)
        part.weights = self.weights.inside(name)
        return part


def nested(weights: Weights, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Of a file that holds several sets of weights the names of those that fit."""
    heads = dict.fromkeys(name.partition(".")[0] for name in weights if "." in name)
    return tuple(head for head in heads if fits(head)) if len(heads) <= MOST_SETS else ()


def several_sets(where: str, names: Sequence[str]) -> CheckpointError:
    """The error for a file whose weights lie inside these names."""
    return CheckpointError(
        f"{where}: its weights lie inside {' and '.join(map(repr, names))}, not at the top: save those that "
        "are meant in a file of their own, without that name before theirs, and convert it"
    )


def role_of(weights: Weights, role: Callable[[Weights], str | None]) -> str | None:
    """The role of a file in a format. Raises CheckpointError where it holds such files a level deeper."""
    found = role(weights)
    if found is None and (names := nested(weights, lambda name: role(weights.inside(name)) is not None)):
        raise several_sets(weights.where, names)
    return found


def has_role(source: Source, role: Callable[[Weights], str | None]) -> bool:
    """True where a file has a role in a format, or a folder holds a .pt file that has one."""
    if source.path.is_file():
        return source.has_weights and role(source.weights) is not None
    return any(has_role(Source(path), role) for path in sorted(source.folder.glob("*.pt")))


def by_role(
    source: Source, role: Callable[[Weights], str | None], options: Options, named: Iterable[str]
) -> dict[str, Weights]:
    """The files of a source by their role: the file, or the folder's .pt files; others are passed over.

    Args:
        source: a file, or a folder.
        role: the role of a file in a format.
        options: an option that is called as a role says which file has it.
        named: the roles that options may say.

    Raises:
        CheckpointError: two have the same role, the weights of one lie a level deeper, or an option's file
            has another role.
    """
    paths = [source.path] if source.path.is_file() else sorted(source.folder.glob("*.pt"))
    found: dict[str, Weights] = {}
    for path in paths:
        weights = open_weights(path)
        kind = role_of(weights, role)
        if kind in found:
            raise CheckpointError(
                f"{source}: {found[kind].where} and {path} are both of the kind {kind}: convert one of them, "
                "by its own path, with the others as options"
            )
        if kind is not None:
            found[kind] = weights
    for option in named:
        if option in options:
            found[option] = open_weights(Path(options[option]))
            if role_of(found[option], role) != option:
                raise CheckpointError(f"{found[option].where}: is not the {option} of this format")
    return found


@dataclass(frozen=True)
class Conversion:
    """The parts of a bundle that a source becomes: the arguments of `save_bundle`.

    Attributes:
        name: what the bundle is to be called unless somebody says otherwise.
        family: one of `manifest.FAMILIES`.
        parts: components by name.
        licence: of the weights, where it is known.
        data: what they were trained on, where it is known.
        notes: what was decided that the source does not say, one sentence each, for people to read.
    """

    name: str
    family: str
    parts: dict[str, Part]
    licence: str = ""
    data: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A foreign format.

    Attributes:
        name: "clip-openai".
        title: what it is, for people: "OpenAI's CLIP (TorchScript archive or state dict)".
        family: what its conversion is, one of `manifest.FAMILIES`.
        looks_like: whether a source is of this format, from names, shapes and configs alone.
        convert: the conversion; `Format.read` is what others call.
        options: what may be asked of `convert` beside the source, name to meaning.
        export: writes a bundle in this format to a path; None where it is only read.
    """

    name: str
    title: str
    family: str
    looks_like: Callable[[Source], bool]
    convert: Callable[[Source, Options], Conversion]
    options: Mapping[str, str] = field(default_factory=dict)
    export: Callable[[Bundle, Path], None] | None = None

    def read(self, source: Source, options: Options | None = None) -> Conversion:
        """Convert a source.

        Raises:
            InputError: an option that this format does not have, or a value that it does not allow.
            CheckpointError: the source is not of this format: the message names tensors.
        """
        options = options or {}
        for option in options:
            if option not in self.options:
                allowed = ", ".join(self.options) or "none"
                raise InputError(f"the format {self.name} has no option {option!r}: it has {allowed}")
        with self._judging(source):
            return self.convert(source, options)

    def fits(self, source: Source) -> bool:
        """As `looks_like`. Raises CheckpointError where the source is broken."""
        with self._judging(source):
            return self.looks_like(source)

    @contextmanager
    def _judging(self, source: Source) -> Iterator[None]:
        """Takes what breaks the reading of a config or of shapes for what it is: not of this format."""
        try:
            yield
        except UnclipError:
            raise
        except (*IMPOSSIBLE, MemoryError) as error:
            if is_out_of_memory(error):
                raise CheckpointError(
                    f"{source}: there is not enough memory to read it: end other programs, or take a "
                    "larger machine"
                ) from error
            raise CheckpointError(
                f"{source}: not {self.title}: its configs and tensors do not go together "
                f"({type(error).__name__}: {error})"
            ) from error


def build(kind: str, config: Any, table: Table, weights: Weights, where: str) -> nn.Module:
    """A model of our own with the weights of somebody else, in evaluation mode and without gradients.

    Matrices keep the type that they are stored in and stay mapped from their file where they are the same
    there. Floating-point vectors and scalars become float32: they are few, and norms lose most.

    Args:
        kind: name in `native.KINDS`.
        config: of that kind.
        table: the foreign names of the model's tensors.
        weights: the foreign tensors.
        where: what the weights are called in messages.

    Raises:
        CheckpointError: a tensor is unmapped, missing, mis-shaped, of another type or holds what is no finite
            number, or the config is impossible.
    """
    model = unfilled(kind, config_from_dict(kind, to_dict(config), where), weights.shapes)
    expected = model.state_dict()
    state = {}
    for name, tensor in table.read(
        weights, {name: tuple(own.shape) for name, own in expected.items()}, where
    ):
        check_numbers(tensor, expected[name], f"{where}: {name}")
        small = tensor.is_floating_point() and tensor.ndim < 2
        state[name] = tensor.float() if small else tensor
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def new_folder(path: Path) -> Path:
    """A folder to write into. Raises CheckpointError where it holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path}: is there already: choose an empty folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a config for people and programs to read."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
