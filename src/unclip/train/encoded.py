"""A run's CLIP with the embeddings of the corpus's pictures: what prior, layout and decoder learn from."""

from __future__ import annotations

import hashlib
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.images import from_uint8
from unclip.models.clip import CLIP
from unclip.runtime import atomic_path, autocast, pick_precision
from unclip.tokenizer import Tokens
from unclip.train.pictures import HeldOut
from unclip.train.results import Results
from unclip.train.state import writing

EMBED_BATCH = 256


class Encoded:
    """A trained CLIP, frozen, with the embeddings of every picture of the corpus (computed once)."""

    def __init__(
        self, clip: CLIP, embeddings: Tensor, held_out: HeldOut, held_out_embeddings: Tensor
    ) -> None:
        self.clip = clip.eval().requires_grad_(False)
        self.embeddings = embeddings  # (N, E) L2-normalised
        self.held_out = held_out
        self.held_out_embeddings = held_out_embeddings  # (M, E)

    @classmethod
    def of(cls, run: Results) -> Self:
        """The CLIP of a run, trained if it is not there yet, and the embeddings of the run's corpora."""
        clip = run.model("clip").to(run.device)
        assert isinstance(clip, CLIP)
        text, image = clip.config.text, clip.config.image
        held_out = HeldOut(run.held_out, run.tokenizer(), text.context, image.image_size)
        return cls(clip, embeddings(run, clip, run.train), held_out, embed(clip, held_out.pixels))

    @torch.no_grad()
    def text(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """L2-normalised text embedding (B, E) and caption features (B, L, W)."""
        features = self.clip.encode_text(tokens.ids, tokens.mask)
        return F.normalize(features.embedding.float(), dim=1), features.sequence

    def recall(self, guess: Tensor, rows: np.ndarray | slice = slice(None)) -> float:
        """Share of guessed embeddings (M, E) whose nearest held-out picture shows the concept that it should.

        The guesses are of the held-out pictures at `rows`, by default of all.
        """
        return self.held_out.recall(guess @ self.held_out_embeddings.T, rows)


def embeddings(run: Results, clip: CLIP, corpus: Corpus) -> Tensor:
    """(N, E) L2-normalised embeddings of a corpus's pictures, computed once for an image encoder and kept."""
    file = run.cached(f"embeddings-{corpus.split}-{_fingerprint(clip.visual)}", len(corpus))
    if not file.exists():
        pixels = corpus.pixels(clip.config.image.image_size)
        found = embed(clip.to(run.device).eval(), pixels).cpu().numpy()
        with writing(run.out, file.name), atomic_path(file) as temporary:
            np.save(temporary, found)
    return torch.from_numpy(np.load(file))


@torch.no_grad()
def embed(clip: CLIP, pixels: np.ndarray) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, E) L2-normalised embeddings, on the CLIP's device."""
    parts, device = [], next(clip.parameters()).device
    for start in range(0, len(pixels), EMBED_BATCH):
        images = from_uint8(pixels[start : start + EMBED_BATCH]).to(device)
        with autocast(device, pick_precision(device)):
            embedding = clip.encode_image(images)
        parts.append(F.normalize(embedding.float(), dim=1))
    return torch.cat(parts)  # (N, E)


def _fingerprint(module: nn.Module) -> str:
    """12 hex digits that tell apart weights."""
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
