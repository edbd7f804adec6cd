"""ADM as openai/guided-diffusion published it: `.pt` files of plain tensors, and flags in its README.

A file tells its sizes by its shapes. What shapes do not tell (the side of the picture, the number of heads,
their order, the noise schedule) is taken from the released model that has the same sizes, or from options
that are called what guided-diffusion's flags are called.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import cast

from unclip.bundle import Part
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build, by_role, has_role
from unclip.checkpoints.guided_unet import (
    Sizes,
    check_heads,
    check_size,
    choose,
    linear_rules,
    measure,
    unet_rules,
    whole,
)
from unclip.checkpoints.table import Rule, Table, transposed
from unclip.checkpoints.weights import Weights
from unclip.diffusion.defaults import ClassifierSampling, Sampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.errors import CheckpointError, InputError
from unclip.models.adm import ADM, CLASSIFIERS, PRESETS, ADMConfig, Classifier, ClassifierConfig
from unclip.native import unfilled
from unclip.nn.layers import RGB

BASE, CLASSIFIER, UPSAMPLER = "adm", "classifier", "upsampler"
PREFIX = "upsampler_"  # of the options that are the upsampler's
STEPS = 250  # --timestep_respacing of guided-diffusion's README, without DDIM
LICENCE = "MIT; meant for research (guided-diffusion's model card)"
DATA = "ImageNet (ILSVRC 2012) or one class of LSUN, by guided-diffusion's model card"


@dataclass(frozen=True)
class Flags:
    """The flags of a released model that its sizes do not tell.

    Attributes:
        schedule: --noise_schedule.
        by_head: not --use_new_attention_order.
        scale: --classifier_scale, None for what no classifier guides.
    """

    schedule: ScheduleName = ScheduleName.LINEAR
    by_head: bool = True
    scale: float | None = None


# guided-diffusion, README.md; the keys are those of `models.adm.PRESETS`
RELEASED: dict[str, Flags] = {
    "adm-64": Flags(ScheduleName.COSINE, by_head=False, scale=1.0),
    "adm-128": Flags(scale=0.5),
    "adm-256": Flags(scale=1.0),
    "adm-256-unconditional": Flags(scale=10.0),
    "adm-512": Flags(scale=4.0),
    "adm-64-256": Flags(),
    "adm-128-512": Flags(),
}

OPTIONS = {
    "classifier": "file of the classifier that guides",
    "upsampler": "file of the upsampler",
    "labels": "file with the names of the classes: a line each, or a JSON list",
    "image_size": "side of the picture in pixels",
    "num_heads": "attention heads, where each level has as many",
    "num_head_channels": "channels of an attention head",
    "use_new_attention_order": "true or false",
    "noise_schedule": "linear or cosine",
    "classifier_scale": "strength of the classifier's guidance",
    "large_size": "side of the upsampler's picture in pixels",
    "upsampler_num_heads": "as num_heads, of the upsampler",
    "upsampler_num_head_channels": "as num_head_channels, of the upsampler",
    "upsampler_noise_schedule": "as noise_schedule, of the upsampler",
    "upsampler_use_new_attention_order": "as use_new_attention_order, of the upsampler",
}


def table(model: ADM | Classifier, *, by_head: bool) -> Table:
    """The key table of a network; `by_head` as in `guided_unet.unet_rules`."""
    return Table(_rules(model, by_head))


def _rules(model: ADM | Classifier, by_head: bool) -> Iterator[Rule]:
    yield from unet_rules(model.unet, by_head=by_head)
    if isinstance(model, ADM):
        yield Rule("class_embedding.weight", "label_emb.weight")
        return
    read, write = transposed()
    yield Rule("norm_out.{p}", "out.0.{p}")
    yield Rule("pool.positional_embedding", "out.2.positional_embedding", read, write)
    yield from linear_rules("pool.qkv", "out.2.qkv_proj")  # all queries first, in every release
    yield from linear_rules("pool.out", "out.2.c_proj")


def role(weights: Weights) -> str | None:
    """Base, classifier or upsampler, by names and shapes; None where a file is not guided-diffusion's."""
    first = weights.shapes.get("input_blocks.0.0.weight")
    if first is None or "time_embed.0.weight" not in weights or "middle_block.1.encoder_kv.weight" in weights:
        return None
    if "input_blocks.1.0.in_layers.0.weight" not in weights or "middle_block.1.qkv.weight" not in weights:
        return None
    if not any(name.startswith("output_blocks.") for name in weights):
        return CLASSIFIER  # half a network
    return UPSAMPLER if first[1] == 2 * RGB else BASE


