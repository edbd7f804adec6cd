"""The record that a picture's file has of how it was made, and the same picture drawn again by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from unclip.data.prompts import names_style
from unclip.data.styles import ANY_STYLE
from unclip.drawing import Event, Job, Options, Settings
from unclip.errors import InputError, warn
from unclip.given import Given
from unclip.images import Source, opened, read_metadata
from unclip.keywords import spelled_out

if TYPE_CHECKING:  # what is wrong with a record is said before torch is loaded
    from unclip.pipeline import Pipeline

NEEDED = ("prompt", "seed", "index", "model", "weights")
# The end of a prompt that was too long to be kept, see `drawing.kept`.
CUT = re.compile(r"\.\.\. \(\d+ characters, SHA-256 [0-9a-f]{64}\)$")
OF_INIT = ("strength", "fit")
SETTINGS = tuple(item.name for item in fields(Options) if item.name not in ("n", "seed"))


def valued(text: str) -> str | int | float:
    """A setting as a number where it is one."""
    for kind in (int, float):
        with suppress(ValueError):
            if (number := kind(text)) == number and abs(number) != float("inf"):
                return number
    return text


@dataclass(frozen=True)
class Record:
    """The settings in a picture's file, by which it was drawn.

    Attributes:
        name: of the file, for messages.
        prompt, seed, index: as of `Picture`.
        model: name of the bundle.
        weights: the bundle's identity.
        settings: all else, as texts.
    """

    name: str
    prompt: str
    seed: int
    index: int
    model: str
    weights: str
    settings: Mapping[str, str]

    @classmethod
    def of(cls, picture: Source) -> Self:
        """Of a picture that `unclip` has written, or a `Picture`.

        Raises:
            InputError: it is no picture, or does not say how it was made.
        """
        found = dict(getattr(picture, "metadata", None) or read_metadata(picture))
        name = str(picture) if isinstance(picture, (str, Path)) else "the picture"
        numbers = [found.get(key, "") for key in ("seed", "index")]
        if any(key not in found for key in NEEDED) or not all(re.fullmatch("[0-9]+", n) for n in numbers):
            raise InputError(
                f"{name} does not say how it was made: it is not unclip's, was written without metadata, or "
                "another program has left them out"
            )
        prompt, seed, index, model, weights = (found.pop(key) for key in NEEDED)
        return cls(name, prompt, int(seed), int(index), model, weights, found)

    @property
    def operation(self) -> str:
        """The verb that made it of another picture; empty where it was drawn from its prompt."""
        filled = "edit" if "rounds" in self.settings else ""
        return self.settings.get("operation", filled)

    @property
    def options(self) -> dict[str, Any]:
        """The fields of `Options` that are recorded, but for n and seed."""
        found = {name: valued(self.settings[name]) for name in SETTINGS if name in self.settings}
        return {name: value for name, value in found.items() if value != "all"}  # of top_k: no limit

    @property
    def precision(self) -> str | None:
        """The type that the networks computed in; None where it is not said."""
        return self.settings.get("precision")

    @property
    def exact(self) -> bool:
        """True where it was drawn exactly."""
        return "exact" in self.settings

    def difference(self, name: str, identity: str) -> str | None:
        """A sentence that a bundle is not the one that drew it; None where it is."""
        if identity == self.weights:
            return None
        return (
            f"{self.name} was drawn by {self.model} with the weights {self.weights}, and {name} here has "
            f"{identity}: another picture comes out"
        )

    def check(self, prompt: str | None, given: Mapping[str, Any]) -> None:
        """Refuse what cannot be drawn again from the record and the keywords given.

        Raises:
            InputError: it was made of a picture that is not given, or has a prompt too long to be kept.
        """
        source = self.settings.get("source", "")
        if self.operation not in ("", "init"):
            raise InputError(
                f"{self.name} was made by `unclip {self.operation}` of another picture ({source}): give that "
                f"to `unclip {self.operation}`, with the settings that `unclip info` shows"
            )
        if self.operation == "init" and given.get("init") is None:
            raise InputError(f"{self.name} was begun from another picture ({source}): give that as init, too")
        if "keep_rows" in self.settings and given.get("start") is None:
            raise InputError(f"{self.name} goes on from another picture: give that as start, too")
        if prompt is None and CUT.search(self.prompt):
            raise InputError(f"the prompt of {self.name} was too long to be kept whole: give it, too")


@spelled_out(Settings, Options)
def like(
    model: Pipeline, picture: Source | Record, prompt: str | None = None, **settings: Unpack[Settings]
) -> Iterator[Event]:
    """The picture that a file's metadata tell of, drawn again; what is given besides is changed.

    Args:
        model: draws. Where it is not the bundle that drew the picture, a warning says so.
        picture: a file that `unclip` has written, or a `Picture`.
        prompt: in place of the recorded one.
        settings: in place of the recorded ones. Of several pictures (`n`) the first is the recorded one, and
            the others those that follow it in its seed.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: the file does not say how it was made, or was made of another picture, which would have to
            be given, or a setting is outside its range.
    """
    record = picture if isinstance(picture, Record) else Record.of(picture)
    given = {name: value for name, value in settings.items() if value is not None}
    record.check(prompt, given)
    if given.get("init") is not None and record.operation == "init":
        found = opened(given["init"])[1]
        if found != record.settings.get("source"):
            warn(f"{record.name} was begun from another picture than the one given ({found})")
    if (difference := record.difference(model.bundle.name, model.bundle.identity)) is not None:
        warn(difference)
    own = model.networks.settings
    if record.precision not in (None, own["precision"]):
        warn(
            f"{record.name} was computed in {record.precision}, and this model computes in "
            f"{own['precision']}: details may differ; precision of unclip.load (--dtype) says otherwise"
        )
    if record.exact and "exact" not in own:
        warn(f"{record.name} was drawn exactly: exact of unclip.load (--exact) draws the same bits")
    elif record.exact and own["exact"] != record.settings["exact"]:
        warn(
            f"{record.name} was drawn on {record.settings['exact']}, and this is {own['exact']}: pixels may "
            "be off by 2 of 255"
        )
    known = model.family.honours | {"size"}
    recorded = {name: value for name, value in record.options.items() if name in known}
    chosen: dict[str, Any] = {**recorded, **given}
    if chosen.get("init") is None:
        chosen = {name: value for name, value in chosen.items() if name in given or name not in OF_INIT}
    text, translation = record.prompt, record.settings.get("translation")
    if prompt is not None:
        text, translation = prompt, None  # draw puts it through the translator
    job, styles = Job(text, 0, 0, Given(translation=translation)), model.bundle.styles
    if "style" not in given and (
        given.get("init") is not None
        or names_style(job.text, styles.known)
        or recorded.get("style") not in (ANY_STYLE, *styles.known)
    ):
        chosen.pop("style", None)  # the recorded one has no place beside them
    options = Options.of(**{**chosen, "size": model.size(chosen.get("size"))})
    seed = record.seed if options.seed is None else options.seed
    count = options.rerank or options.n
    return model.draw([replace(job, seed=seed, index=record.index + k) for k in range(count)], options)
