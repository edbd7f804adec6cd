"""CLIP at work: texts and pictures to embeddings, similarities between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.bundle import Bundle, Preprocessing
from unclip.errors import BundleError, InputError
from unclip.images import fit_square, on_white, open_image, resize, to_tensor
from unclip.models.clip import CLIP
from unclip.runtime import autocast
from unclip.tokenizer import Tokenizer

BATCH = 64


@dataclass(frozen=True)
class TextRows:
    """Texts as CLIP reads them.

    Attributes:
        embedding: (B, E) L2-normalised float32.
        sequence: (B, L, W) float32 features of the tokens.
        mask: (B, L) bool, True for tokens.
    """

    embedding: Tensor
    sequence: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.embedding)

    def rows(self, rows: Sequence[int]) -> TextRows:
        """Some of the texts, perhaps several times."""
        index = torch.tensor(rows, device=self.embedding.device)
        return TextRows(self.embedding[index], self.sequence[index], self.mask[index])


class ClipEmbedder:
    """A CLIP with its tokenizer and its preprocessing.

    All embeddings are L2-normalised float32 on the CPU's side of the interface: (N, E) tensors.
    """

    def __init__(
        self,
        model: CLIP,
        tokenizer: Tokenizer,
        preprocessing: Preprocessing,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preprocessing = preprocessing
        self._device = device
        self._precision = precision

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device, precision: torch.dtype) -> ClipEmbedder:
        """The CLIP of a bundle. Raises BundleError where its parts do not fit each other."""
        tokenizer = bundle.tokenizer()
        model = cast(CLIP, bundle.model("clip", dtype=precision, device=device))
        preprocessing = bundle.component("clip").preprocessing
        size = model.config.image.image_size
        if preprocessing is None:
            preprocessing = Preprocessing(size)
        if preprocessing.size != size:
            raise BundleError(
                f"bundle {bundle.name}: CLIP takes {size} px, its preprocessing makes {preprocessing.size} px"
            )
        if tokenizer.vocabulary > model.config.text.vocabulary or tokenizer.end != model.config.end_token:
            raise BundleError(f"bundle {bundle.name}: tokenizer and CLIP do not fit each other")
        return cls(model, tokenizer, preprocessing, device, precision)

    @property
    def context(self) -> int:
        """Most tokens of a text that are read, start and end included."""
        return self._model.config.text.context

    def truncated(self, texts: Sequence[str], context: int | None = None) -> tuple[str | None, ...]:
        """What of each text would not be read; None where all of it is."""
        return self._tokenizer.batch(texts, context or self.context).truncated

    def read(self, texts: Sequence[str], context: int | None = None) -> TextRows:
        """Texts as embeddings and token features; each distinct text is read once and on its own.

        So what comes out for a text does not depend on the texts beside it.
        """
        distinct = list(dict.fromkeys(texts))
        read = [self._read_one(text, context or self.context) for text in distinct]
        longest = max(one.mask.shape[1] for one in read)
        padded = [
            TextRows(
                one.embedding,
                F.pad(one.sequence, (0, 0, 0, longest - one.mask.shape[1])),
                F.pad(one.mask, (0, longest - one.mask.shape[1])),
            )
            for one in read
        ]
        together = TextRows(
            torch.cat([one.embedding for one in padded]),
            torch.cat([one.sequence for one in padded]),
            torch.cat([one.mask for one in padded]),
        )
        return together.rows([distinct.index(text) for text in texts])

    def _read_one(self, text: str, context: int) -> TextRows:
        tokens = self._tokenizer.batch([text], context).to(self._device)
        with torch.inference_mode(), autocast(self._device, self._precision):
            embedding, sequence = self._model.encode_text(tokens.ids, tokens.mask)
            return TextRows(F.normalize(embedding.float(), dim=-1), sequence.float(), tokens.mask)

    def embed_texts(self, texts: Sequence[str] | str) -> Tensor:
        """Embeddings of texts, (N, E). Texts longer than the context are cut."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise InputError("no texts given")
        rows = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokenizer.batch(texts[start : start + BATCH], self.context).to(self._device)
            with torch.inference_mode(), autocast(self._device, self._precision):
                embedding, _ = self._model.encode_text(tokens.ids, tokens.mask)
                rows.append(F.normalize(embedding.float(), dim=-1))
        return torch.cat(rows).cpu()

    def embed_images(self, images: Sequence[Image.Image | Path | str] | Image.Image) -> Tensor:
        """Embeddings of pictures or picture files, (N, E).

        Raises:
            InputError: no pictures, or a file that is not one.
        """
        images = [images] if isinstance(images, Image.Image) else list(images)
        if not images:
            raise InputError("no pictures given")
        rows = []
        for start in range(0, len(images), BATCH):
            pixels = [to_tensor(self._prepare(image)) for image in images[start : start + BATCH]]
            rows.append(self._embed(torch.stack(pixels)))
        return torch.cat(rows)

    def similarity(
        self, images: Sequence[Image.Image | Path | str] | Image.Image, texts: Sequence[str] | str
    ) -> Tensor:
        """Cosine of the angle between each picture and each text, (N, M), from -1 to 1."""
        return self.embed_images(images) @ self.embed_texts(texts).T

    def scores(self, images: Tensor, text_embedding: Tensor) -> Tensor:
        """Cosine between pictures (B, 3, S, S) in [-1, 1] and the text embedding of each, (B,)."""
        size = self._preprocessing.size
        chunks = images.split(BATCH)
        embedding = torch.cat([self._embed(resize(chunk, size)) for chunk in chunks])  # (B, E)
        return (embedding * text_embedding.cpu()).sum(-1)

    def _embed(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self._device, self._precision):
            embedding = self._model.encode_image(pixels.to(self._device))
            return F.normalize(embedding.float(), dim=-1).cpu()

    def _prepare(self, image: Image.Image | Path | str) -> Image.Image:
        size = self._preprocessing.size
        picture = on_white(image if isinstance(image, Image.Image) else open_image(image))
        if self._preprocessing.fit == "pad":
            return fit_square(picture, size)
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        return picture.crop((left, top, left + size, top + size))
