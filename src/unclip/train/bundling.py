"""The bundle that a run ends in: checked before the first step, and written after the last."""

from __future__ import annotations

from pathlib import Path

from unclip import __version__, native
from unclip.bundle import Part, Shared, save_bundle
from unclip.config import to_dict
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import CheckpointError, InputError
from unclip.manifest import FORMAT, Component, Manifest, Preprocessing, check_manifest, read_sampling
from unclip.models.clip import CLIP
from unclip.models.code_sampling import CodeSampling
from unclip.train import card, standing, state
from unclip.train.results import Results
from unclip.train.stages import COMPONENTS, TASKS, TOKENIZER, WRITES_CODES
from unclip.train.statements import BundleTable, styles_of, table_of


def check(run: Results) -> None:
    """Refuse a table `bundle`, or a family, of which no bundle could be written.

    Raises:
        InputError: naming what is wrong.
    """
    table = table_of(run)
    if "family" not in run.recipe:
        raise InputError("the recipe has a bundle and no family: say which, for example family = 'unclip'")
    components = {name: _component(run, stage) for stage, name in _components(run).items()}
    manifest = Manifest(
        FORMAT,
        table.name,
        str(run.recipe["family"]),
        __version__,
        components,
        table.licence,
        table.data,
        styles_of(run, table),
        table.languages,
    )
    try:
        check_manifest(manifest)
    except (InputError, CheckpointError) as error:
        raise InputError(f"the bundle of this recipe: {error}") from error


def _components(run: Results) -> dict[str, str]:
    """Stages whose results are components of the bundle, each with what it is called there."""
    stages = [stage for stage in (TOKENIZER, *TASKS) if stage in run.named]
    # a layout's weights are in the decoder
    return {stage: COMPONENTS.get(stage, stage) for stage in stages if stage not in ("layout", "supervised")}


def _component(run: Results, stage: str) -> Component:
    """The description of a component before it is trained."""
    if (shared := run.shared(stage)) is not None:
        return shared.component(COMPONENTS.get(stage, stage))
    if stage == TOKENIZER:
        return Component("byte-pair", "", 0, "")
    config = run.config(stage, "bundle")
    return Component(native.kind_of_config(config), "", 0, "", config=to_dict(config))


def write(run: Results, folder: Path) -> None:
    """Writes the bundle, whole or not at all.

    Raises:
        TrainingError: its parts were trained on different things, or it cannot be written.
    """
    table, parts, sizes = table_of(run), dict[str, Part](), dict[str, int]()
    for stage, name in _components(run).items():
        if (shared := run.shared(stage)) is not None:
            parts[name] = Part(Shared(shared, name)) if table.shares else shared.part(name)
        elif stage == TOKENIZER:
            parts[name] = Part(run.tokenizer(), licence=table.licence, data=table.data)
        else:
            parts[name] = _part(run, stage, table)
    for stage in run.trained:
        sizes[stage] = sum(parameter.numel() for parameter in run.model(stage).parameters())
    standing.refuse_stale(run, standing.of(run, run.named))
    text = card.write(run, table, sizes)
    with state.writing(run.out, folder.name):
        save_bundle(
            folder,
            name=table.name,
            parts=parts,
            card=text,
            family=str(run.recipe["family"]),
            licence=table.licence,
            data=table.data,
            styles=styles_of(run, table),
            languages=table.languages,
        )


def _part(run: Results, stage: str, table: BundleTable) -> Part:
    model = run.model(stage)
    diffuses, given = "diffusion" in run.recipe[stage], run.recipe[stage].get("sampling", {})
    kind, config = native.kind_of(model), to_dict(model.config)
    return Part(
        model,
        diffusion=run.part(stage, "diffusion", DiffusionConfig) if diffuses else None,
        sampling=read_sampling(kind, config, given, f"{stage}.sampling") if diffuses else None,
        codes=run.part(stage, "sampling", CodeSampling) if stage in WRITES_CODES else None,
        preprocessing=Preprocessing(model.config.image.image_size) if isinstance(model, CLIP) else None,
        licence=table.licence,
        data=table.data,
    )
