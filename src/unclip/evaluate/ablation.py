"""The ablation of 2204.06125, section 5.1: what the decoder is fed. And how strongly it is guided."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from unclip.bundle import Bundle, Part, save_bundle
from unclip.drawing import Options, Prior
from unclip.errors import BundleError
from unclip.evaluate import pictures
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.guidance import captioned, measured
from unclip.evaluate.pictures import DISTANCE_RATIO, RECALL, VARIETY_NAME, apart, distances, score
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import Stages
from unclip.evaluate.statistics import mean, share
from unclip.models.decoder import Decoder
from unclip.native import load_model
from unclip.stages.decoder import DECODER
from unclip.stages.prior import COMPONENTS

SECTION = "ablation"
TRUE = "true image embedding"
TRAINED = "(a) text embedding, of a decoder trained on them"
TEXT = "(b) text embedding in place of an image embedding"
PRIOR, AR = "(c) the prior's embedding", "(c) the AR prior's embedding"
VARIANTS = {Prior.NONE: TEXT, Prior.DIFFUSION: PRIOR, Prior.AR: AR}
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
MOST_SWEPT = 200  # captions at each scale


def arms(
    model: Stages,
    text_model: Stages | None,
    encoder: Encoder,
    judge: Encoder,
    sample: Sample,
    language: str,
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    """The same captions drawn from each kind of embedding, with the same noise."""
    rows = sample.named(language)
    prompts = sample.prompts[language][rows].tolist()
    concepts = sample.concepts[rows]
    real = judge.images(sample.pixels(model.model.sizes[0])[rows])
    fed: dict[str, tuple[Stages, np.ndarray]] = {
        TRUE: (model, encoder.images(sample.pixels(encoder.size)[rows], model.unit)),
    }
    for prior in (Prior.NONE, *model.priors):
        embeddings = yield from model.imagine(
            prompts, seed, f"ablation embeddings, {prior}", model.prior(prior)
        )
        fed[VARIANTS[prior]] = (model, embeddings)
    if text_model is not None:
        fed[TRAINED] = (text_model, fed[TEXT][1])
    for variant, (drawer, embeddings) in fed.items():
        drawn = yield from drawer.paint(prompts, embeddings, seed, f"ablation, {variant}")
        features = judge.images(drawn)
        scored = score(judge, sample, language, features, seed)
        recall = share(scored.right, concepts)
        findings.figures.append(
            Figure(SECTION, RECALL, recall, sample.split, language, variant, scored.offered)
        )
        distances(findings, SECTION, sample.split, language, features, real, seed, variant)


def variety(
    model: Stages, judge: Encoder, sample: Sample, language: str, findings: Findings, seed: int
) -> Generator[Step, None, None]:
    """Mean distance between pictures of one plain name, drawn without a prior and by each one there is."""
    captions, several = pictures.VARIETY
    rows = np.random.default_rng(seed).permutation(sample.named(language))[:captions]
    prompts = [name for name in sample.names[language][rows].tolist() for _ in range(several)]
    for prior in (Prior.NONE, *model.priors):
        embeddings = yield from model.imagine(
            prompts, seed, f"diversity embeddings, {prior}", model.prior(prior)
        )
        drawn = yield from model.paint(prompts, embeddings, seed, f"diversity, {prior}")
        features = judge.images(drawn).reshape(len(rows), several, -1)  # (C, n, E)
        estimate = mean(np.array([apart(each) for each in features]), sample.concepts[rows], seed)
        where = (sample.split, language, VARIANTS[prior])
        findings.figures.append(Figure(SECTION, VARIETY_NAME, estimate, *where))


def guidance(
    model: Stages, judge: Encoder, sample: Sample, language: str, findings: Findings, seed: int
) -> Generator[Step, None, None]:
    """Judge R@1, diversity and Frechet distance by the decoder's guidance scale, two pictures a caption.

    Both pictures of a caption come from one embedding of the prior each: diversity is the whole model's.
    """
    asked = captioned(judge, sample, language, MOST_SWEPT, seed)
    prompts, offered = asked.prompts, sample.others(language, seed).shape[1] + 1
    seeds = (seed, seed + 1)
    embeddings = []
    for number, one in enumerate(seeds, 1):
        embeddings.append((yield from model.imagine(prompts, one, f"guidance prior {number}")))
    for scale in SCALES:
        decoder = model.family.decoder(Options(guidance=scale))
        features = []
        for number, one in enumerate(seeds):
            label = f"guidance {scale:g}, {number + 1}"
            drawn = yield from model.paint(prompts, embeddings[number], one, label, decoder)
            features.append(judge.images(drawn))
        point = measured(asked, np.stack(features, axis=1), scale, seed)
        where = (sample.split, language, f"guidance {scale:g}")
        findings.figures += [
            Figure(SECTION, RECALL, point.right, *where, offered),
            Figure(SECTION, VARIETY_NAME, point.variety, *where),
        ]
        if point.distance is not None:
            findings.figures.append(Figure(SECTION, DISTANCE_RATIO, point.distance, *where))


@contextmanager
def with_decoder(bundle: Bundle, weights: Path) -> Iterator[Bundle]:
    """The bundle with another decoder in place of its own, in a folder that goes away in the end.

    Raises:
        BundleError: the weights are no decoder, or one of another CLIP.
    """
    decoder = cast(Decoder, load_model(weights, kind="decoder"))
    own = bundle.component(DECODER)
    if decoder.config.embedding != own.config["embedding"]:
        raise BundleError(
            f"{weights}: it takes embeddings of width {decoder.config.embedding}, the bundle "
            f"{bundle.name} has {own.config['embedding']}: train it with the same CLIP"
        )
    parts = {
        "tokenizer": Part(bundle.tokenizer()),
        DECODER: Part(decoder, diffusion=own.diffusion, sampling=own.sampling),
    }
    for name in (name for name in ("clip", *COMPONENTS.values()) if name in bundle.components):
        parts[name] = bundle.part(name)
    with tempfile.TemporaryDirectory() as folder:
        card = "The same bundle with a decoder that was trained on text embeddings.\n"
        yield save_bundle(Path(folder) / "bundle", name=f"{bundle.name}-text", parts=parts, card=card)
