"""CLIP image embeddings as codes: principal components, each cut into buckets (section 2.2 of 2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unclip.errors import InputError


@dataclass(frozen=True)
class PrincipalComponents:
    """The directions in which a sample of embeddings varies, those of the largest variance first.

    Attributes:
        mean: (E,) of the sample.
        directions: (E, E), each row of length one, its largest number positive.
        variance: (E,) of the sample along each direction, falling.
        reach: (E,) how far the sample goes from its mean along each direction, either way.
    """

    mean: Tensor
    directions: Tensor
    variance: Tensor
    reach: Tensor

    @classmethod
    def of(cls, embeddings: Tensor) -> PrincipalComponents:
        """Of (N, E) embeddings, computed in float64. Raises InputError for fewer than two."""
        if len(embeddings) < 2:
            raise InputError(f"principal components of {len(embeddings)} embeddings: give two or more")
        rows = embeddings.double()
        variance, columns = torch.linalg.eigh(rows.T.cov())  # rising
        directions = columns.T.flip(0)  # (E, E)
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))  # (E, 1)
        directions = directions * largest.sign()  # eigenvectors have no sign of their own
        mean = rows.mean(0)
        reach = ((rows - mean) @ directions.T).abs().amax(0)
        return cls(mean.float(), directions.float(), variance.flip(0).clamp(min=0).float(), reach.float())

    def count(self, share: float) -> int:
        """The fewest components that keep a share of the variance. Raises InputError outside (0, 1]."""
        if not 0 < share <= 1:
            raise InputError(f"variance {share}: keep a share above 0 and at most 1")
        kept = self.variance.double().cumsum(0)
        return int((kept < share * kept[-1]).sum()) + 1


class EmbeddingCodes(nn.Module):
    """Embeddings to codes and back; what that needs are buffers, so it travels with the weights of a prior.

    A component's buckets have equal width and reach as far as the sample did, either way of its mean; what
    lies beyond falls into the outermost one.
    """

    mean: Tensor
    basis: Tensor
    reach: Tensor

    def __init__(self, embedding: int, components: int, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.register_buffer("mean", torch.zeros(embedding))
        self.register_buffer("basis", torch.eye(components, embedding))
        self.register_buffer("reach", torch.ones(components))

    @torch.no_grad()
    def fit_(self, components: PrincipalComponents) -> None:
        """Take the first of a sample's principal components."""
        count = len(self.basis)
        self.mean.copy_(components.mean)
        self.basis.copy_(components.directions[:count])
        self.reach.copy_(components.reach[:count].clamp(min=1e-6))

    def encode(self, embedding: Tensor) -> Tensor:
        """Codes (B, K) int64 of embeddings (B, E), the component of the largest variance first."""
        values = (embedding.float() - self.mean) @ self.basis.float().T / self.reach  # (B, K)
        bucket = ((values + 1) / 2 * self.buckets).floor()
        return bucket.long().clamp(0, self.buckets - 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Embeddings (B, E) float32, not of length one, of codes (B, K): the middles of their buckets."""
        values = ((codes + 0.5) / self.buckets * 2 - 1) * self.reach  # (B, K)
        return values @ self.basis.float() + self.mean


class DotProductBuckets(nn.Module):
    """Dot products of a text's and a picture's embedding as tokens: each stands for as many training pairs.

    The edges are buffers. As buckets are equally likely, the upper half of them is the upper half of the
    distribution.
    """

    edges: Tensor

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.register_buffer("edges", torch.linspace(-1, 1, buckets + 1)[1:-1].clone())

    @torch.no_grad()
    def fit_(self, dot_products: Tensor) -> None:
        """Take the quantiles of (N,) dot products of pairs that belong together."""
        shares = torch.arange(1, self.buckets, device=self.edges.device) / self.buckets
        self.edges.copy_(dot_products.float().quantile(shares))

    def encode(self, dot_products: Tensor) -> Tensor:
        """The bucket, (B,) int64, of each dot product (B,)."""
        return torch.bucketize(dot_products.float().contiguous(), self.edges)

    def top_half(self, uniform: Tensor) -> Tensor:
        """Buckets (B,) drawn from the top half of the distribution, by numbers (B,) in [0, 1)."""
        return ((1 + uniform) / 2 * self.buckets).long().clamp(max=self.buckets - 1)
