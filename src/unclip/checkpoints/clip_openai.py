"""OpenAI's CLIP: the TorchScript archives that they released, and state dicts of their model.

The layout is openai/CLIP's clip/model.py: the text tower at the top level, everything else as `models.clip`
names it. Heads are 64 wide. The activation is QuickGELU, which nothing in the file says.
"""

from __future__ import annotations

from pathlib import Path

import torch

from unclip.bundle import Bundle
from unclip.checkpoints.clip_layout import (
    ACTIVATION_OPTION,
    OPENAI_RULES,
    TOKENIZER_OPTION,
    chosen_activation,
    clip_of,
    config_from_shapes,
    conversion,
    plain_statistics,
)
from unclip.checkpoints.clip_open import CONFIG as OPEN_CLIP_CONFIG
from unclip.checkpoints.foreign import Conversion, Format, Options, Source
from unclip.checkpoints.table import Table
from unclip.errors import CheckpointError
from unclip.models.clip import PRESETS
from unclip.nn.transformer import Activation
from unclip.runtime import atomic_path

# Numbers about the model, and the causal mask, which the archives keep beside the weights.
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "{name*}.attn_mask")
TABLE = Table(OPENAI_RULES, ignored=NO_WEIGHTS)
LICENCE = "MIT"


def looks_like(source: Source) -> bool:
    """OpenAI's names at the top level, with the numbers of their archives or one of their architectures."""
    if not source.has_weights or OPEN_CLIP_CONFIG in source.configs:
        return False
    weights = source.weights
    if "visual.conv1.weight" not in weights or "token_embedding.weight" not in weights:
        return False
    if "input_resolution" in weights:
        return True
    try:
        config = config_from_shapes(TABLE.shapes(weights, str(source)), Activation.QUICK_GELU, str(source))
    except CheckpointError:
        return False
    return config in PRESETS.values()


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family `clip`."""
    weights = source.weights
    activation = chosen_activation(options, Activation) or Activation.QUICK_GELU
    config = config_from_shapes(TABLE.shapes(weights, str(source)), activation, str(source))
    known = next((name for name, preset in PRESETS.items() if preset == config), None)
    name = "clip-" + known.lower().replace("/", "-") if known else source.name
    note = f"The activation is {activation}: the file does not say, and OpenAI's weights need quick-gelu."
    licence = LICENCE if known else ""
    return conversion(source, options, weights, TABLE, config, name=name, notes=(note,), licence=licence)


def export(bundle: Bundle, path: Path) -> None:
    """Write the CLIP as a state dict that openai/CLIP's `clip.load` takes.

    Raises CheckpointError where their code has no place for what this CLIP has.
    """
    model = clip_of(bundle)
    config = model.config
    if config.logit_bias or config.activation != Activation.QUICK_GELU or not plain_statistics(config):
        raise CheckpointError(
            f"bundle {bundle.name}: OpenAI's CLIP has QuickGELU, its own mean and std and no logit bias, and "
            "a state dict cannot say otherwise: choose clip-open"
        )
    with atomic_path(path) as temporary:
        torch.save(TABLE.write(model.state_dict()), temporary)


FORMAT = Format(
    name="clip-openai",
    title="OpenAI's CLIP (TorchScript archive or state dict)",
    family="clip",
    looks_like=looks_like,
    convert=convert,
    options={**ACTIVATION_OPTION, **TOKENIZER_OPTION},
    export=export,
)
