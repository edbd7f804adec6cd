"""Zero-shot classification: which of some labels fits a picture best (2103.00020, section 3.1).

A label is put into templates ("a photo of a {}."), their embeddings are averaged, and a picture's
probabilities are a softmax over its cosines with the averages. So a probability compares a label with the
other labels that were given: among "cat" and "dog" a house is one of the two. It does not say that the label
is true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.errors import InputError, listed
from unclip.images import SUFFIXES, Source
from unclip.manifest import Preprocessing
from unclip.photographs import Knowing, Watch
from unclip.processes import cores
from unclip.search.reading import Job, read_all, readers

PLACE = "{}"  # where a template takes its label
DEFAULT_TEMPLATES = "plain"

# The 80 prompts of OpenAI's notebook "Prompt Engineering for ImageNet": 23 phrases and 14 adjectives,
# each with both articles, and 6 more.
_PHRASES = (
    *("a photo of", "a bad photo of", "a good photo of", "a low resolution photo of", "a cropped photo of"),
    *("a bright photo of", "a dark photo of", "a close-up photo of", "a black and white photo of"),
    *("a pixelated photo of", "a jpeg corrupted photo of", "a blurry photo of", "a sculpture of"),
    *("a rendering of", "a rendition of", "graffiti of", "a tattoo of", "a drawing of", "a painting of"),
    *("a doodle of", "a sketch of", "art of", "itap of"),
)
_LOOKS = ("hard to see", "clean", "dirty", "cool", "large", "nice", "weird", "small")
_MATERIALS = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")
_IMAGENET = (
    *(f"{phrase} {article} {{}}." for phrase in _PHRASES for article in ("a", "the")),
    *(f"a photo of {article} {look} {{}}." for look in _LOOKS for article in ("a", "the")),
    *(f"{article} {material} {{}}." for material in _MATERIALS for article in ("a", "the")),
    *("a photo of many {}.", "a photo of one {}.", "a photo of my {}.", "itap of my {}."),
    *("a {} in a video game.", "the {} in a video game."),
)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "plain": (PLACE,),
    "photo": ("a photo of a {}.",),
    "imagenet": _IMAGENET,
    # found by forward selection over the 80, same notebook
    "best7": (
        *("itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}."),
        *("a {} in a video game.", "art of the {}.", "a photo of the small {}."),
    ),
    # the styles of the pictograms corpus, as its captions name them; most fit labels of any language
    "pictograms": (
        *("{}", "{}, Noto emoji", "{}, Twemoji", "{}, 3D", "{} icon", "{}, line art", "{}, silhouette"),
        *("{}, clip art", "{} emoji"),
    ),
}


class Encoder(Knowing, Protocol):
    """The part of a CLIP that classification needs; `unclip.embedding.ClipEmbedder` is one."""

    @property
    def scale(self) -> float:
        """Factor of the cosines."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, E), L2-normalised."""

    def embed_images(self, images: Sequence[Source]) -> Tensor:
        """(N, E), L2-normalised."""

    def embed_pixels(self, pixels: np.ndarray) -> Tensor:
        """(N, E), L2-normalised, of uint8 (N, S, S, 3)."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The steps that turn a picture into what the model sees."""

    def prepare(self, image: Source) -> np.ndarray:
        """A picture as the model sees it, uint8 (S, S, 3)."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """Labels as CLIP sees them, for any number of pictures.

    Attributes:
        labels: what is told apart, in the order given.
        weights: (L, E) L2-normalised, the mean over the templates of each label.
        encoder: embeds the pictures.
    """

    labels: tuple[str, ...]
    weights: Tensor
    encoder: Encoder

    @classmethod
    def of(
        cls, encoder: Encoder, labels: Sequence[str], templates: str | Sequence[str] = DEFAULT_TEMPLATES
    ) -> Classifier:
        """Embed labels.

        Args:
            encoder: a CLIP.
            labels: at least one, none twice.
            templates: the name of a set in `TEMPLATES`, or templates that hold `{}` once each.

        Raises:
            InputError: labels or templates that are not so.
        """
        found = check_labels(labels)
        chosen = find_templates(templates)
        means = []
        for label in found:
            texts = [template.replace(PLACE, label) for template in chosen]
            means.append(encoder.embed_texts(texts).mean(0))  # (E,)
        return cls(found, F.normalize(torch.stack(means), dim=-1), encoder)

    def probabilities(self, embeddings: Tensor) -> Tensor:
        """(N, L) that sum to 1 over the labels, of picture embeddings (N, E)."""
        return (self.encoder.scale * embeddings @ self.weights.T).softmax(-1)

    def classify(self, images: Sequence[Source]) -> list[dict[str, float]]:
        """Of each picture the labels with their probabilities, the likeliest first.

        Raises:
            InputError: no pictures, or a file that is not one.
        """
        embeddings, watch = self.encoder.embed_images(images), Watch(self.encoder)
        watch.see(embeddings)
        watch.tell()
        rows = self.probabilities(embeddings)  # (N, L)
        return [self.ranked(row) for row in rows]

    def ranked(self, row: Tensor) -> dict[str, float]:
        """One picture's probabilities (L,) by label, the likeliest first."""
        order = row.argsort(descending=True, stable=True).tolist()
        return {self.labels[index]: float(row[index]) for index in order}


