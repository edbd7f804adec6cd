"""Recipes: what is trained and how, as TOML files beside this one or anywhere else.

A recipe that says `base = "pictograms"` has all that the base has, but for what it says itself. A stage that
is taken over whole, `bundle = "..."`, has nothing of the base's; `layout = false` leaves a stage out, in a
recipe and as a setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unclip.config import load_toml, override
from unclip.errors import InputError

FOLDER = Path(__file__).parent
TRAIN = "train"  # the table of a stage that holds the settings of the training loop
# Settings of a stage that had another name: a recipe that says the old one is refused, a run that was begun
# with it goes on under the new one.
RENAMED = {
    "train.sharpness": "train.sam_rho",
    "task.pictures.alike": "task.pictures.hard_negatives",
    "task.fed": "task.conditioning",
    "keep": "old_weights",
}


def names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def describe(name: str) -> str:
    """One line on a recipe: its `description`."""
    return str(load(name).get("description", ""))


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The recipe of a name (`pictograms`) or a path (`own.toml`), with settings such as `clip.train.steps=9`.

    A setting may name a key that the file leaves to its default, in any table that the file has; whether
    there is such a key is known when the table is turned into its config.

    Raises:
        InputError: there is no such recipe or file, it is not TOML, a setting has an unknown table, or a key
            has another name by now, which the message says.
    """
    recipe = _read(str(name_or_path), ())
    for assignment in overrides:
        key = assignment.partition("=")[0].strip()
        _refuse_old_name(key)
        _make_room(recipe, key.split("."))
    recipe = {
        key: value
        for key, value in override(recipe, overrides).items()
        if value is not False or not isinstance(recipe[key], dict)
    }
    for key in _keys(recipe):
        _refuse_old_name(key)
    return recipe


def renamed(stage: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The tables of a stage, as a run wrote them down once, with the names that settings have now."""
    tables = {}
    for name, value in stage.items():
        key = f"{where}{name}"
        now = RENAMED.get(key, key).rpartition(".")[2]
        tables[now] = renamed(value, f"{key}.") if isinstance(value, Mapping) else value
    return tables


def train_tables(recipe: dict[str, Any], where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every `train` table of a recipe with its dotted key: one for a stage, several for a sequence."""
    for key, value in recipe.items():
        if isinstance(value, dict):
            if key == TRAIN:
                yield f"{where}{key}", value
            else:
                yield from train_tables(value, f"{where}{key}.")


def _read(text: str, above: tuple[str, ...]) -> dict[str, Any]:
    """A recipe laid over its base; `above` are the recipes that it is the base of."""
    if text in above:
        raise InputError(f"recipe {text!r} is its own base, by way of {' -> '.join((*above, text))}")
    if text.endswith(".toml") or Path(text).name != text:
        recipe = load_toml(text)
    elif text in names():
        recipe = load_toml(FOLDER / f"{text}.toml")
    else:
        raise InputError(
            f"unknown recipe {text!r}: choose {', '.join(names())}, or give the path of a .toml file"
        )
    base = recipe.pop("base", None)
    if base is None:
        return recipe
    if str(base).endswith(".toml"):
        base = Path(text).parent / base  # beside the recipe that names it
    return _over(_read(str(base), (*above, text)), recipe)


def _over(base: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe laid over its base, table by table."""
    merged = dict(base)
    for key, value in recipe.items():
        below = merged.get(key)
        if value is False and isinstance(below, dict):
            del merged[key]
        elif isinstance(value, dict) and isinstance(below, dict) and "bundle" not in value:
            merged[key] = _over(below, value)
        else:
            merged[key] = value
    return merged


def _make_room(recipe: dict[str, Any], path: list[str]) -> None:
    """Puts an empty value where a setting names a new key of a table that is there."""
    table: Any = recipe
    for name in path[:-1]:
        table = table.get(name) if isinstance(table, dict) else None
    if isinstance(table, dict) and len(path) > 1:
        table.setdefault(path[-1], None)


def _keys(table: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """The dotted keys of a recipe's settings."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{where}{name}.")
        else:
            yield f"{where}{name}"


def _refuse_old_name(key: str) -> None:
    """Raises InputError for the dotted key of a setting that has another name by now."""
    stage, _, name = key.partition(".")
    if name in RENAMED:
        raise InputError(f"{key} is now {stage}.{RENAMED[name]}: rename it")
