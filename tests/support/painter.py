"""A painter and a judge that need no network: a picture holds the direction that its prompt has."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
from PIL import Image

from unclip.data.corpus import Corpus
from unclip.drawing import Event, Job, Options, Picture
from unclip.evaluate.encoder import Step

SIDE, WIDTH = 8, 64


def direction(text: str) -> np.ndarray:
    vector = np.random.default_rng(list(text.encode())).normal(size=WIDTH)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class Judge:
    """It reads a direction out of a picture's pixels; every text has one of its own."""

    size = SIDE

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([direction(text) for text in texts])

    def images(self, pixels: np.ndarray) -> np.ndarray:
        values = pixels.reshape(len(pixels), -1)[:, :WIDTH].astype(np.float32) - 127.0
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))

    def corpus(self, corpus: Corpus) -> Generator[Step, None, np.ndarray]:
        yield "features", 1, 1
        return self.images(np.asarray(corpus.pixels(SIDE)))


class Painter:
    """It writes the prompt's direction into a picture, the surer the higher the scale."""

    sizes = (SIDE,)

    def __init__(self, noise: float = 1.0) -> None:
        self.noise = noise  # beside the direction of length one, at scale 1

    def lengths(self, prompts: Sequence[str]) -> Sequence[int]:
        return [len(prompt) for prompt in prompts]

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        for job in jobs:
            random = np.random.default_rng([job.seed, job.index])
            noise = self.noise * random.normal(size=WIDTH) / WIDTH**0.5
            vector = direction(job.prompt) + noise / (options.guidance or 1)
            pixels = np.full(SIDE * SIDE * 3, 127.0)
            pixels[:WIDTH] += 100 * vector
            image = Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8).reshape(SIDE, SIDE, 3))
            picture = Picture(image, job.prompt, job.seed, job.index, None, "painter", "0")
            yield Event("pictures", 1, 1, 0.0, (picture,))
