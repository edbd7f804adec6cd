"""A CLIP that measures: pictures and texts in bulk to features. The judge is one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.bundle import Bundle, find_bundle
from unclip.catalogue import MANIFEST
from unclip.data.corpus import Corpus
from unclip.data.records import CACHE
from unclip.errors import BundleError, InputError
from unclip.images import from_uint8, resize
from unclip.models.clip import CLIP, VisionTransformer
from unclip.models.siglip import SiglipVision
from unclip.native import load_model
from unclip.runtime import atomic_path, autocast, sha256
from unclip.tokenizer import TOKENIZER_FILE, BytePairTokenizer, Tokenizer

Step = tuple[str, int, int]
"""The work at hand, pieces of it that are done, pieces that it has (0: not known)."""

BATCH = 128
WEIGHTS = (
    "clip/final/best.safetensors",
    "clip/final/ema-0.safetensors",
    "clip/final/raw.safetensors",
)  # of a run, the first one that is there


class Encoder:
    """A CLIP with its tokenizer; it returns float32 arrays, rows of length one unless told otherwise.

    Attributes:
        name: what it is called in reports.
        weights: the first twelve digits of its weights' SHA-256.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        model: CLIP,
        tokenizer: Tokenizer,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        if tokenizer.vocabulary > model.config.text.vocabulary or tokenizer.end != model.config.end_token:
            raise BundleError(f"{name}: its tokenizer and its CLIP do not fit each other")
        self.name, self.weights = name, weights
        self.model, self.tokenizer = model, tokenizer
        self.device, self.precision = device, precision

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device, precision: torch.dtype) -> Encoder:
        """The CLIP of a bundle. Raises BundleError where it has none."""
        component = bundle.component("clip")
        if component.kind != "clip":
            raise BundleError(
                f"bundle {bundle.name}: its clip is a {component.kind}, which does not see pictures"
            )
        model = cast(CLIP, bundle.model("clip", dtype=precision, device=device))
        return cls(bundle.name, component.sha256[:12], model, bundle.tokenizer(), device, precision)

    @classmethod
    def load(cls, source: str, device: torch.device, precision: torch.dtype) -> Encoder:
        """The CLIP of a bundle (its name or folder), of the folder of a run, or of a weight file of a run.

        Raises:
            InputError: there is nothing of the kind, or no tokenizer goes with the weight file.
        """
        path = Path(source)
        file = path if path.is_file() else next((path / f for f in WEIGHTS if (path / f).is_file()), None)
        if file is None or (path / MANIFEST).is_file():
            return cls.of(Bundle.load(find_bundle(source)), device, precision)
        tokenizer = next(
            (parent / TOKENIZER_FILE for parent in file.parents if (parent / TOKENIZER_FILE).is_file()), None
        )
        if tokenizer is None:
            raise InputError(
                f"{file}: no {TOKENIZER_FILE} lies beside or above it; name a run of `unclip train` or a "
                "bundle"
            )
        model = cast(CLIP, load_model(file, kind="clip", dtype=precision, device=device))
        loaded = BytePairTokenizer.load(tokenizer)
        return cls(path.name, sha256(file)[:12], model, loaded, device, precision)

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that it sees."""
        return self.model.config.image.image_size

    def images(self, pixels: np.ndarray, unit: bool = True) -> np.ndarray:
        """uint8 (N, S, S, 3) of any size S -> float32 (N, E); without `unit` as the projection gives them."""
        parts = [self._embed(pixels[start : start + BATCH], unit) for start in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.model.config.embedding), np.float32)

    def texts(self, texts: Sequence[str], unit: bool = True) -> np.ndarray:
        """N texts -> float32 (N, E), `unit` as above; what is longer than the context is cut."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row].encode()))  # batches of like length
        features = np.zeros((len(texts), self.model.config.embedding), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            tokens = self.tokenizer.batch([texts[row] for row in rows], self.model.config.text.context)
            tokens = tokens.to(self.device)
            with torch.inference_mode(), autocast(self.device, self.precision):
                embedding = self.model.encode_text(tokens.ids, tokens.mask).embedding
            features[rows] = _array(embedding, unit)
        return features

    def corpus(self, corpus: Corpus) -> Generator[Step, None, np.ndarray]:
        """Features of all pictures of a corpus, (N, E), computed once and kept in its cache."""
        pixels = corpus.pixels(self.size)
        if not len(corpus):
            return self.images(pixels)
        name = f"{Path(cast(np.memmap, pixels).filename or '').stem}-clip-{self.weights}.npy"
        path = corpus.folder / CACHE / name
        if not path.exists():
            features = np.zeros((len(pixels), self.model.config.embedding), np.float32)
            piece = 8 * BATCH
            for start in range(0, len(pixels), piece):
                features[start : start + piece] = self.images(pixels[start : start + piece])
                yield f"features {corpus.split}", min(start + piece, len(pixels)), len(pixels)
            with atomic_path(path) as temporary:
                np.save(temporary, features)
        return np.load(path)

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Differences in looks of two series of pictures, (N,), uint8 (N, S, S, 3) each, S of any size.

        As LPIPS (1801.03924, Eq. 1) with this network in place of theirs and no learned weights: squared
        differences between the features of every layer, each place's scaled to length one, averaged over
        places and layers. The network looks at pieces of its own size, so that fine detail counts.
        """
        side = first.shape[1]
        if side % self.size:  # no whole number of pieces
            side = max(self.size, side // self.size * self.size)
        found = np.zeros(len(first), np.float64)
        rows = max(1, BATCH // (side // self.size) ** 2)
        for start in range(0, len(first), rows):
            pair = [
                self._layers(_pieces(resize(from_uint8(pixels[start : start + rows]), side), self.size))
                for pixels in (first, second)
            ]
            count = len(first[start : start + rows])
            layers = [
                (a - b).square().sum(dim=2).view(count, -1).mean(dim=1) for a, b in zip(*pair, strict=True)
            ]
            found[start : start + count] = torch.stack(layers).mean(dim=0).cpu().numpy()
        return found

    @cached_property
    def _blocks(self) -> list[nn.Module]:
        """The parts of the image encoder whose outputs are compared."""
        visual = self.model.visual
        if isinstance(visual, VisionTransformer | SiglipVision):
            return list(visual.transformer.resblocks)
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]

    def _layers(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> a layer's features each, (B, places, channels), every place's of length one."""
        outputs: list[Tensor] = []
        hooks = [
            block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
            for block in self._blocks
        ]
        try:
            with torch.inference_mode(), autocast(self.device, self.precision):
                self.model.encode_image(images.to(self.device))
        finally:
            for hook in hooks:
                hook.remove()
        places = [output if output.ndim == 3 else output.flatten(2).transpose(1, 2) for output in outputs]
        return [F.normalize(place.float(), dim=2) for place in places]

    def _embed(self, pixels: np.ndarray, unit: bool) -> np.ndarray:
        images = resize(from_uint8(pixels), self.size).to(self.device)  # (B, 3, S, S)
        with torch.inference_mode(), autocast(self.device, self.precision):
            embedding = self.model.encode_image(images)
        return _array(embedding, unit)


def _array(embedding: Tensor, unit: bool) -> np.ndarray:
    """(B, E) of any type and device as float32, of length one if asked for."""
    rows = embedding.float()
    return (F.normalize(rows, dim=1) if unit else rows).cpu().numpy()


def _pieces(images: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) -> (B * (S / side)^2, 3, side, side), the pieces of one picture after each other."""
    batch, channels, height, width = images.shape
    grid = images.view(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, side, side)
