"""The record of what a stage of a run was trained on, and what has changed since.

It stands beside the weights, as `STAGE/trained-on.json`: the corpus, the results of earlier stages that went
in, what training began with, and all settings. Runs of before there were records have none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unclip import recipes
from unclip.config import from_dict, parse_json, to_dict, with_defaults
from unclip.errors import InputError, TrainingError
from unclip.runtime import atomic_path
from unclip.train import state
from unclip.train.config import LoopConfig
from unclip.train.loop import FIXED
from unclip.train.settings import Settings

FORMAT = 1
NAME = "trained-on.json"
# Settings of the loop that leave the weights what they are, but for how a machine rounds.
IDLE = (
    *("log_steps", "preview_steps", "evaluate_steps", "tensorboard", "checkpoint_minutes", "keep"),
    *("failure_hours", "accumulate", "compile", "channels_last", "parallel"),
)


@dataclass(frozen=True)
class Record:
    """The things that a stage was trained on.

    Attributes:
        corpus: its fingerprint.
        parts: earlier stages whose results went in -> SHA-256 of the result.
        start: the weights that training began with, empty where it began anew.
        settings: tables by name: model, task, diffusion, train; of the tokenizer its own.
        commands: as they were typed, each once; the last one is the latest.
        format: of this file.
    """

    corpus: str
    parts: dict[str, str]
    start: str
    settings: dict[str, dict[str, Any]]
    commands: list[str] = field(default_factory=list)
    format: int = FORMAT


def read(path: Path) -> Record | None:
    """The record in a file, or None where there is none.

    Raises:
        TrainingError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        found = from_dict(Record, parse_json(path.read_bytes(), str(path)), str(path))
    except (OSError, InputError) as error:
        raise TrainingError(f"{error}: remove the stage's folder, or {path} alone to go on untold") from error
    if found.format != FORMAT:
        raise TrainingError(f"{path} has format {found.format}, this version reads {FORMAT}")
    return found


def write(path: Path, record: Record) -> None:
    """Writes a record; commands of the one that stands there stay in it."""
    earlier = read(path)
    commands = [] if earlier is None else [one for one in earlier.commands if one not in record.commands]
    about = {**to_dict(record), "commands": [*commands, *record.commands]}
    with state.writing(path.parent, path.name), atomic_path(path) as temporary:
        temporary.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tables(settings: Settings, loop: LoopConfig) -> dict[str, dict[str, Any]]:
    """The settings of a stage, as a record has them."""
    configs = {**settings._asdict(), "train": loop}
    plain = {name: to_dict(config) for name, config in configs.items() if config is not None}
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(plain))
    return found


def changes(before: Record, now: Record, settings: Mapping[str, Any], goes_on: bool) -> Iterator[str]:
    """Changes to the corpus, parts, start and settings of a trained stage, a line each.

    Args:
        before: the stage's record.
        now: that of a stage that would be trained now.
        settings: configs by the names of their tables.
        goes_on: the stage is trained on, and takes the rest of its steps by other settings of the loop, as
            far as those can change.
    """
    if before.corpus != now.corpus:
        yield "the corpus is another"
    if before.start != now.start:
        yield f"start: was {before.start or 'none'}, is {now.start or 'none'}"
    for name, table in now.settings.items():
        old = before.settings.get(name, {})
        if settings.get(name) is not None:
            old = with_defaults(old, settings[name])
        if name == "train":
            counts = FIXED if goes_on else [key for key in table if key not in IDLE and key != "steps"]
            old, table = ({key: one[key] for key in counts if key in one} for one in (old, table))
        yield from state.differences(old, table, name)


def renamed(record: Record) -> Record:
    """A record with the names that settings have now."""
    return Record(
        record.corpus, record.parts, record.start, recipes.renamed(record.settings), record.commands
    )