def adm_config(weights: Weights, options: Mapping[str, str]) -> tuple[ADMConfig, Flags]:
    """Sizes and flags of a file that draws, from its shapes, the release that has them, and options.

    Options are `image_size`, `low_size`, `num_heads`, `num_head_channels`, `use_new_attention_order`,
    `noise_schedule` and `classifier_scale`.

    Raises:
        CheckpointError: the shapes are of no such network, or something must be said and is not.
    """
    shapes = weights.shapes
    sizes = measure(shapes, weights.where)
    if sizes.out_channels not in (RGB, 2 * RGB) or sizes.in_channels not in (RGB, 2 * RGB):
        raise CheckpointError(
            f"{weights.where}: {sizes.in_channels} channels go in and {sizes.out_channels} come out: an ADM "
            f"takes {RGB} or (as an upsampler) {2 * RGB}, and gives {RGB} or {2 * RGB}"
        )
    if sizes.out_channels == RGB:
        raise CheckpointError(
            f"{weights.where}: trained without --learn_sigma: such models, which draw with the larger of two "
            "fixed variances, are not read"
        )
    enlarges = sizes.in_channels == 2 * RGB
    name = _release(weights, sizes)
    if name is not None:
        config, flags = PRESETS[name], RELEASED[name]
    else:
        needed = ("image_size", "low_size") if enlarges else ("image_size",)
        missing = [option for option in needed if option not in options]
        if missing:
            raise CheckpointError(
                f"{weights.where}: its sizes ({_shown(sizes)}) are those of no released ADM, so say "
                f"{' and '.join(missing)}, and what else its flags were"
            )
        low_size = choose(options, "low_size", whole, None) if enlarges else None
        config = ADMConfig(
            image_size=0,
            channels=sizes.channels,
            widths=sizes.widths,
            blocks=sizes.blocks,
            attention=sizes.attention,
            low_size=low_size,
            classes=_classes(weights),
        )
        flags = Flags(scale=1.0)
    heads = choose(options, "num_heads", whole, config.heads)
    if "num_head_channels" in options:
        heads = None
    config = replace(
        config,
        image_size=choose(options, "image_size", whole, config.image_size),
        heads=heads,
        head_channels=choose(options, "num_head_channels", whole, config.head_channels),
    )
    check_size(config.image_size, config.widths, weights.where)
    check_heads(sizes, config.heads, config.head_channels, weights.where)
    flags = replace(
        flags,
        schedule=choose(options, "noise_schedule", _schedule, flags.schedule),
        by_head=not choose(options, "use_new_attention_order", _boolean, not flags.by_head),
        scale=choose(options, "classifier_scale", _finite, flags.scale),
    )
    return config, flags


