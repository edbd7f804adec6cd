"""Promises of codes of embeddings: components by variance, next to nothing lost, the top half."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.errors import InputError
from unclip.models.embedding_codes import DotProductBuckets, EmbeddingCodes, PrincipalComponents

WIDTH = 24


def embeddings(count: int = 2000, seed: int = 0) -> Tensor:
    """(N, E) of length one, most of whose variance lies in few directions."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9)))[0]
    scales = 0.6 ** torch.arange(WIDTH)
    rows = torch.randn(count, WIDTH, generator=generator) * scales @ axes.T + 2 * axes[:, 0]
    return F.normalize(rows, dim=1)


@pytest.fixture(scope="module")
def components() -> PrincipalComponents:
    return PrincipalComponents.of(embeddings())


def codes(components: PrincipalComponents, share: float, buckets: int) -> EmbeddingCodes:
    found = EmbeddingCodes(WIDTH, components.count(share), buckets)
    found.fit_(components)
    return found


def lost(found: EmbeddingCodes, rows: Tensor) -> float:
    """Share of the variance that is gone after there and back."""
    restored = found.decode(found.encode(rows))
    return float((restored - rows).pow(2).sum() / (rows - rows.mean(0)).pow(2).sum())


def test_components_are_orthonormal_and_fall_in_variance(components: PrincipalComponents) -> None:
    directions = components.directions
    torch.testing.assert_close(directions @ directions.T, torch.eye(WIDTH), atol=1e-5, rtol=0)
    assert (components.variance.diff() <= 0).all()
    along = (embeddings() - components.mean) @ directions.T
    torch.testing.assert_close(along.var(0), components.variance, atol=1e-6, rtol=1e-3)
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_as_many_components_as_keep_the_share_and_no_more(
    components: PrincipalComponents, share: float
) -> None:
    count = components.count(share)
    kept = components.variance.cumsum(0) / components.variance.sum()
    assert kept[count - 1] >= share
    assert count == 1 or kept[count - 2] < share
    assert components.count(1.0) == WIDTH


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_outside_its_range_is_refused(components: PrincipalComponents, share: float) -> None:
    with pytest.raises(InputError, match=f"variance {share}"):
        components.count(share)


def test_one_embedding_has_no_components() -> None:
    with pytest.raises(InputError, match="principal components of 1 embeddings"):
        PrincipalComponents.of(embeddings(1))


def test_less_than_a_hundredth_is_lost_of_embeddings_that_were_not_fitted(
    components: PrincipalComponents,
) -> None:
    """The paper's claim for 319 of 1,024 components: less than 1 % mean squared error."""
    others = embeddings(500, seed=1)
    assert lost(codes(components, 0.99, 1024), others) < 0.015  # 1 % by the cut, and buckets cost nothing
    coarse, fine = (lost(codes(components, 1.0, buckets), embeddings()) for buckets in (64, 1024))
    assert fine < coarse / 50  # what buckets cost falls with the square of their width
    assert fine < 1e-4


def test_codes_are_stable_and_within_their_buckets(components: PrincipalComponents) -> None:
    found = codes(components, 0.9, 64)
    coded = found.encode(torch.cat([embeddings(200, seed=2), 100 * embeddings(3)]))
    assert coded.min() >= 0
    assert coded.max() <= 63
    inside = coded[:200]
    assert torch.equal(found.encode(found.decode(inside)), inside)


def test_sixteen_bits_for_the_basis_cost_next_to_nothing(components: PrincipalComponents) -> None:
    """A bundle stores matrices in bfloat16."""
    found, others = codes(components, 0.99, 1024), embeddings(500, seed=1)
    before = lost(found, others)
    found.basis = found.basis.bfloat16()
    assert lost(found, others) < before + 1e-3


def test_dot_products_fall_evenly_into_their_buckets() -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.6
    buckets = DotProductBuckets(8)
    buckets.fit_(values)
    counts = buckets.encode(values).bincount(minlength=8)
    assert (counts - 500).abs().max() <= 1
    assert buckets.encode(torch.tensor([-1.0, 0.6, 1.0])).tolist() in ([0, 3, 7], [0, 4, 7])


@pytest.mark.parametrize("count", [7, 8, 64])
def test_sampling_draws_from_the_top_half_of_the_distribution(count: int) -> None:
    """The buckets of dot products at or above the median are drawn, all as often."""
    buckets = DotProductBuckets(count)
    uniform = torch.arange(1000) / 1000
    drawn = buckets.top_half(uniform)
    assert drawn.min() == count // 2
    assert drawn.max() == count - 1
    shares = drawn.bincount(minlength=count)[-(count // 2) :] / 1000
    torch.testing.assert_close(shares, torch.full_like(shares, 2 / count), atol=0.002, rtol=0)
