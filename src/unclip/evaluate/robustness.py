"""The accuracy lost on styles that were never seen: CLIP zero-shot and a supervised classifier.

Section 3.3 of 2103.00020 at a corpus's size. Both learned from the same split and tell the same classes
apart. In distribution are pictures in styles that were learned from (`unseen-pairs`), out of it those in
styles that were not (`unseen-styles`). A model that is better in distribution tends to be better out of it,
so CLIP is compared with that checkpoint of the supervised run whose accuracy in distribution is nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unclip.classify import DEFAULT_TEMPLATES
from unclip.data.classes import Classes
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.embedding import ClipEmbedder
from unclip.errors import InputError
from unclip.evaluate.encoder import Step
from unclip.evaluate.statistics import Estimate, mean, share
from unclip.images import from_uint8
from unclip.models.supervised import Supervised
from unclip.native import config_from_dict, load_model
from unclip.train.state import checkpoint_paths, load_shares, read_checkpoint

BATCH = 128
CLIP_NAME = "CLIP zero-shot"
STAGE = "supervised"  # the kind of model, the task and the folder of a run


@dataclass(frozen=True)
class Tested:
    """A model on all test sets.

    Attributes:
        name: "CLIP zero-shot", or such as "supervised, step 300".
        accuracy: share of pictures whose class is the likeliest, by the name of the test set.
    """

    name: str
    accuracy: dict[str, Estimate]


@dataclass(frozen=True)
class Robustness:
    """The findings.

    Attributes:
        classes: how many are told apart.
        clip: CLIP zero-shot.
        supervised: the checkpoints of the run, the first one first.
        nearest: place in `supervised` of the one that is compared with CLIP.
        equal: whether the two are equal in distribution: the interval of their difference holds 0.
        difference: CLIP's accuracy less that of `nearest`, by test set, with a bootstrap interval over the
            concepts (both models see the same pictures).
    """

    classes: int
    clip: Tested
    supervised: tuple[Tested, ...]
    nearest: int
    equal: bool
    difference: dict[str, Estimate]


class _Test:
    """The pictures of a split that show one of the classes."""

    def __init__(self, corpus: Corpus, classes: Classes) -> None:
        found = classes.of_pictures(corpus)
        self.corpus = corpus
        self.rows = np.flatnonzero(found >= 0)  # (N,) in the corpus
        if not len(self.rows):
            raise InputError(
                f"{corpus.folder} has no pictures of the classes in {corpus.split}: nothing to test on"
            )
        self.classes = found[self.rows]  # (N,)
        self.concepts = corpus.records["concept"].to_numpy()[self.rows]  # (N,)
        self.styles = corpus.records["style"].to_numpy()[self.rows]  # (N,)

    def right(self, size: int, logits: Callable[[np.ndarray], Tensor]) -> np.ndarray:
        """True where the likeliest class is the right one, bool (N,); `logits` takes uint8 (B, S, S, 3)."""
        pixels = self.corpus.pixels(size)
        starts = range(0, len(self.rows), BATCH)
        found = [logits(pixels[self.rows[start : start + BATCH]]).argmax(1).cpu() for start in starts]
        return np.asarray(torch.cat(found).numpy() == self.classes)

    def parts(self) -> dict[str, np.ndarray]:
        """Rows by what they are called: all of them by the split, and where there are several each style."""
        styles = sorted(set(self.styles.tolist()))
        found = {self.corpus.split: np.ones(len(self.rows), bool)}
        if self.corpus.split == Split.UNSEEN_STYLES and len(styles) > 1:
            found |= {style: self.styles == style for style in styles}
        return found


def robustness(
    clip: ClipEmbedder,
    supervised: Path,
    data: Path,
    templates: str | Sequence[str] = DEFAULT_TEMPLATES,
    *,
    device: torch.device,
    seed: int = 0,
) -> Generator[Step, None, Robustness]:
    """Compare a CLIP with a supervised run.

    Args:
        clip: what classifies by the names of the classes.
        supervised: the folder of a run of `unclip train supervised`, or one of its weight files.
        data: folder of the corpus that both learned from.
        templates: that CLIP reads the names in, see `Classifier.of`.
        device: of the supervised models.
        seed: of the bootstrap.

    Raises:
        InputError: no weights, classes that the corpus does not have, or no pictures to test on.
        TrainingError: a checkpoint that cannot be read.
    """
    points = _points(supervised)
    labels = _load(next(iter(points.values())), device).config.labels
    classes = Classes.named(Corpus(data, Split.TRAIN), labels)
    tests = [_Test(Corpus(data, split), classes) for split in (Split.UNSEEN_PAIRS, Split.UNSEEN_STYLES)]
    yield CLIP_NAME, 0, 1
    classifier = clip.classifier(labels, templates)
    size = clip.preprocessing.size
    right = {
        CLIP_NAME: [
            test.right(size, lambda pixels: classifier.probabilities(clip.embed_pixels(pixels)))
            for test in tests
        ]
    }
    yield CLIP_NAME, 1, 1
    for done, (name, path) in enumerate(points.items(), 1):
        model = _load(path, device)
        if model.config.labels != labels:
            raise InputError(f"{path} tells other classes apart than the weights before it: take one run")
        logits = partial(_logits, model, device)
        right[name] = [test.right(model.config.image.image_size, logits) for test in tests]
        yield STAGE, done, len(points)
    return _compared(tests, right, len(labels), seed)


def _compared(tests: list[_Test], right: dict[str, list[np.ndarray]], classes: int, seed: int) -> Robustness:
    """The findings of the hits of each model on each test."""
    parts = [(name, place, rows) for place, test in enumerate(tests) for name, rows in test.parts().items()]
    tested = [
        Tested(
            model,
            {name: share(hits[place][rows], tests[place].concepts[rows]) for name, place, rows in parts},
        )
        for model, hits in right.items()
    ]
    ours, others = tested[0], tested[1:]
    held_out = parts[0][0]
    gaps = [abs(other.accuracy[held_out].value - ours.accuracy[held_out].value) for other in others]
    nearest = int(np.argmin(gaps))
    difference = {
        name: mean(
            right[ours.name][place][rows].astype(float) - right[others[nearest].name][place][rows],
            tests[place].concepts[rows],
            seed,
        )
        for name, place, rows in parts
    }
    between = difference[held_out]
    return Robustness(
        classes=classes,
        clip=ours,
        supervised=tuple(others),
        nearest=nearest,
        equal=between.low <= 0 <= between.high,
        difference=difference,
    )


def _points(source: Path) -> dict[str, Path]:
    """The checkpoints of a run, the first one first, or the one file, by what they are called."""
    if source.is_file():
        return {f"{STAGE}, {source.name}": source}
    folders = [folder for folder in (source, source / STAGE) if checkpoint_paths(folder)]
    if not folders:
        raise InputError(
            f"{source} holds no checkpoints of a supervised run: make some by "
            f"`unclip train supervised --data CORPUS --out {source}`"
        )
    found = reversed(checkpoint_paths(folders[0]))
    return {f"{STAGE}, step {int(path.name.split('-')[1]):,}": path for path in found}


def _load(path: Path, device: torch.device) -> Supervised:
    if path.suffix == ".safetensors":
        model = cast(Supervised, load_model(path, kind=STAGE, device=device))
    else:
        state = read_checkpoint(path)
        if state["about"]["task"] != STAGE:
            raise InputError(f"{path} is a checkpoint of {state['about']['task']}: give a supervised run")
        model = Supervised(config_from_dict(STAGE, state["about"]["config"]["model"], str(path)))
        if "shares" in state:
            state["model"] = model.state_dict()
            load_shares(path, {"model": state["model"]})
        model.load_state_dict(state["model"])
    return model.to(device).eval()


def _logits(model: Supervised, device: torch.device, pixels: np.ndarray) -> Tensor:
    """(B, classes) of uint8 (B, S, S, 3)."""
    with torch.inference_mode():
        return cast(Tensor, model(from_uint8(pixels).to(device)))