def assumed(
    weights: Weights,
    config: ADMConfig,
    flags: Flags,
    options: Mapping[str, str],
    *,
    guided: bool = False,
    prefix: str = "",
) -> tuple[str, ...]:
    """A sentence that says which flags nobody told, and what they are taken to be; none if all were told.

    Args:
        weights: a file that draws.
        config, flags: what `adm_config` made of it and of `options`.
        guided: whether there is a classifier.
        prefix: of the options' names in the sentence.
    """
    heads = f"num_heads={config.heads}" if config.heads else f"num_head_channels={config.head_channels}"
    taken = {
        "num_heads": "" if "num_head_channels" in options else heads,
        "noise_schedule": f"noise_schedule={flags.schedule}",
        "use_new_attention_order": f"use_new_attention_order={str(not flags.by_head).lower()}",
        "classifier_scale": f"classifier_scale={flags.scale:g}" if guided else "",
    }
    untold = [f"{prefix}{text}" for option, text in taken.items() if text and option not in options]
    if not untold:
        return ()
    name = _release(weights, measure(weights.shapes, weights.where))
    why = f"as in the released {name}, whose sizes it has" if name else "and its sizes are of no release"
    return (
        f"{weights.where} is taken to have been trained with {', '.join(untold)}, {why}: no tensor tells, "
        "and with wrong ones it draws noise (--set NAME=VALUE says others).",
    )


def classifier_config(weights: Weights) -> ClassifierConfig:
    """Sizes of a classifier, all from its shapes: its heads have 64 channels in every release.

    Raises:
        CheckpointError: the shapes are of no such network, or it pools in another way than the releases.
    """
    shapes = weights.shapes
    if "out.2.positional_embedding" not in shapes:
        spatial = "spatial_v2" if "out.3.weight" in shapes else "spatial"
        pool = spatial if len(shapes.get("out.0.weight", ())) == 2 else "adaptive"
        raise CheckpointError(
            f"{weights.where}: a classifier trained with --classifier_pool {pool}: only those that pool by "
            "attention, as all released ones do, are read"
        )
    sizes = measure(shapes, weights.where)
    head_channels = CLASSIFIERS[64].head_channels
    check_heads(sizes, None, head_channels, weights.where)
    grid = round((shapes["out.2.positional_embedding"][1] - 1) ** 0.5)
    return ClassifierConfig(
        image_size=grid * 2 ** (len(sizes.widths) - 1),
        channels=sizes.channels,
        widths=sizes.widths,
        blocks=sizes.blocks,
        attention=sizes.attention,
        classes=shapes["out.2.c_proj.weight"][0],
        head_channels=head_channels,
    )


def _release(weights: Weights, sizes: Sizes) -> str | None:
    """The name of the release that has these sizes."""
    found = (sizes.channels, sizes.widths, sizes.blocks, sizes.attention)
    for name, preset in PRESETS.items():
        own = (preset.channels, preset.widths, preset.blocks, preset.attention)
        enlarges = preset.low_size is not None
        if own == found and preset.classes == _classes(weights) and enlarges == (sizes.in_channels > RGB):
            return name
    return None


def _classes(weights: Weights) -> int | None:
    return weights.shapes["label_emb.weight"][0] if "label_emb.weight" in weights else None


def _shown(sizes: Sizes) -> str:
    return ", ".join(f"{item.name} {getattr(sizes, item.name)}" for item in fields(sizes))


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("choose true or false")
    return text.lower() == "true"


def _schedule(text: str) -> ScheduleName:
    if text not in (ScheduleName.LINEAR, ScheduleName.COSINE):
        hint = " (GLIDE's and Diffusers' name for cosine)" if text == "squaredcos_cap_v2" else ""
        raise ValueError(f"choose linear or cosine{hint}")
    return ScheduleName(text)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("choose a finite number")
    return value


def _found(source: Source, options: Options) -> dict[str, Weights]:
    """The files of a source by their role, among them a model that draws from noise."""
    found = by_role(source, role, options, (CLASSIFIER, UPSAMPLER))
    if CLASSIFIER in found:
        classifier_config(found[CLASSIFIER])  # one that is not read says so before anything else
    if BASE not in found:
        held = ", ".join(found) or "nothing of guided-diffusion"
        raise CheckpointError(
            f"{source}: holds {held}, and no model that draws from noise: convert the one that it goes with, "
            f"with {' and '.join(f'{option}=FILE' for option in found) or 'its file'}"
        )
    return found


