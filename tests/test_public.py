"""The promise that what users meet is public: exported, documented, and known to type checkers."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest

import unclip
from unclip import errors

DOCS = Path(__file__).parent.parent / "docs" / "python.md"
CLASSES = (unclip.Model, unclip.ClipEmbedder, unclip.Picture, unclip.Event, unclip.Job, unclip.Given)


def named(annotation: Any) -> set[type]:
    """The classes that an annotation is made of."""
    found = {annotation} if inspect.isclass(annotation) else set()
    for part in typing.get_args(annotation):
        found |= named(part) if not isinstance(part, list) else set().union(*map(named, part))
    return found


def of_methods(cls: type) -> set[type]:
    """The classes of the package that the public methods, properties and fields of a class speak of."""
    found: set[type] = set()
    for name, member in inspect.getmembers(cls):
        function = member.fget if isinstance(member, property) else member
        if not name.startswith("_") and callable(function) and not inspect.isclass(function):
            function = getattr(function, "__func__", function)
            if function.__module__.startswith("unclip"):
                found |= {each for hint in hints(function).values() for each in named(hint)}
    found |= {each for hint in hints(cls).values() for each in named(hint)}
    return {each for each in found if each.__module__.startswith("unclip")}


def hints(thing: Any) -> dict[str, Any]:
    module = inspect.getmodule(thing)
    names = {name: getattr(unclip, name) for name in unclip.__all__}
    try:
        return typing.get_type_hints(thing, globalns={**vars(module), **typing_only(), **names})
    except NameError as error:
        pytest.fail(f"{thing}: {error}")


def typing_only() -> dict[str, Any]:
    """What files import for type checkers alone."""
    import torch

    from unclip.diffusion.schedule import Schedule

    return {"torch": torch, "Tensor": torch.Tensor, "Schedule": Schedule}


# What `Model.family` and `Model.networks` are, and what the server takes from stage to stage: for those who
# read the code.
INTERNAL = {"Family", "Networks", "Part", "Piece"}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_that_public_methods_speak_of_is_exported(cls: type) -> None:
    spoken = {each.__name__ for each in of_methods(cls) if not typing.is_typeddict(each)}
    assert spoken - INTERNAL <= set(unclip.__all__)


def test_every_error_is_exported() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, (errors.UnclipError, errors.UnclipWarning))
    }
    assert defined <= set(unclip.__all__)


@pytest.mark.parametrize("name", [name for name in unclip.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(unclip, name)
    assert inspect.getdoc(value), f"{name} has no docstring"
    assert re.search(rf"^\| `{name}` \|", DOCS.read_text(), re.MULTILINE), f"{name} is not in docs/python.md"


def test_the_docs_name_nothing_that_is_not_there() -> None:
    for name in re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE):
        assert name in unclip.__all__


def test_every_verb_that_the_docs_name_is_the_models() -> None:
    (row,) = re.findall(r"^\| `Model` \|(.*)", DOCS.read_text(), re.MULTILINE)
    for verb in re.findall(r"`(\w+)`", row):
        assert inspect.getdoc(inspect.getattr_static(unclip.Model, verb)), verb


def test_load_is_typed_with_every_verb() -> None:
    assert typing.get_type_hints(unclip.load)["return"] is unclip.Model
