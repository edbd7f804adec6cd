"""The priors: does each predict the embedding of a picture that was held out, better than guesses do?"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import product

import numpy as np

from unclip.drawing import Prior
from unclip.errors import BundleError
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import Stages
from unclip.evaluate.statistics import mean, share

SECTION = "prior"
NAMES = {Prior.DIFFUSION: "prior", Prior.AR: "AR prior"}
PLAIN, AS_DRAWN = "one plain sample", "as it draws"
TEXT, MEAN, ANOTHER = "text embedding", "mean embedding", "another picture"
COSINE = "cosine to the true embedding"
BASELINES = (TEXT, MEAN, ANOTHER)

Gap = tuple[str, np.ndarray, np.ndarray]  # where, cosine above the baseline's, concepts


def evaluate(
    model: Stages,
    encoder: Encoder,
    samples: Sequence[Sample],
    languages: Sequence[str],
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    """Cosine of each guess to the true embedding and how the true picture ranks among all of the sample.

    `samples` begin with the one of the training split, which the mean embedding is taken of.
    """
    average = encoder.images(samples[0].pixels(encoder.size)).mean(axis=0)
    average /= np.linalg.norm(average)
    gaps: dict[Prior, dict[str, list[Gap]]] = {prior: {} for prior in model.priors}
    for sample in samples[1:]:
        truth = encoder.images(sample.pixels(encoder.size))  # (N, E)
        for language in languages:
            rows = sample.named(language)
            if len(rows) < 2:
                continue
            prompts = sample.prompts[language][rows].tolist()
            label = f"prior {language} {sample.split}"
            own = truth[rows]
            concepts = sample.concepts[rows]
            guesses = {
                TEXT: encoder.texts(prompts),
                MEAN: np.broadcast_to(average, own.shape),
                ANOTHER: own[_other(concepts, seed)],
            }
            for prior in model.priors:
                plain = model.prior(prior, prior_guidance=1.0, candidates=1)
                for variant, how in ((PLAIN, plain), (AS_DRAWN, model.prior(prior))):
                    name = f"{NAMES[prior]}, {variant}"
                    drawn = yield from model.imagine(prompts, seed, f"{label}, {name}", how)
                    guesses[name] = _unit(drawn)
            cosines = {name: (guess * own).sum(axis=1) for name, guess in guesses.items()}
            for name, guess in guesses.items():
                _report(findings, sample.split, language, name, guess, own, concepts, cosines[name], seed)
            for prior, baseline in product(model.priors, BASELINES):
                gap = cosines[f"{NAMES[prior]}, {PLAIN}"] - cosines[baseline]
                where = f"{sample.split}, {language}"
                gaps[prior].setdefault(baseline, []).append((where, gap, concepts))
    if not all(gaps.values()):
        raise BundleError("no held-out split with two pictures or more to judge the prior by")
    findings.verdicts += [_verdict(NAMES[prior], found, seed) for prior, found in gaps.items()]


def _report(
    findings: Findings,
    split: str,
    language: str,
    name: str,
    guess: np.ndarray,
    truth: np.ndarray,
    concepts: np.ndarray,
    cosines: np.ndarray,
    seed: int,
) -> None:
    similarity = guess @ truth.T  # (M, M)
    ahead = (similarity > np.diagonal(similarity)[:, None]).sum(axis=1)
    same = concepts[:, None] == concepts  # (M, M)
    right = same[np.arange(len(same)), similarity.argmax(axis=1)]
    figures = {
        COSINE: mean(cosines, concepts, seed),
        "rank of the true picture, as a share": mean(ahead / (len(truth) - 1), concepts, seed),
        "R@1 of the concept": share(right, concepts),
    }
    findings.figures += [
        Figure(SECTION, what, estimate, split, language, name, None if what is COSINE else len(truth))
        for what, estimate in figures.items()
    ]


def _unit(rows: np.ndarray) -> np.ndarray:
    """(N, E) of length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _other(concepts: np.ndarray, seed: int) -> np.ndarray:
    """For each row another one, of another concept where there is one, (N,)."""
    random = np.random.default_rng(seed)
    rows = np.arange(len(concepts))
    chosen = []
    for row in rows:
        others = rows[concepts != concepts[row]]
        chosen.append(int(random.choice(others if len(others) else rows[rows != row])))
    return np.array(chosen)


def _verdict(subject: str, gaps: dict[str, list[Gap]], seed: int) -> str:
    """It has learned if it is nearer to the truth than each baseline is, beyond doubt, everywhere."""
    failed = []
    for name, several in gaps.items():
        for where, gap, concepts in several:
            estimate = mean(gap, concepts, seed)
            if not estimate.low > 0:
                failed.append(
                    f"{name} ({where}: {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}])"
                )
    if not failed:
        return (
            f"The {subject} has learned: one plain sample of it is nearer to the true embedding than the "
            "text embedding, the mean embedding and another picture's are, with 95 % intervals of the "
            "difference above zero in every split and language."
        )
    return (
        f"The {subject} has not learned enough: a plain sample of it is not certainly nearer to the true "
        f"embedding than {'; '.join(failed)}. The rule: 95 % intervals of the difference of cosines lie "
        "above zero."
    )