@dataclass(frozen=True)
class Classified:
    """A file's probabilities by label, the likeliest first; or the reason why it has none."""

    path: Path
    probabilities: dict[str, float]
    reason: str | None = None


def picture_files(sources: Sequence[Path]) -> list[Path]:
    """The files named, and in folders those with a picture's suffix, hidden ones left out, in order.

    Raises:
        InputError: a source that is not there, or no picture in any of them.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES)
            # pipes and links to nowhere, too: reading says what they are
            found += [path for path in inside if not path.is_dir() and not _hidden(path, source)]
        elif source.exists():
            found.append(source)
        else:
            raise InputError(f"no such file: {source}")
    if not found:
        raise InputError(f"no picture in {', '.join(map(str, sources))}: looked for {', '.join(SUFFIXES)}")
    return found


def classify_files(
    classifier: Classifier, paths: Sequence[Path], explicit: Collection[Path] = (), batch: int = 64
) -> Iterator[Classified]:
    """Classify any number of files, `batch` at a time, each of them once and in order.

    Raises:
        InputError: a file of `explicit` is no picture; others are passed over, with the reason.
        SearchError: no process can start that reads.
    """
    shape, watch = classifier.encoder.preprocessing, Watch(classifier.encoder)
    with readers(max(1, min(cores(), len(paths)))) as pool:
        for start in range(0, len(paths), batch):
            part = paths[start : start + batch]
            jobs = ([Job(path, (), shape.size, shape.fit)] for path in part)
            running = [pool.executor.submit(read_all, job, pool) for job in jobs]
            readings = dict(zip(part, (future.result()[0] for future in running), strict=True))
            squares: dict[Path, np.ndarray] = {}  # (S, S, 3)
            for path, reading in readings.items():
                if reading.pixels is not None:
                    squares[path] = reading.pixels.square
                elif path in explicit:
                    raise InputError(f"{path} {reading.reason}")
            rows = {}
            if squares:
                embeddings = classifier.encoder.embed_pixels(np.stack(list(squares.values())))  # (B, E)
                watch.see(embeddings)
                rows = dict(zip(squares, classifier.probabilities(embeddings), strict=True))
            for path, reading in readings.items():
                if path in rows:
                    yield Classified(path, classifier.ranked(rows[path]))
                else:
                    yield Classified(path, {}, f"{path} {reading.reason}")
    watch.tell()


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def check_labels(labels: Iterable[str], *, capitals: bool = True) -> tuple[str, ...]:
    """Labels without spaces around them.

    Args:
        labels: the texts.
        capitals: whether labels that differ in nothing else are different ones, as `Cardigan` and `cardigan`
            of ImageNet are.

    Raises:
        InputError: there are none, an empty one, or equal ones.
    """
    found = tuple(label.strip() for label in labels)
    if not found or not all(found):
        raise InputError("an empty label: give labels such as cat,dog,house")
    same = [label if capitals else label.casefold() for label in found]
    twin, times = Counter(same).most_common(1)[0]
    if times > 1:
        equal = dict.fromkeys(repr(label) for label, own in zip(found, same, strict=True) if own == twin)
        raise InputError(f"the label {listed(equal)} is given {times} times: give each once")
    return found


def find_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a set, or those given. Raises InputError for an unknown set or a wrong template."""
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise InputError(f"unknown templates {templates!r}: choose {', '.join(TEMPLATES)}")
        return TEMPLATES[templates]
    if not templates:
        raise InputError(f"no templates: choose one of {', '.join(TEMPLATES)}, or give some")
    for template in templates:
        if template.count(PLACE) != 1:
            raise InputError(f"template {template!r}: it must hold {PLACE} once, where the label goes")
    return tuple(templates)
