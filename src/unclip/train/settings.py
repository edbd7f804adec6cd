"""The settings of a stage: what its tables in a recipe say, completed by what follows from other stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError, shown


class Settings(NamedTuple):
    """The settings of a stage, as far as they are known before any stage is trained."""

    model: Any  # the config of the model that is trained
    task: Any  # the config of `[STAGE.task]`
    diffusion: DiffusionConfig | None = None  # over whose noise levels it learns


def completed(table: Any, following: Mapping[str, Any], where: str) -> Any:
    """A table of a recipe with the values that follow from other stages; tables within tables likewise.

    What is no table is given back as it is: to read it as a config says what is wrong with it.

    Raises:
        InputError: the table says another value than follows.
    """
    if not isinstance(table, Mapping):
        return table
    whole = dict(table)
    for key, value in following.items():
        said = table.get(key, value)
        if isinstance(value, Mapping):
            whole[key] = completed(said, value, f"{where}.{key}")
        elif said != value:
            raise InputError(
                f"{where}.{key}: got {shown(said)}, but {shown(value)} follows from the rest of the recipe: "
                "leave it out"
            )
        else:
            whole[key] = value
    return whole
