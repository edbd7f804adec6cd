"""The foreign formats that are known: which one a source has, what it becomes, and the way back."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import safetensors
import torch
from torch import nn

from unclip import __version__
from unclip.bundle import Bundle, Part, check_folder, save_bundle
from unclip.checkpoints.foreign import Conversion, Format, Source, nested, several_sets
from unclip.errors import BundleError, CheckpointError, InputError, escaped, shown
from unclip.runtime import PRECISIONS, atomic_path

# One file each, imported when a format is asked for. The particular before the general: of several that a
# source may have, the first is taken.
MODULES = (
    "clip_openai",
    "clip_siglip",
    "clip_open",
    "clip_transformers",
    "karlo_diffusers",
    "karlo_original",
    "dvae_openai",
    "vqgan_taming",
    "dalle_mini",
    "adm",
    "glide",
)
NAMED_IN_AN_ERROR = 6


@dataclass(frozen=True)
class Step:
    """A part of a conversion that begins (`done` 0) or is done (`done` 1); `text` says what was found."""

    stage: str
    done: int
    text: str = ""


@cache
def formats() -> Mapping[str, Format]:
    """All formats by name."""
    found = {}
    for name in MODULES:
        format: Format = importlib.import_module(f"unclip.checkpoints.{name}").FORMAT
        found[format.name] = format
    return found


def find_format(name: str) -> Format:
    """A format by name. Raises InputError that suggests names like it."""
    known = formats()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"unknown format {name!r}: {hint}known are {', '.join(known)}")


def guess(source: Source) -> tuple[Format, ...]:
    """The formats that a source may have, the most likely first.

    Raises:
        CheckpointError: none that is known (the message says what it holds), or a file that is broken,
            hostile, or holds no weights.
    """
    if source.path.is_file():
        _ = source.weights  # a file that cannot be read says why
    found = tuple(format for format in formats().values() if format.fits(source))
    if not found and source.path.is_file():
        names = nested(
            source.weights,
            lambda name: any(format.fits(source.inside(name)) for format in formats().values()),
        )
        if names:
            raise several_sets(str(source), names)
    if not found:
        raise CheckpointError(
            f"{source}: of no format that is known here: {describe(source)}; known are {', '.join(formats())}"
        )
    return found


def describe(source: Source) -> str:
    """The contents of a source, in a sentence for people who wonder why it is not understood."""
    said = [
        f"{name} says {key} {shown(config[key])}"
        for name, config in source.configs.items()
        for key in ("_class_name", "model_type", "architectures")
        if key in config
    ][:NAMED_IN_AN_ERROR]
    try:
        shapes = source.weights.shapes
    except CheckpointError as error:
        return "; ".join([*said, str(error)])
    first = [f"{name} {list(shape)}" for name, shape in list(shapes.items())[:NAMED_IN_AN_ERROR]]
    more = ", ..." if len(shapes) > len(first) else ""
    return "; ".join([*said, f"it holds {len(shapes)} tensors: {', '.join(first)}{more}"])


def convert(
    path: Path | str,
    folder: Path | str,
    *,
    format: str | None = None,
    name: str | None = None,
    dtype: str | None = None,
    options: Mapping[str, str] | None = None,
    licence: str = "",
    origin: str = "",
) -> Iterator[Step]:
    """Make a bundle of foreign files.

    Args:
        path: the file or folder.
        folder: where the bundle goes: it may hold a bundle, which is replaced, and otherwise must be empty or
            not exist.
        format: name of the source's format; None guesses.
        name: of the bundle; None is what the format calls it.
        dtype: what matrices are stored in, a name in `PRECISIONS`; None keeps what the source has.
        options: of the format.
        licence: of the weights, where the format does not know.
        origin: where the files came from, for the model card.

    Raises:
        InputError: an unknown format, option or dtype.
        CheckpointError: the source is broken, hostile, or of another format.
        BundleError: the folder holds other things.
    """
    folder = Path(folder)
    precision = _precision(dtype)
    chosen = find_format(format) if format else None
    check_folder(folder)
    source = Source(path)
    yield Step("recognise", 0)
    chosen, *others = (chosen,) if chosen else guess(source)
    doubt = f"; it may also be {', '.join(other.name for other in others)} (--format)" if others else ""
    yield Step("recognise", 1, f"{escaped(str(source))} is {chosen.name}: {chosen.title}{doubt}")
    yield Step("read", 0)
    conversion = chosen.read(source, options)
    yield Step("read", 1, "\n".join(map(escaped, conversion.notes)))
    name = name or conversion.name
    licence = conversion.licence or licence
    yield Step("write", 0)
    try:
        save_bundle(
            folder,
            name=name,
            parts=conversion.parts,
            card=card(name, conversion, chosen, origin or str(source.path.name), licence),
            family=conversion.family,
            licence=licence,
            data=conversion.data,
            dtype=precision,
        )
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error}); nothing is left of it") from error
    yield Step("write", 1)


def export(bundle: Bundle, path: Path | str, format: str) -> None:
    """Write a bundle in a foreign format, whole or not at all.

    Raises:
        InputError: an unknown format, or one that is only read.
        CheckpointError: the bundle is not what this format holds, or there is no room.
        BundleError: the path exists.
    """
    path, chosen = Path(path), find_format(format)
    if chosen.export is None:
        written = ", ".join(name for name, known in formats().items() if known.export)
        raise InputError(f"the format {format} is only read: those that are written are {written}")
    if bundle.family != chosen.family:
        raise CheckpointError(
            f"bundle {bundle.name} is of the family {bundle.family}: {format} holds {chosen.family}"
        )
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise BundleError(f"{path} exists: choose another name, nothing is overwritten")
    try:
        with atomic_path(path) as temporary:
            chosen.export(bundle, temporary)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: cannot be written ({error}); nothing is left of it") from error


def card(name: str, conversion: Conversion, format: Format, origin: str, licence: str) -> str:
    """The model card of a converted bundle, Markdown."""
    rows = [f"| {part} | {_contents(made)} |" for part, made in conversion.parts.items()]
    lines = [
        f"# {name}",
        "",
        f"Converted from {origin} by unclip {__version__}; the format was {format.name}: {format.title}.",
        "",
        "| component | what |",
        "|---|---|",
        *rows,
        "",
        f"Licence: {licence or 'unknown'}. Data: {conversion.data or 'unknown'}.",
    ]
    if conversion.notes:
        lines += ["", *(f"- {note}" for note in conversion.notes)]
    return "\n".join(lines) + "\n"


def _contents(part: Part) -> str:
    if isinstance(part.source, nn.Module):
        count = sum(parameter.numel() for parameter in part.source.parameters())
        return f"{type(part.source).__name__}, {count:,} parameters"
    return type(part.source).__name__


def _precision(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    if name not in PRECISIONS:
        raise InputError(f"unknown dtype {name!r}: choose {', '.join(PRECISIONS)}")
    precision: torch.dtype = getattr(torch, name)
    return precision
