"""Keywords of the verbs: `help` shows them one by one, a wrong one is refused with what it may have meant."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from functools import wraps
from textwrap import indent
from typing import Any, ParamSpec, TypeVar

from unclip.errors import InputError, listed

Given = ParamSpec("Given")
Result = TypeVar("Result")

# "n, size: text", and the lines of the text that are further in: an entry of a docstring's list.
ENTRY = re.compile(r"^( *)([a-z_0-9]+(?:, [a-z_0-9]+)*): (.*(?:\n\1 +.*)*)", re.MULTILINE)
BEARERS = ("self", "cls", "model")  # of the verbs: no settings
SEES_OTHERS = "as of `"  # begins the text of a setting that is described elsewhere


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raises InputError for a setting that there is not, with what it may mean."""
    names = list(known)
    for name in sorted(given):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are {listed(names)}"
            raise InputError(f"unknown setting {name!r}: {meant}")


def spelled_out(
    settings: type | None = None, *described: object
) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Lets a verb show each of its `**settings` with its type, default and range, and refuse any other.

    Args:
        settings: the TypedDict that the verb unpacks; None for a verb with keywords of its own alone.
        described: functions and classes whose docstrings describe what the verb's own does not; the first
            that does so counts.
    """

    def decorate(verb: Callable[Given, Result]) -> Callable[Given, Result]:
        signature = inspect.signature(verb)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        shown = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(name), annotation=kind)
            for name, kind in _types(settings).items()
        ]
        known = [each.name for each in (*own, *shown) if each.name not in BEARERS]

        @wraps(verb)
        def checked(*args: Given.args, **keywords: Given.kwargs) -> Result:
            check_names(keywords.keys() - set(BEARERS), known)
            return verb(*args, **keywords)

        checked.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]  # PEP 362
        checked.__doc__ = _documented(verb, known, described)
        return checked

    return decorate


def _types(settings: type | None) -> dict[str, str]:
    """The keys of a TypedDict with their types as they are written."""
    found = {} if settings is None else inspect.get_annotations(settings)
    return {name: getattr(kind, "__forward_arg__", str(kind)) for name, kind in found.items()}


def _default(name: str) -> int | None:
    """A setting's value where it is not given: None is the bundle's own, or the verb's."""
    return 1 if name == "n" else None


def _documented(verb: Callable[..., Any], names: Iterable[str], described: Iterable[object]) -> str | None:
    """The docstring of a verb, and a list of what it leaves out."""
    own = inspect.getdoc(verb)
    if own is None:  # Python was told to leave docstrings out
        return None
    there, texts = _entries(own), dict[str, str]()
    for source in described:
        texts = _entries(inspect.getdoc(source) or "") | texts
    lines = [f"{name}: {texts[name]}" for name in names if name in texts and name not in there]
    return f"{own}\n\nKeywords:\n{indent(chr(10).join(lines), '    ')}" if lines else own


def _entries(docstring: str) -> dict[str, str]:
    """The texts of what a docstring lists, but for those that refer to another."""
    return {
        name: re.sub(r"\n +", "\n    ", text)
        for _, names, text in ENTRY.findall(docstring)
        for name in names.split(", ")
        if not text.startswith(SEES_OTHERS)
    }
