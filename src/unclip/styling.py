"""The style of pictures whose prompt names none: asked for, or one of the bundle's clear ones by the seed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from unclip.data.prompts import in_style, names_style, says
from unclip.data.styles import ANY_STYLE
from unclip.drawing import Job
from unclip.errors import InputError, shown
from unclip.given import Styled
from unclip.manifest import Styles

Truncated = Callable[[Sequence[str]], Sequence[str | None]]
"""The end of each prompt that will not be read; None where all of it is."""


def check_style(style: str | None, styles: Styles, bundle: str) -> None:
    """Refuses, with InputError, a style that the bundle does not list."""
    if style in (None, ANY_STYLE, *styles.known):
        return
    if not styles.known:
        raise InputError(f"style {shown(style)}: {bundle} lists no styles, so say it in the prompt")
    near = difflib.get_close_matches(str(style).casefold(), [*styles.known, ANY_STYLE], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    names = ", ".join((*styles.known, ANY_STYLE))
    raise InputError(f"unknown style {shown(style)}: {hint}choose one of {names}")


def styled(jobs: Sequence[Job], style: str | None, styles: Styles, truncated: Truncated) -> list[Job]:
    """Jobs with a style said beside their prompts, where one is to be.

    None is added to a prompt that names one, or that says one of the bundle's own words, or to a job that
    something is given with.

    Args:
        jobs: to draw.
        style: a known one; "any" adds none and says so; None is a clear one, by the job's seed and index:
            as many pictures of a seed as there are clear styles have all of them.
        styles: of the bundle.
        truncated: tells what is not read of a text that is too long.

    Raises:
        InputError: a style that is asked for, of a prompt that names one, or that is too long for another.
    """
    if not styles.clear and style in (None, ANY_STYLE):
        return list(jobs)
    return [_styled(job, style, styles, truncated) for job in jobs]


def _styled(job: Job, style: str | None, styles: Styles, truncated: Truncated) -> Job:
    if job.given.kinds or not job.prompt:
        return job
    if style == ANY_STYLE:  # without it the same settings would draw another picture
        return replace(job, given=replace(job.given, style=Styled(ANY_STYLE, job.text)))
    if names_style(job.text, styles.known):
        if style is not None:
            raise InputError(
                f"style {shown(style)}: the prompt {shown(job.prompt)} names a style itself, so leave out "
                "one of them"
            )
        return job
    if style is None and says(job.text, styles.words):
        return job
    name = chosen(styles.clear, job.seed, job.index) if style is None else style
    text = in_style(job.text, name)
    if truncated([text])[0] is not None:  # the style, at its end, would not be read
        if style is not None:
            raise InputError(
                f"style {shown(style)}: the prompt is too long to be read with it, so shorten it"
            )
        return job
    return replace(job, given=replace(job.given, style=Styled(name, text)))


def chosen(clear: Sequence[str], seed: int, index: int) -> str:
    """The style of picture `index` of a seed: the styles in an order of chance, each once, then anew."""
    round_, place = divmod(index, len(clear))
    return Random(f"style {seed} {round_}").sample(list(clear), len(clear))[place]
