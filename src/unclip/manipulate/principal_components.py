"""Pictures drawn from the first principal components of their embeddings (section 4 of 2204.06125)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, Unpack

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.drawing import Event, checked_number
from unclip.errors import InputError, shown
from unclip.given import NOTHING
from unclip.images import SUFFIXES, Source, open_image, opened
from unclip.keywords import spelled_out
from unclip.manipulate.fitting import squared
from unclip.manipulate.latents import FromLatents, Latents, Way
from unclip.models.embedding_codes import PrincipalComponents
from unclip.pipeline import Pipeline
from unclip.stages.prior import AR_PRIOR

DEFAULT_COMPONENTS = (1, 8, 32, 128)
MOST_COMPONENTS = 2**16
AT_ONCE = 64  # pictures that are embedded between two events
MOST_PICTURES = 4096  # of a folder that a basis is made from, spread evenly over its names

Item = TypeVar("Item")


@dataclass(frozen=True)
class Basis:
    """Directions of CLIP's space, the ones in which embeddings vary most first.

    Attributes:
        mean: (E,) of the embeddings.
        directions: (K, E), at right angles, each of length one.
        source: where it comes from, for metadata.
    """

    mean: Tensor
    directions: Tensor
    source: str

    @classmethod
    def of(cls, embeddings: Tensor, source: str) -> Basis:
        """The principal components of (N, E) embeddings, N - 1 of them at most; N is two or more."""
        found = PrincipalComponents.of(embeddings)
        return cls(found.mean, found.directions[: len(embeddings) - 1], source)

    @classmethod
    def of_bundle(cls, model: Pipeline) -> Self | None:
        """Those that the bundle brings with it; None where it brings none."""
        found = model.family.principal_components
        return None if found is None else cls(*found, f"the {AR_PRIOR} of {model.bundle.name}")

    def __len__(self) -> int:
        return len(self.directions)

    def reduced(self, embedding: Tensor, count: int) -> Tensor:
        """An embedding (E,) with what its first `count` components say, as long as before."""
        directions = self.directions[:count].to(embedding)  # (K, E)
        mean = self.mean.to(embedding)
        kept = mean + (embedding - mean) @ directions.T @ directions
        return F.normalize(kept, dim=0) * embedding.norm()


@spelled_out(FromLatents)
def reconstruct(
    model: Pipeline,
    image: Source,
    components: Sequence[int] | None = None,
    *,
    basis: Path | str | None = None,
    **settings: Unpack[FromLatents],
) -> Iterator[Event]:
    """A picture drawn from what the first principal components of its embedding say, for several counts.

    All pictures are drawn from the same noise by DDIM, so that they differ by the embedding alone.

    Args:
        model: draws.
        image: the picture.
        components: how many are kept, one picture each; None is 1, 8, 32 and 128, as far as the basis goes.
        basis: a folder of pictures, or a corpus of `unclip data`, whose embeddings' components are taken;
            None are those that the bundle's autoregressive prior was made with.
        settings: see `FromLatents`.

    Returns:
        Events, as `Pipeline.stream`, the pictures in the order of `components`. Input is checked now, but for
        counts that are found too large when the basis is made.

    Raises:
        InputError: a value out of range, no picture, or no basis.
    """
    if components is not None:
        given = components if isinstance(components, (list, tuple)) else [components]
        components = [checked_number("components", count, 1, MOST_COMPONENTS) for count in given]
    way = Way.of(model, len(DEFAULT_COMPONENTS if components is None else components), settings)
    if basis is not None and not isinstance(basis, (str, Path)):
        raise InputError(f"basis is {shown(basis)}: give a folder of pictures")
    model.check_pictures({"picture": [image]})
    picture, source = opened(image)
    own = Basis.of_bundle(model) if basis is None else None
    if basis is None and own is None:
        raise InputError(
            "this bundle brings no principal components with it, as one with an autoregressive prior does: "
            "give a folder of pictures to take them from (basis)"
        )
    files = [] if basis is None else _pictures_in(Path(basis))
    told = {"operation": "reconstruct", "source": source, "fit": way.fit.value}

    def work() -> Iterator[Event]:
        found = (yield from _measured(way, files, str(basis))) if own is None else own
        counts = components or [count for count in DEFAULT_COMPONENTS if count <= len(found)] or [len(found)]
        if max(counts) > len(found):
            raise InputError(f"components {max(counts)}: this basis has {len(found)}, keep fewer")
        (embedding,) = way.inverting.embed([squared(picture, way.fit)])  # (E,)
        (noise,) = way.inverting.noise([way.job(0, NOTHING)])  # (3, S, S)
        given = []
        for count in counts:
            latents = Latents(found.reduced(embedding, count), noise, way.inverting.inversion)
            given.append(latents.given({**told, "basis": found.source, "components": str(count)}, shared=0))
        yield from way.draw(given)

    return work()


def _pictures_in(folder: Path) -> Sequence[Callable[[], Image.Image]]:
    """Functions that open the pictures of a folder or a corpus, `MOST_PICTURES` of them at most."""
    from unclip.data.corpus import Corpus  # loads what reads tables, which drawing does without
    from unclip.data.records import MANIFEST_FILE

    if (folder / MANIFEST_FILE).is_file():
        corpus = Corpus(folder)
        return [partial(corpus.image, index) for index in _spread(range(len(corpus)))]
    if not folder.is_dir():
        raise InputError(f"basis {folder}: no such folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < 2:
        raise InputError(f"basis {folder}: {len(files)} pictures in it, give a folder with two or more")
    return [partial(open_image, path, first_frame=True) for path in _spread(files)]


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `MOST_PICTURES`, evenly."""
    step = max(1.0, len(items) / MOST_PICTURES)
    return [items[int(place * step)] for place in range(int(len(items) / step))]


def _measured(
    way: Way, pictures: Sequence[Callable[[], Image.Image]], source: str
) -> Generator[Event, None, Basis]:
    """The principal components of pictures' embeddings, telling of the work."""
    rows = []
    for start in range(0, len(pictures), AT_ONCE):
        began = time.perf_counter()
        some = pictures[start : start + AT_ONCE]
        rows.append(way.inverting.embed([each() for each in some]))
        yield Event("basis", start + len(some), len(pictures), time.perf_counter() - began)
    return Basis.of(torch.cat(rows), f"{len(pictures)} pictures of {source}")
