"""The common half of CLIP's formats: the architecture from shapes, the parts of a bundle, the tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from unclip.bundle import Bundle, Part
from unclip.checkpoints.foreign import Conversion, Options, Source, build
from unclip.checkpoints.table import Rule, Shape, Table
from unclip.checkpoints.weights import Weights, count_children
from unclip.errors import CheckpointError, InputError
from unclip.images import Fitting
from unclip.manifest import Preprocessing
from unclip.models.clip import (
    CLIP,
    CLIP_MEAN,
    CLIP_STD,
    HEAD_WIDTH,
    CLIPConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from unclip.models.clip_resnet import FEATURES, STRIDE, ModifiedResNetConfig
from unclip.models.siglip import Gelu, SiglipVisionConfig
from unclip.nn.transformer import Activation
from unclip.tokenizer import CLIP_VOCABULARY, SHIPPED_VOCABULARY, TOKENIZER_FILE, CLIPTokenizer

Kind = TypeVar("Kind", Activation, Gelu)

WIDEST_OF_64 = 1024  # image transformers wider than this (ViT-H, g, G) have 16 wider heads instead of more
MOST_HEADS = 16

TOKENIZER_OPTION = {
    "tokenizer": "CLIP's vocabulary: bpe_simple_vocab_16e6.txt.gz, or a folder with vocab.json and merges.txt"
    " (default: what lies beside the weights, else the published one)"
}
ACTIVATION_OPTION = {"activation": f"of the MLPs: {' or '.join(Activation)}"}

# The text tower stands at the top level in OpenAI's files, the rest is named as here.
OPENAI_RULES = (
    Rule("visual.{name*}", "visual.{name*}"),
    Rule("text.transformer.{name*}", "transformer.{name*}"),
    Rule("text.token_embedding.weight", "token_embedding.weight"),
    Rule("text.positional_embedding", "positional_embedding"),
    Rule("text.ln_final.{name}", "ln_final.{name}"),
    Rule("text.text_projection", "text_projection"),
    Rule("logit_scale", "logit_scale"),
)


def config_from_shapes(
    shapes: Mapping[str, Shape], activation: Activation, where: str, heads: tuple[int, int] | None = None
) -> CLIPConfig:
    """The architecture that has these tensors.

    Args:
        shapes: by our names.
        activation: which no tensor tells.
        where: what the weights are called in messages.
        heads: of the image and the text transformer; None is what all published ones of these widths have.

    Raises:
        CheckpointError: a tensor is missing without which there is no telling.
    """
    try:
        vocabulary, text_width = shapes["text.token_embedding.weight"]
        context, _ = shapes["text.positional_embedding"]
        _, embedding = shapes["text.text_projection"]
        image: VisionTransformerConfig | ModifiedResNetConfig
        if "visual.attnpool.positional_embedding" in shapes:
            image = _resnet(shapes)
        else:
            image = _vision_transformer(shapes, None if heads is None else heads[0])
        text_heads = max(1, text_width // HEAD_WIDTH) if heads is None else heads[1]
        layers = count_children(shapes, "text.transformer.resblocks.")
        text = TextTransformerConfig(vocabulary, context, text_width, layers, text_heads)
        return CLIPConfig(
            embedding, image, text, vocabulary - 1, activation, logit_bias="logit_bias" in shapes
        )
    except (KeyError, ValueError, InputError) as error:
        raise CheckpointError(f"{where}: not the tensors of a CLIP ({error})") from error


def _vision_transformer(shapes: Mapping[str, Shape], heads: int | None) -> VisionTransformerConfig:
    width, _, patch, _ = shapes["visual.conv1.weight"]
    positions, _ = shapes["visual.positional_embedding"]
    inner, _ = shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"]
    if heads is None:
        heads = heads_of_width(width)
    return VisionTransformerConfig(
        image_size=math.isqrt(positions - 1) * patch,
        patch=patch,
        width=width,
        layers=count_children(shapes, "visual.transformer.resblocks."),
        heads=heads,
        mlp_ratio=inner / width,
    )


def _resnet(shapes: Mapping[str, Shape]) -> ModifiedResNetConfig:
    width, _, _, _ = shapes["visual.conv3.weight"]
    positions, _ = shapes["visual.attnpool.positional_embedding"]
    first, second, third, fourth = (count_children(shapes, f"visual.layer{i}.") for i in range(1, 5))
    return ModifiedResNetConfig(
        image_size=math.isqrt(positions - 1) * STRIDE,
        layers=(first, second, third, fourth),
        width=width,
        heads=max(1, width * FEATURES // HEAD_WIDTH),
    )


def heads_of_width(width: int) -> int:
    """Heads that the published image transformers of this width have, which no shape tells."""
    return max(1, width // HEAD_WIDTH) if width <= WIDEST_OF_64 else MOST_HEADS


def chosen_activation(options: Options, kind: type[Kind]) -> Kind | None:
    """The activation that the options name, or None. Raises InputError for another word."""
    if "activation" not in options:
        return None
    try:
        return kind(options["activation"])
    except ValueError:
        raise InputError(f"activation {options['activation']!r}: choose {' or '.join(kind)}") from None


def conversion(
    source: Source,
    options: Options,
    weights: Weights,
    table: Table,
    config: CLIPConfig,
    *,
    name: str,
    fit: Fitting = "crop",
    notes: tuple[str, ...] = (),
    licence: str = "",
) -> Conversion:
    """The bundle parts of a CLIP: model, tokenizer, preprocessing (the middle of the picture, bicubic).

    Its middle is cut out by torchvision in OpenAI's and open_clip's code, "crop"; transformers rounds down.
    """
    where = str(source)
    if config.text.vocabulary < CLIP_VOCABULARY:
        raise CheckpointError(
            f"{where}: its vocabulary has {config.text.vocabulary} tokens, CLIP's has {CLIP_VOCABULARY}: "
            "other tokenizers are not read"
        )
    tokenizer, note = find_tokenizer(source, options)
    model = build("clip", config, table, weights, where)
    parts = {
        "tokenizer": Part(tokenizer, licence=licence),
        "clip": Part(model, preprocessing=Preprocessing(config.image.image_size, fit), licence=licence),
    }
    return Conversion(name, "clip", parts, licence=licence, notes=(*notes, note))


def find_tokenizer(source: Source, options: Options) -> tuple[CLIPTokenizer, str]:
    """CLIP's tokenizer, and a sentence that says where it is from.

    It is the one that the option `tokenizer` names, else one in the source's folder or in `tokenizer` there,
    else the one that comes with the package.

    Raises:
        InputError: the option's path is no such vocabulary.
        CheckpointError: what lies in the folder is another vocabulary.
    """
    if "tokenizer" in options:
        return CLIPTokenizer.load(options["tokenizer"]), f"The tokenizer is {options['tokenizer']}."
    for folder in (source.folder, source.folder / "tokenizer"):
        for path in (*sorted(folder.glob("bpe_simple_vocab*.gz")), folder):
            if path.is_file() or any((path / name).is_file() for name in ("vocab.json", TOKENIZER_FILE)):
                try:
                    return CLIPTokenizer.load(path), f"The tokenizer is the one in {path.name}."
                except InputError as error:
                    raise CheckpointError(
                        f"{error}: name CLIP's vocabulary with the option tokenizer"
                    ) from error
    return CLIPTokenizer.load(SHIPPED_VOCABULARY), "The tokenizer is CLIP's as published, from this package."


def clip_of(bundle: Bundle) -> CLIP:
    """The CLIP of a bundle as stored. Raises CheckpointError where it has none, or not as others have it."""
    model = bundle.model("clip")
    if not isinstance(model, CLIP) or not isinstance(model.config.text, TextTransformerConfig):
        raise CheckpointError(
            f"bundle {bundle.name}: its CLIP has no transformer for texts, as others expect"
        )
    if isinstance(model.config.image, SiglipVisionConfig):
        raise CheckpointError(
            f"bundle {bundle.name}: its image tower is SigLIP's, which others do not expect"
        )
    if (model.config.end_token, model.config.text.vocabulary) != (CLIPTokenizer.end, CLIP_VOCABULARY):
        raise CheckpointError(
            f"bundle {bundle.name}: its tokenizer is not CLIP's, which others expect with these files"
        )
    return model


def plain_statistics(config: CLIPConfig) -> bool:
    """True where pictures are normalised as OpenAI's CLIPs have it."""
    return (config.mean, config.std) == (CLIP_MEAN, CLIP_STD)
