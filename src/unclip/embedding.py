"""CLIP at work: texts and pictures to embeddings, similarities between them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.classify import DEFAULT_TEMPLATES, Classifier
from unclip.errors import BundleError, InputError
from unclip.images import Source, fit, from_uint8, open_image, several, to_pil
from unclip.manifest import Photographic, Preprocessing
from unclip.models.clip import CLIP, CLIPConfig, ClipText, ClipTextConfig
from unclip.nn.packed import can_pack, pack_weights_
from unclip.processes import cores
from unclip.runtime import autocast, own_defaults, pick_device, pick_precision
from unclip.tokenizer import Tokenizer

BATCH = 64
# Token features are padded to a multiple of this. Attention in bf16 rounds differently for another length, so
# texts of different padded lengths must not be drawn in one batch: a picture would depend on its neighbours.
PADDED_TO = 8


@dataclass(frozen=True)
class TextRows:
    """Texts as CLIP reads them.

    Attributes:
        embedding: (B, E) L2-normalised float32.
        raw: (B, E) float32, the same as CLIP's projection gives it.
        sequence: (B, L, W) float32 features of the tokens, zero behind them.
        ids: (B, L) int64 tokens, padded with the tokenizer's padding.
        mask: (B, L) bool, True for tokens.
        lengths: of each text, its number of tokens padded to a multiple of `PADDED_TO`, at most the context.
    """

    embedding: Tensor
    raw: Tensor
    sequence: Tensor
    ids: Tensor
    mask: Tensor
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.embedding)

    def rows(self, rows: Sequence[int]) -> TextRows:
        """Some of the texts, perhaps several times, as long as the longest of them."""
        index = torch.tensor(rows, device=self.embedding.device)
        lengths = tuple(self.lengths[row] for row in rows)
        tokens = {name: getattr(self, name)[index, : max(lengths)] for name in ("sequence", "ids", "mask")}
        return TextRows(self.embedding[index], self.raw[index], **tokens, lengths=lengths)

    @classmethod
    def joined(cls, several: Sequence[TextRows]) -> TextRows:
        """Several as one, in their order, as long as the longest of them."""
        longest = max(text.ids.shape[1] for text in several)
        texts = [vars(text._padded_to(longest)) for text in several]
        tensors = {name: torch.cat([text[name] for text in texts]) for name in texts[0] if name != "lengths"}
        return cls(**tensors, lengths=tuple(length for text in several for length in text.lengths))

    def _padded_to(self, length: int) -> TextRows:
        """Longer, with nothing behind the tokens."""
        rest = max(0, length - self.ids.shape[1])
        return replace(
            self,
            sequence=F.pad(self.sequence, (0, 0, 0, rest)),
            ids=F.pad(self.ids, (0, rest)),
            mask=F.pad(self.mask, (0, rest)),
        )

    def repeated(self, count: int, length: int) -> TextRows:
        """The first text `count` times, padded to `length` where it is shorter."""
        first = self.rows([0] * count)._padded_to(length)
        return replace(first, lengths=(first.ids.shape[1],) * count)


class ClipEmbedder:
    """A CLIP with its tokenizer and its preprocessing.

    All embeddings are L2-normalised float32 on the CPU's side of the interface: (N, E) tensors. Where the
    CLIP is a text encoder alone, whatever needs pictures raises InputError.

    Attributes:
        config: of the CLIP.
        name: of the bundle.
        identity: stands for everything that an embedding depends on: weights, tokenizer, preprocessing.
        photographic: what tells photographs, of a CLIP that does not know them; else None.
        exact: texts and pictures are embedded one by one, and always to the same bits.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        config: CLIPConfig | ClipTextConfig,
        tokenizer: Tokenizer,
        preprocessing: Preprocessing | None,
        device: torch.device,
        precision: torch.dtype,
        name: str,
        identity: str,
        *,
        photographic: Photographic | None = None,
        exact: bool = False,
    ) -> None:
        self.config = config
        self.photographic = photographic
        self.exact = exact
        self.name = name
        self.identity = identity
        self._network = network
        self._preprocessing = preprocessing
        self._tokenizer = tokenizer
        self._device = device
        self._precision = precision

    def __repr__(self) -> str:
        kind = type(self.config).__name__.removesuffix("Config")
        return f"<ClipEmbedder {self.name}, a {kind}, {self.identity}, {self.context} tokens>"

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        device: torch.device,
        precision: torch.dtype,
        network: Callable[[], nn.Module] | None = None,
        *,
        exact: bool = False,
    ) -> ClipEmbedder:
        """The CLIP of a bundle. Raises BundleError where its parts do not fit each other.

        `network` gives the model whenever one is needed; None reads it now and keeps it.
        """
        tokenizer = bundle.tokenizer()
        config: CLIPConfig | ClipTextConfig = bundle.config("clip")
        preprocessing = None
        if isinstance(config, CLIPConfig):
            size = config.image.image_size
            preprocessing = bundle.component("clip").preprocessing or Preprocessing(size)
            if preprocessing.size != size:
                raise BundleError(
                    f"bundle {bundle.name}: CLIP takes {size} px, its preprocessing makes "
                    f"{preprocessing.size} px"
                )
        if tokenizer.vocabulary > config.text.vocabulary or tokenizer.end != config.end_token:
            raise BundleError(f"bundle {bundle.name}: tokenizer and CLIP do not fit each other")
        if network is None:
            model = bundle.model("clip", dtype=precision, device=device)

            def network() -> nn.Module:
                return model

        # changes with the CLIP, its tokenizer or its preprocessing, and with nothing else
        parts = [bundle.component("clip").sha256, bundle.component("tokenizer").sha256]
        parts += [] if preprocessing is None else [preprocessing.identity]
        identity = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
        return cls(
            network,
            config,
            tokenizer,
            preprocessing,
            device,
            precision,
            bundle.name,
            identity,
            photographic=bundle.component("clip").photographic,
            exact=exact,
        )

    @classmethod
    def load(
        cls, source: str | Path | None = None, *, device: str | None = None, precision: str | None = None
    ) -> ClipEmbedder:
        """The CLIP of a bundle alone, without what draws. Arguments and errors as of `unclip.load`."""
        chosen = pick_device(device)
        dtype, bundle = pick_precision(chosen, precision), Bundle.load(source)
        if not can_pack(chosen, dtype):
            return cls.of(bundle, chosen, dtype)
        model = pack_weights_(bundle.model("clip", dtype=dtype, device=chosen))
        return cls.of(bundle, chosen, dtype, lambda: model)

    @property
    def sees(self) -> bool:
        """True where there is an encoder of pictures."""
        return self._preprocessing is not None

    @property
    def preprocessing(self) -> Preprocessing:
        """The steps that turn a picture into what the model sees."""
        if self._preprocessing is None:
            raise InputError(
                f"the CLIP of {self.name} reads texts alone: choose a bundle whose CLIP sees pictures"
            )
        return self._preprocessing

    @property
    def scale(self) -> float:
        """Factor that makes cosines the logits of a softmax over texts."""
        return float(self._whole.scale)

    @property
    def _whole(self) -> CLIP:
        """The model with its encoder of pictures."""
        _ = self.preprocessing
        return cast(CLIP, self._network())

    @property
    def _reader(self) -> CLIP | ClipText:
        """The model, for texts."""
        return cast("CLIP | ClipText", self._network())

    @property
    def _batch(self) -> int:
        """The number of texts or pictures in one call of the model."""
        return 1 if self.exact else BATCH

    @property
    def context(self) -> int:
        """Most tokens of a text that are read, start and end included."""
        return self.config.text.context

    def truncated(self, texts: Sequence[str], context: int | None = None) -> tuple[str | None, ...]:
        """The end of each text that would not be read; None where all of it is."""
        return self._tokenizer.batch(texts, context or self.context).truncated

    def lengths(self, texts: Sequence[str], context: int | None = None) -> tuple[int, ...]:
        """The values that `TextRows.lengths` will have."""
        context = context or self.context
        lengths = self._tokenizer.batch(texts, context).mask.sum(1).tolist()
        return tuple(min(-(-length // PADDED_TO) * PADDED_TO, context) for length in lengths)

    def read(self, texts: Sequence[str], context: int | None = None) -> TextRows:
        """Texts as embeddings and token features.

        Each distinct text is read on its own, so that nothing depends on the texts beside it.
        """
        context = context or self.context
        distinct = list(dict.fromkeys(texts))
        lengths = self.lengths(distinct, context)
        read = [self._read_one(text, context, max(lengths)) for text in distinct]
        raw, sequence, ids, mask = (torch.cat(parts) for parts in zip(*read, strict=True))
        together = TextRows(F.normalize(raw, dim=-1), raw, sequence, ids, mask, lengths)
        return together.rows([distinct.index(text) for text in texts])

    def _read_one(self, text: str, context: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw embedding, sequence, ids and mask of one text, padded to `length`."""
        tokens = self._tokenizer.batch([text], context).to(self._device)
        rest = length - tokens.ids.shape[1]
        with own_defaults(self.exact), torch.inference_mode(), autocast(self._device, self._precision):
            embedding, sequence = self._reader.encode_text(tokens.ids, tokens.mask)
            return (
                embedding.float(),  # (1, E)
                F.pad(sequence.float(), (0, 0, 0, rest)),  # (1, L, W)
                F.pad(tokens.ids, (0, rest), value=self._tokenizer.pad),  # (1, L)
                F.pad(tokens.mask, (0, rest)),  # (1, L)
            )

    def embed_texts(self, texts: Sequence[str] | str) -> Tensor:
        """Embeddings of texts, (N, E). Texts longer than the context are cut."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise InputError("no texts given")
        rows = []
        for start in range(0, len(texts), self._batch):
            tokens = self._tokenizer.batch(texts[start : start + self._batch], self.context).to(self._device)
            with own_defaults(self.exact), torch.inference_mode(), autocast(self._device, self._precision):
                embedding, _ = self._reader.encode_text(tokens.ids, tokens.mask)
                rows.append(F.normalize(embedding.float(), dim=-1))
        return torch.cat(rows).cpu()

    def embed_images(self, images: Sequence[Source] | Source, *, raw: bool = False) -> Tensor:
        """Embeddings of pictures or picture files, (N, E).

        With `raw` they are as CLIP's projection gives them, and not of length one.

        Raises:
            InputError: no pictures, or a file that is not one.
        """
        pictures = several(images)
        if not pictures:
            raise InputError("no pictures given")
        rows = []
        with ThreadPoolExecutor(min(cores(), len(pictures))) as readers:  # Pillow lets go of the interpreter
            for start in range(0, len(pictures), self._batch):
                prepared = list(readers.map(self.prepare, pictures[start : start + self._batch]))
                rows.append(self.embed_pixels(np.stack(prepared), raw=raw))
        return torch.cat(rows)

    def prepare(self, image: Source) -> np.ndarray:
        """A picture as the model sees it, uint8 (S, S, 3). Raises InputError for a file that is none."""
        return np.asarray(fit(open_image(image), self.preprocessing.size, self.preprocessing.fit))

    def embed_pixels(self, pixels: np.ndarray, *, raw: bool = False) -> Tensor:
        """Embeddings of what `prepare` made of pictures, uint8 (N, S, S, 3), in one batch, (N, E)."""
        with own_defaults(self.exact), torch.inference_mode(), autocast(self._device, self._precision):
            embedding = self._whole.encode_image(from_uint8(pixels).to(self._device)).float()
            return (embedding if raw else F.normalize(embedding, dim=-1)).cpu()

    def classifier(
        self, labels: Sequence[str], templates: str | Sequence[str] = DEFAULT_TEMPLATES
    ) -> Classifier:
        """Says how likely each label is for pictures; the texts are embedded once. See `Classifier.of`."""
        return Classifier.of(self, labels, templates)

    def classify(
        self,
        images: Sequence[Source] | Source,
        labels: Sequence[str],
        templates: str | Sequence[str] = DEFAULT_TEMPLATES,
    ) -> list[dict[str, float]]:
        """Probability of each label, the likeliest first, for each picture.

        The probabilities of a picture sum to 1: they compare the labels given with each other.
        """
        return self.classifier(labels, templates).classify(several(images))

    def similarity(self, images: Sequence[Source] | Source, texts: Sequence[str] | str) -> Tensor:
        """Cosine of the angle between each picture and each text, (N, M), from -1 to 1."""
        return self.embed_images(images) @ self.embed_texts(texts).T

    def scores(self, images: Tensor, text_embedding: Tensor) -> Tensor:
        """Cosine between pictures (B, 3, S, S) in [-1, 1] and the text embedding of each, (B,)."""
        embedding = self.embed_images([to_pil(image) for image in images])  # (B, E)
        return (embedding * text_embedding.cpu()).sum(-1)
