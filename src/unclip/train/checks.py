"""The checks of a run before its first step: keys, values and starts of all stages, bundle and corpus.

So a mistake in the last stage is said at once, and not when the stages before it have trained for days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from unclip import native
from unclip.config import choices, from_dict, to_dict
from unclip.diffusion.schedule import respace
from unclip.errors import BundleError, CheckpointError, DataError, InputError, shown
from unclip.manifest import SAMPLING, Component, check_ranges, read_sampling
from unclip.models.code_sampling import CodeSampling
from unclip.models.layout import Layout
from unclip.train import bundling
from unclip.train.best import BEST
from unclip.train.config import LoopConfig
from unclip.train.pictures import PicturesConfig, check_streams
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.stages import (
    BUNDLE,
    COMPONENTS,
    GUIDES,
    STAGES,
    TOKENIZER,
    WRITES_CODES,
    StageTables,
    TokenizerStage,
)
from unclip.train.starting import begin_, begun_decoder
from unclip.train.statements import table_of

MOST_OF_A_PICTURE = 1000  # times that it may stand in one batch: more is a slip of the pen


def check(run: Results, wanted: Sequence[str]) -> None:
    """Refuse a run that could not come to its end.

    Of stages that are not `wanted` only the keys, and the settings of the loop, are looked at.

    Raises:
        InputError: a key, a value or a start of the recipe is wrong; the message names its dotted key.
        BundleError, CheckpointError: what a stage takes over or begins with is not there, or is not whole.
        DataError: the corpus is empty or damaged.
    """
    known = ["description", "family", *STAGES]
    for key in run.recipe:
        if key not in known:
            raise InputError(f"unknown key {key!r} in the recipe: {choices(key, known)}")
    for key in ("description", "family"):
        if not isinstance(text := run.recipe.get(key, ""), str):
            raise InputError(f"{key}: got {shown(text)}, expected a text")
    if not len(run.train):
        raise DataError(
            f"{run.train.where} has no picture in its split {run.train.split}: build it of more pictures, "
            "with `unclip data`"
        )
    run.train.check_files()
    for stage in run.named:
        if not isinstance(run.recipe[stage], Mapping):
            raise InputError(f"{stage}: got {shown(run.recipe[stage])}, expected a table")
    for stage in run.named:
        if stage == BUNDLE:
            table_of(run)
        elif "bundle" in run.recipe[stage]:
            run.shared(stage)
        elif stage == TOKENIZER:
            from_dict(TokenizerStage, run.recipe[stage], stage)
        else:
            from_dict(StageTables, run.recipe[stage], stage)
            run.part(stage, "train", LoopConfig)
    for stage in wanted:
        try:
            _check_wanted(run, stage)
        except (BundleError, CheckpointError) as error:
            raise type(error)(f"{stage}: {error}") from error


def _check_wanted(run: Results, stage: str) -> None:
    if stage == BUNDLE:
        bundling.check(run)
    elif "bundle" in run.recipe[stage]:
        _check_taken_over(run, stage)
    elif stage != TOKENIZER:
        _check_trained(run, stage)


def _check_taken_over(run: Results, stage: str) -> None:
    """Refuse a part of a bundle that is not there, or that belongs to another part than the run's own."""
    own = run.shared(stage)
    assert own is not None
    component = own.component(COMPONENTS.get(stage, stage))
    if stage == "clip" and component.kind != "clip":
        raise InputError(f"{stage}.bundle: {own.name} has a {component.kind}, which nothing is trained on")
    for need in run.needs(stage):
        name, other = COMPONENTS.get(need, need), run.shared(need)
        part = own.components.get(name)
        if part is None:
            continue
        if other is None or other.component(name).sha256 != part.sha256:
            raise InputError(
                f"{stage}.bundle: the {stage} of {own.name} belongs to its own {need}, and this recipe has "
                f"another: take {need}.bundle = {own.name!r} as well, or train {stage}"
            )


def _check_trained(run: Results, stage: str) -> None:
    """Refuse settings that are wrong for a stage's model, task or corpus, or for what it begins with."""
    table, loop = from_dict(StageTables, run.recipe[stage], stage), run.part(stage, "train", LoopConfig)
    if loop.batch > (most := MOST_OF_A_PICTURE * len(run.train)):
        raise InputError(
            f"{stage}.train.batch: got {loop.batch}, allowed is up to {most:,}, {MOST_OF_A_PICTURE:,} times "
            "the pictures of the corpus"
        )
    averages = ["raw", *(f"ema-{number}" for number in range(len(loop.ema)))] + [BEST] * bool(loop.best)
    if table.weights is not None and table.weights not in averages:
        raise InputError(f"{stage}.weights: got {table.weights!r}, allowed are {', '.join(averages)}")
    run.share_of_old(stage)
    start, settings = run.start(stage), run.settings(stage)
    if table.diffusion and (settings.diffusion is None or stage in GUIDES):
        raise InputError(f"{stage}.diffusion: {stage} has no noise levels of its own, leave this table out")
    model = _model(settings.model, f"{stage}.model")
    _check_drawing(run, stage, table, settings)
    pictures = getattr(settings.task, "pictures", settings.task)
    run.train.weights(*(getattr(pictures, name, None) for name in ("sources", "kinds", "shares")))
    if isinstance(pictures, PicturesConfig):
        check_streams(run.train, pictures)
    run.train.check_room(loop.lanes, loop.batch, run.processes)
    if start is None:
        return
    if stage == "decoder":
        layout = _model(settings.model.layout, f"{stage}.layout") if "layout" in run.recipe else None
        assert layout is None or isinstance(layout, Layout)
        begun_decoder(start, settings.model, layout)
    else:
        begin_(model, COMPONENTS.get(stage, stage), start, f"{stage}.start: {start}")


def _model(config: Any, where: str) -> nn.Module:
    """The model of a config, its weights unfilled, of a size that can be read back from a file."""
    kind = native.kind_of_config(config)
    try:
        return native.unfilled(kind, native.config_from_dict(kind, to_dict(config), where))
    except CheckpointError as error:
        text = str(error)
        raise InputError(text if text.startswith(where) else f"{where}: {text}") from error


def _check_drawing(run: Results, stage: str, table: StageTables, settings: Settings) -> None:
    """Refuse noise levels and sampling that nothing can be drawn by."""
    kind, config = native.kind_of_config(settings.model), to_dict(settings.model)
    sampling = codes = None
    if stage in WRITES_CODES:
        codes = run.part(stage, "sampling", CodeSampling)
    elif table.sampling or ("bundle" in run.recipe and kind in SAMPLING):
        sampling = read_sampling(kind, config, table.sampling, f"{stage}.sampling")
    component = Component(kind, "", 0, "", diffusion=settings.diffusion, sampling=sampling, codes=codes)
    check_ranges(component, stage)
    if settings.diffusion is not None:
        try:
            schedule = settings.diffusion.build()
            if sampling is not None:
                respace(len(schedule), sampling.steps)
        except ValueError as error:
            raise InputError(f"{stage}.diffusion or {stage}.sampling: {error}") from error
