"""The accuracy of CLIP on classes of pictures: zero-shot, and by a linear probe on its frozen features.

Sections 3.1 and 3.2 of 2103.00020. Intervals are of 95 % (Wilson's score interval over the pictures).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.classify import DEFAULT_TEMPLATES, Classifier, Encoder
from unclip.data.labelled import Labelled, class_names
from unclip.errors import InputError
from unclip.evaluate.encoder import Step
from unclip.evaluate.statistics import Estimate, share
from unclip.images import open_image

BATCH = 64
TOP = 5
# 2103.00020, appendix A.3: these strengths of the L2 penalty first, then the interval around the best is
# halved down to eight steps a decade.
FIRST_PENALTIES = (-6, -4, -2, 0, 2, 4, 6)  # powers of ten
FINEST = 0.125  # of a power of ten
MOST_ITERATIONS = 1000  # of L-BFGS, as in the paper
HELD_BACK = 0.2  # of the training pictures, for the choice of the penalty


@dataclass(frozen=True)
class ZeroShot:
    """Accuracy without training.

    Attributes:
        top1, top5: share of pictures whose class is the likeliest, or among the five likeliest; the latter is
            None for fewer than six classes.
        per_class: mean over the classes of their own top-1 accuracy, which counts rare classes alike.
        classes: accuracy and number of pictures by name.
        broken: files that are no pictures; they are left out.
    """

    top1: Estimate
    top5: Estimate | None
    per_class: float
    classes: dict[str, tuple[float, int]]
    broken: int


@dataclass(frozen=True)
class LinearProbe:
    """Accuracy of logistic regression on frozen features.

    Attributes:
        accuracy: on the test pictures.
        penalty: the strength of the L2 penalty that was chosen, the inverse of scikit-learn's C.
        validation: accuracy by penalty on the pictures that were held back.
        trained, tested: how many pictures.
    """

    accuracy: Estimate
    penalty: float
    validation: dict[float, float]
    trained: int
    tested: int


def zero_shot(
    encoder: Encoder,
    pictures: Labelled,
    names: Mapping[str, str] | None = None,
    templates: str | Sequence[str] = DEFAULT_TEMPLATES,
) -> Generator[Step, None, ZeroShot]:
    """Classify labelled pictures by the names of their classes.

    Args:
        encoder: a CLIP.
        pictures: see `data.labelled`.
        names: of the classes, by key; pictures of classes that are not in it are left out, and those classes
            are not offered. Classes of one name count as one.
        templates: as of `Classifier.of`.

    Raises:
        InputError: no names for the classes, or no picture that can be read.
    """
    called = class_names(pictures, names)
    labels = list(dict.fromkeys(called.values()))
    place = {label: index for index, label in enumerate(labels)}
    classifier = Classifier.of(encoder, labels, templates)
    features, truth, broken = yield from _features(
        encoder, pictures, {k: place[v] for k, v in called.items()}
    )
    logits = features @ classifier.weights.T  # (N, L)
    ranked = logits.topk(min(TOP, len(labels)), dim=1).indices  # (N, 5)
    right = ranked.eq(truth[:, None])  # (N, 5)
    each = np.arange(len(truth))
    classes = {}
    for index, label in enumerate(labels):
        own = right[truth == index, 0]
        if len(own):
            classes[label] = (float(own.float().mean()), len(own))
    return ZeroShot(
        top1=share(right[:, 0].numpy(), each),
        top5=share(right.any(1).numpy(), each) if len(labels) > TOP else None,
        per_class=float(np.mean([accuracy for accuracy, _ in classes.values()])),
        classes=classes,
        broken=broken,
    )


def linear_probe(
    encoder: Encoder, train: Labelled, test: Labelled, seed: int = 0
) -> Generator[Step, None, LinearProbe]:
    """Train logistic regression on the features of `train` and measure it on `test`.

    The penalty is the one that is best on a fifth of `train`, held back by `seed`; then all of `train` is
    learned from.

    Raises:
        InputError: classes of `test` that `train` does not have, fewer than two, or no pictures.
    """
    unknown = sorted(set(test.keys) - set(train.keys))
    if unknown or len(train.keys) < 2:
        problem = f"the class {unknown[0]!r} is only in the test" if unknown else "there is one class only"
        raise InputError(f"{problem}: give two or more classes, and the same to train and to test")
    x, y, _ = yield from _features(encoder, train, {k: k for k in range(len(train.keys))}, "train")
    into = {k: train.keys.index(key) for k, key in enumerate(test.keys)}
    test_x, test_y, _ = yield from _features(encoder, test, into, "test")
    fitted, held = _split(y, seed)
    validation: dict[float, float] = {}
    waiting = list(map(float, FIRST_PENALTIES))
    spacing = waiting[1] - waiting[0]
    while waiting:
        for power in waiting:
            weight, bias = logistic_regression(x[fitted], y[fitted], len(train.keys), 10.0**power)
            validation[power] = float(((x[held] @ weight.T + bias).argmax(1) == y[held]).float().mean())
            yield "penalty", len(validation), 0
        best = max(validation, key=lambda power: (validation[power], -abs(power)))  # of equals the mildest
        spacing /= 2
        around = (best - spacing, best + spacing) if spacing >= FINEST else ()
        waiting = [power for power in around if power not in validation]
    weight, bias = logistic_regression(x, y, len(train.keys), 10.0**best)
    right = ((test_x @ weight.T + bias).argmax(1) == test_y).numpy()
    return LinearProbe(
        accuracy=share(right, np.arange(len(right))),
        penalty=10.0**best,
        validation={10.0**power: accuracy for power, accuracy in sorted(validation.items())},
        trained=len(x),
        tested=len(test_x),
    )


def logistic_regression(x: Tensor, y: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (C, E) and biases (C,) that minimise the summed cross entropy + penalty / 2 * |weights|^2.

    Features are (N, E), classes (N,) int64. The biases are free, as in scikit-learn.
    """
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        # divided by N, so that the tolerances mean the same for any number of pictures
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + penalty / (2 * len(x)) * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()


def _features(
    encoder: Encoder, pictures: Labelled, into: Mapping[int, int], stage: str = "pictures"
) -> Generator[Step, None, tuple[Tensor, Tensor, int]]:
    """Features (N, E) and classes (N,) of the pictures whose class is in `into`; how many were broken."""
    total = pictures.count or 0
    rows: list[Tensor] = []
    truth: list[int] = []
    pixels: list[np.ndarray] = []
    broken = 0
    for done, (content, key) in enumerate(pictures.read(), 1):
        if key in into:
            try:
                pixels.append(encoder.prepare(open_image(content, first_frame=True)))
                truth.append(into[key])
            except InputError:
                broken += 1
        if len(pixels) == BATCH:
            rows.append(encoder.embed_pixels(np.stack(pixels)))
            pixels.clear()
        yield stage, done, total
    if pixels:
        rows.append(encoder.embed_pixels(np.stack(pixels)))
    if not rows:
        raise InputError(f"no picture can be read ({broken} broken files)")
    return torch.cat(rows), torch.tensor(truth), broken


def _split(y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit and rows held back: of each class the same share, at least one stays to fit."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    held: list[int] = []
    for label in y.unique().tolist():
        rows = order[y[order] == label]
        held += rows[: min(round(len(rows) * HELD_BACK), len(rows) - 1)].tolist()
    if not held:
        raise InputError(f"{len(y)} pictures to train on are too few to hold a fifth of each class back")
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().flatten(), torch.tensor(sorted(held))
