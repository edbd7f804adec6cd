"""Frozen dataclasses to plain dictionaries and back, strictly.

Every model, schedule, recipe and bundle is described by a frozen dataclass. Their dictionaries are what JSON
and TOML files hold. Reading is strict: a key too many, a key too few or a value of the wrong type is an
`InputError` that names the dotted key.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import json
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union

from unclip.errors import InputError, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

KIND = "kind"  # the literal field that tells the dataclasses of a union apart
LARGEST_JSON = 2**22  # bytes of a file of settings
DEEPEST_JSON = 64  # lists and tables in each other
MOST_BRACKETS = 2**21  # lists and tables, which take far more memory than the two bytes they are written as


def to_dict(config: Any) -> dict[str, Any]:
    """A config as JSON would hold it: enums by value, tuples as lists, nested dataclasses as dictionaries."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"to_dict takes an instance of a dataclass, not {config!r}")
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def from_dict(cls: type[Config], data: Mapping[str, Any], where: str = "") -> Config:
    """The config of class `cls` that `data` describes; the inverse of `to_dict`.

    A field that has a default may be left out; every other field must be there, and nothing else may be.
    Understood are bool, int, float (an int will do), str, Path, enums by value, literals, tuples, lists,
    dictionaries with string keys, optional fields, nested dataclasses, and unions of dataclasses that a
    literal field called `kind` tells apart.

    `where` is the dotted key that `data` was found under; messages begin with it.

    Raises:
        InputError: naming the dotted key, what it holds and what is allowed.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{where or cls.__name__}: got {_show(data)}, expected a table of {cls.__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            raise InputError(f"unknown key {_dotted(where, str(key))!r}: {choices(str(key), fields)}")
    hints = _field_types(cls)
    values = {}
    for name, field in fields.items():
        key = _dotted(where, name)
        if name in data:
            value = _convert(hints[name], data[name], key)
            if field.init:
                values[name] = value
            elif value != field.default:
                raise InputError(f"{key}: got {_show(data[name])}, but it is always {_show(field.default)}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"missing key {key!r}: {cls.__name__} needs it")
    try:
        return cls(**values)
    # the dataclass's own check of its values, or sizes that it cannot divide
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from error


def with_defaults(table: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """A table that was read as the class of `config` once, with the defaults of fields that came since.

    Where it says what is allowed no more it is given back as it is.
    """
    try:
        return to_dict(from_dict(type(config), table))
    except InputError:
        return dict(table)


@functools.cache
def _field_types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, key: str) -> Any:
    """`value` as the type `hint`, or an InputError that names `key`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, key)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise InputError(f"{key}: got {_show(value)}, allowed are {_listed(arguments)}")
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise InputError(f"{key}: got {len(value)} values, expected {len(arguments)}")
        pairs = zip(arguments, value, strict=True)
        return tuple(_convert(kind, item, f"{key}[{i}]") for i, (kind, item) in enumerate(pairs))
    if origin is list and isinstance(value, (list, tuple)):
        return [_convert(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if isinstance(value, Mapping):
            return {
                str(name): _convert(arguments[1], item, _dotted(key, str(name)))
                for name, item in value.items()
            }
        raise InputError(f"{key}: got {_show(value)}, expected a table")
    if isinstance(hint, type):
        return _convert_class(hint, value, key)
    raise InputError(f"{key}: got {_show(value)}, expected {_name(hint)}")


def _convert_class(hint: type, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, key)
    if issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            allowed = _listed([member.value for member in hint])
            raise InputError(f"{key}: got {_show(value)}, allowed are {allowed}") from None
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:  # NaN is not either
            raise InputError(f"{key}: got {_show(value)}, expected a finite number")
        return float(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    # bool is a subclass of int, yet `layers = true` is a mistake
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise InputError(f"{key}: got {_show(value)}, expected {_name(hint)}")


def _convert_union(choices: Sequence[Any], value: Any, key: str) -> Any:
    if value is None:
        if type(None) in choices:
            return None
        raise InputError(f"{key}: got null, expected {' or '.join(map(_name, choices))}")
    choices = [choice for choice in choices if choice is not type(None)]
    configs: list[Any] = [choice for choice in choices if dataclasses.is_dataclass(choice)]
    if isinstance(value, Mapping) and len(configs) > 1:
        kinds = {
            kind: config for config in configs for kind in typing.get_args(_field_types(config).get(KIND))
        }
        found = value.get(KIND)
        if isinstance(found, str) and found in kinds:
            return from_dict(kinds[found], value, key)
        if found is None:
            raise InputError(f"missing key {_dotted(key, KIND)!r}: allowed are {_listed(kinds)}")
        raise InputError(f"{_dotted(key, KIND)}: got {_show(found)}, allowed are {_listed(kinds)}")
    if len(choices) == 1:
        return _convert(choices[0], value, key)
    if isinstance(value, Mapping) and len(configs) == 1:
        return from_dict(configs[0], value, key)
    if type(value) in choices:  # an int stays an int in `int | float`
        return _convert_class(type(value), value, key)
    for choice in choices:
        try:
            return _convert(choice, value, key)
        except InputError:
            continue
    raise InputError(
        f"{key}: got {_show(value)}, expected {' or '.join(_name(choice) for choice in choices)}"
    )


def override(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with assignments such as `"prior.layers=6"` made in it, from left to right.

    The value is TOML (`3`, `1e-4`, `true`, `[64, 128]`, `"text"`); what is not TOML is a bare string, and
    `null` is None. Only keys that `data` already has can be set.

    Raises:
        InputError: an assignment without `=`, an unknown key, or a list, table or string that is not closed.
    """
    result = copy.deepcopy(dict(data))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals or not path:
            raise InputError(
                f"cannot read the setting {assignment!r}: write it as key=value, for example steps=100"
            )
        *parents, last = path.split(".")
        table: Any = result
        for depth, name in enumerate([*parents, last]):
            where = ".".join(path.split(".")[:depth])
            if not isinstance(table, dict):
                raise InputError(f"unknown key {path!r}: {where!r} is {_show(table)}, not a table")
            if name not in table:
                raise InputError(f"unknown key {_dotted(where, name)!r}: {choices(name, table)}")
            if depth < len(parents):
                table = table[name]
        table[last] = _parse(text.strip(), path)
    return result


def _parse(text: str, key: str) -> Any:
    if text == "null":
        return None
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if text.startswith(("[", "{", '"', "'")):
            raise InputError(f"{key}: cannot read {text!r} as a TOML value: {error}") from None
        return text
    # a line break in the text could have opened a second key
    return document["value"] if set(document) == {"value"} else text


def load_json(path: str | Path, largest: int = LARGEST_JSON) -> Any:
    """The value that a JSON file of at most `largest` bytes holds.

    Raises:
        InputError: the file is missing, cannot be read, is too large, or as `parse_json`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > largest:
        raise InputError(f"{path}: more than {largest} bytes, which no such file has")
    return parse_json(data, str(path))


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text that is no deeper than settings are. Raises InputError that says `where`."""
    square, curly = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    try:
        if text.count(square) + text.count(curly) > MOST_BRACKETS:  # type: ignore[arg-type]
            raise ValueError(f"more than {MOST_BRACKETS} lists and tables")
        value = json.loads(text)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error})") from error
    return value


def _check_depth(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(DEEPEST_JSON):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for items in inner for child in items if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST_JSON}")


def load_toml(path: str | Path) -> dict[str, Any]:
    """The table that a TOML file holds.

    Raises:
        InputError: the file is missing, cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def _dotted(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _show(value: Any) -> str:
    return "null" if value is None else shown(value)


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(_show(value) for value in values)


def choices(name: str, known: Iterable[str]) -> str:
    """The rest of a message that a name is not known: the one that was meant, or all that are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known) or 'none'}"
