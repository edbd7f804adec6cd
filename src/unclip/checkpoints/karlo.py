"""The bundle of the family "unclip" that both layouts of Karlo's weights become, and how it is sampled.

Facts are from kakaobrain/karlo and from the scheduler configs of kakaobrain/karlo-v1-alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from unclip.bundle import Part
from unclip.checkpoints.foreign import Conversion
from unclip.checkpoints.table import Rule
from unclip.diffusion.defaults import DecoderSampling, PriorSampling, Sampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.errors import CheckpointError
from unclip.manifest import LAST_STEP, Preprocessing
from unclip.models.decoder import Decoder
from unclip.models.prior import DiffusionPrior
from unclip.models.upsampler import Upsampler
from unclip.tokenizer import CLIPTokenizer

LICENCE = "CreativeML Open RAIL-M (kakaobrain/karlo-v1-alpha)"
DATA = "COYO-100M, CC3M and CC12M: 115 million pairs, by Karlo's model card"

PRIOR, DECODER, UPSAMPLER = "prior", "decoder", "upsampler"
# Steps and guidance are the defaults of Diffusers' UnCLIPPipeline.
SAMPLING: dict[str, Sampling] = {
    PRIOR: PriorSampling(25, sampler="ancestral", guidance=4.0),
    DECODER: DecoderSampling(25, sampler="ancestral", guidance=8.0),
    UPSAMPLER: Sampling(7, sampler="ancestral"),
}


@dataclass(frozen=True)
class Process:
    """The diffusion of a component, and its sampling."""

    diffusion: DiffusionConfig
    sampling: Sampling


def process(part: str, *, prediction: Prediction, limit: float | None, learned_range: bool) -> Process:
    """Of a part in `SAMPLING`: a cosine schedule of 1000 steps, x0 clipped to +-limit (None: not clipped)."""
    sampling = SAMPLING[part]
    if limit is not None:
        sampling = replace(sampling, threshold=Threshold.STATIC, limit=limit)
    diffusion = DiffusionConfig(
        schedule=ScheduleName.COSINE, prediction=prediction, learned_range=learned_range
    )
    return Process(diffusion, sampling)


# Limits are those of the configs of the pipeline's schedulers.
PROCESSES = {
    PRIOR: process(PRIOR, prediction=Prediction.X0, limit=5.0, learned_range=False),
    DECODER: process(DECODER, prediction=Prediction.EPSILON, limit=1.0, learned_range=True),
    UPSAMPLER: process(UPSAMPLER, prediction=Prediction.EPSILON, limit=1.0, learned_range=False),
}


def conversion(
    *,
    tokenizer: CLIPTokenizer,
    clip: nn.Module,
    prior: DiffusionPrior | None,
    decoder: Decoder,
    upsamplers: tuple[Upsampler, Upsampler],
    processes: Mapping[str, Process] = PROCESSES,
    preprocessing: Preprocessing | None = None,
    notes: tuple[str, ...] = (),
) -> Conversion:
    """The bundle of Karlo's networks; `upsamplers` are that of all steps but the last, and the last's.

    Raises:
        CheckpointError: networks that do not fit each other.
    """
    first, last = upsamplers
    small = decoder.config.image_size
    if first.config != last.config or first.config.low_size != small:
        raise CheckpointError(
            f"the upsamplers ({first.config}; {last.config}) do not both enlarge the decoder's {small} px"
        )
    if prior is not None and prior.config.embedding != decoder.config.embedding:
        raise CheckpointError(
            f"the prior draws embeddings of {prior.config.embedding}, the decoder reads "
            f"{decoder.config.embedding}"
        )
    name = f"{UPSAMPLER}-{first.config.high_size}"
    sources: dict[str, nn.Module] = {DECODER: decoder, name: first, f"{name}{LAST_STEP}": last}
    if prior is not None:
        sources = {PRIOR: prior, **sources}
    parts = {
        "tokenizer": Part(tokenizer),
        "clip": Part(clip, preprocessing=preprocessing, licence="MIT (openai/CLIP)"),
    }
    for part, network in sources.items():
        own = processes[UPSAMPLER if part.startswith(UPSAMPLER) else part]
        parts[part] = Part(
            network, diffusion=own.diffusion, sampling=own.sampling, licence=LICENCE, data=DATA
        )
    title = "karlo" if prior is not None else "karlo-variations"
    return Conversion(title, "unclip", parts, LICENCE, DATA, notes)


def null_embedding_rule(theirs: str) -> Rule:
    """The learned embedding of no picture, and with it the whitening that Karlo's decoder does without."""

    def read(embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return embedding, embedding.new_zeros(embedding.shape), embedding.new_ones(embedding.shape)

    def write(embedding: Tensor, _mean: Tensor, _std: Tensor) -> Tensor:
        return embedding

    return Rule(("null_embedding", "whitening.mean", "whitening.std"), theirs, read, write)


def context_tokens_rule(theirs: str, tokens: int, part: str) -> Rule:
    """The projection to extra context tokens: their rows go by feature and then token, ours the other way.

    `part` is "weight" or "bias".
    """

    def read(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, tokens)).transpose(0, 1).flatten(0, 1).contiguous()

    def write(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (tokens, -1)).transpose(0, 1).flatten(0, 1).contiguous()

    return Rule(f"image_to_context.{part}", f"{theirs}.{part}", read, write)