def _labels(path: str, classes: int | None) -> tuple[str, ...]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith(("[", "{")) else text.splitlines()
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names, key=int)]
    except (OSError, ValueError) as error:
        raise InputError(f"labels {path}: cannot be read ({error})") from error
    names = [name for name in names if isinstance(name, str) and name.strip()]
    if len(names) != classes:
        raise InputError(f"labels {path}: {len(names)} names for {classes} classes")
    return tuple(name.strip() for name in names)


def looks_like(source: Source) -> bool:
    """True for a file of guided-diffusion, or a folder that holds one."""
    return has_role(source, role)


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family "adm": a model that draws, and its classifier and upsampler where there are.

    Raises:
        CheckpointError: files that do not fit the format, or each other.
        InputError: labels that do not fit the classes.
    """
    found = _found(source, options)
    config, flags = adm_config(found[BASE], options)
    if CLASSIFIER in found and flags.scale is None:
        raise CheckpointError(f"{found[BASE].where}: say classifier_scale")
    if "labels" in options:
        config = replace(config, labels=_labels(options["labels"], config.classes))
    notes = assumed(found[BASE], config, flags, options, guided=CLASSIFIER in found)
    guidance = flags.scale if CLASSIFIER in found and flags.scale is not None else 0.0
    sampling = ClassifierSampling(STEPS, sampler="ancestral", threshold=Threshold.STATIC, guidance=guidance)
    parts = {BASE: _drawing(found[BASE], config, flags, sampling)}
    if CLASSIFIER in found:
        guide = classifier_config(found[CLASSIFIER])
        if guide.image_size != config.image_size:
            raise CheckpointError(
                f"{found[CLASSIFIER].where}: classifies {guide.image_size} px and the model draws "
                f"{config.image_size} px"
            )
        keys = table(cast(Classifier, unfilled("adm-classifier", guide)), by_head=True)
        network = build("adm-classifier", guide, keys, found[CLASSIFIER], found[CLASSIFIER].where)
        parts[CLASSIFIER] = Part(network, licence=LICENCE, data=DATA)
    if UPSAMPLER in found:
        own = {"low_size": str(config.image_size), **_upsamplers(options)}
        larger, larger_flags = adm_config(found[UPSAMPLER], own)
        if larger.low_size != config.image_size or larger.classes != config.classes:
            raise CheckpointError(
                f"{found[UPSAMPLER].where}: enlarges {larger.low_size} px with {larger.classes} classes, and "
                f"the model draws {config.image_size} px with {config.classes}"
            )
        notes += assumed(found[UPSAMPLER], larger, larger_flags, own, prefix=PREFIX)
        unguided = Sampling(STEPS, sampler="ancestral", threshold=Threshold.STATIC)
        name = f"{UPSAMPLER}-{larger.image_size}"
        parts[name] = _drawing(found[UPSAMPLER], larger, larger_flags, unguided)
    name = next((name for name, preset in PRESETS.items() if preset == replace(config, labels=())), BASE)
    if config.classes is not None and not config.labels:
        notes += ("the classes have no names: give labels=FILE",)
    return Conversion(name, "adm", parts, LICENCE, DATA, notes)


def _upsamplers(options: Options) -> dict[str, str]:
    """The options that are the upsampler's, under the names that the base has for them."""
    own = {name.removeprefix(PREFIX): text for name, text in options.items() if name.startswith(PREFIX)}
    return own | ({"image_size": options["large_size"]} if "large_size" in options else {})


def _drawing(weights: Weights, config: ADMConfig, flags: Flags, sampling: Sampling) -> Part:
    keys = table(cast(ADM, unfilled("adm", config)), by_head=flags.by_head)
    return Part(
        build("adm", config, keys, weights, weights.where),
        diffusion=DiffusionConfig(
            schedule=flags.schedule, prediction=Prediction.EPSILON, learned_range=config.learned_range
        ),
        sampling=sampling,
        licence=LICENCE,
        data=DATA,
    )


FORMAT = Format(
    name="adm",
    title="ADM (guided-diffusion's .pt files)",
    family="adm",
    looks_like=looks_like,
    convert=convert,
    options=OPTIONS,
)
