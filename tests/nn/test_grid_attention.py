"""Promises of the attention patterns: they are the paper's, and with a cache only what they need is read."""

from __future__ import annotations

import pytest
import torch

from unclip.errors import InputError
from unclip.nn.grid_attention import Pattern, RasterCache, allowed, distances, paper_patterns
from unclip.nn.transformer import Attention, TransformerConfig

TEXT, GRID, KERNEL = 3, 4, 3
CODES = GRID * GRID
CONFIG = TransformerConfig(width=16, layers=1, heads=2, causal=True)


def test_the_layers_come_in_the_papers_order() -> None:
    """Appendix B.1: "the first four self-attention layers use row, column, row, row"."""
    patterns = paper_patterns(64)
    assert patterns[:4] == (Pattern.ROW, Pattern.COLUMN, Pattern.ROW, Pattern.ROW)
    columns = [layer for layer, pattern in enumerate(patterns, 1) if pattern is Pattern.COLUMN]
    assert columns == list(range(2, 64, 4))
    assert patterns[-1] is Pattern.CONVOLUTION
    assert patterns.count(Pattern.CONVOLUTION) == 1


def test_a_row_is_the_previous_five_codes_of_a_grid_of_four() -> None:
    """Figure 11 (a): the last of them stands in the same column of the row before."""
    seen = allowed(Pattern.ROW, TEXT, GRID)[TEXT + 9, TEXT:].nonzero().flatten().tolist()
    assert seen == [5, 6, 7, 8, 9]


def test_a_column_is_what_stands_above() -> None:
    seen = allowed(Pattern.COLUMN, TEXT, GRID)[TEXT + 14, TEXT:].nonzero().flatten().tolist()
    assert seen == [2, 6, 10, 14]


def test_a_convolution_is_the_square_before_a_code_over_the_edges_too() -> None:
    """Figure 11 (d): a 3 x 3 kernel, "with wraparound behavior (similar to the row attention)"."""
    mask = allowed(Pattern.CONVOLUTION, TEXT, GRID, 3)
    assert mask[TEXT + 9, TEXT:].nonzero().flatten().tolist() == [4, 5, 6, 8, 9]
    assert mask[TEXT + 8, TEXT:].nonzero().flatten().tolist() == [
        3,
        4,
        5,
        7,
        8,
    ]  # 3 and 7 are at the far edge


def test_the_papers_kernel_sees_sixty_codes_and_itself() -> None:
    assert len(distances(Pattern.CONVOLUTION, 32)) == 5 * 11 + 5 + 1


@pytest.mark.parametrize("pattern", Pattern)
def test_codes_see_all_text_and_text_only_the_text_before_it(pattern: Pattern) -> None:
    mask = allowed(pattern, TEXT, GRID, KERNEL)
    assert mask[TEXT:, :TEXT].all()
    assert torch.equal(mask[:TEXT, :TEXT], torch.ones(TEXT, TEXT, dtype=torch.bool).tril())
    assert not mask[:TEXT, TEXT:].any()
    assert not mask.triu(1).any()
    assert mask.diagonal().all()


@torch.no_grad()
def run(pattern: Pattern, given: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer's outputs for all positions at once, and for those that came with a cache."""
    torch.manual_seed(0)
    layer = Attention(CONFIG)
    torch.nn.init.normal_(layer.in_proj_weight, std=0.5)
    x = torch.randn(2, TEXT + CODES, CONFIG.width)
    mask = allowed(pattern, TEXT, GRID, KERNEL)
    whole = layer(x, mask)
    cache = RasterCache(CONFIG, [pattern], 2, TEXT, GRID, KERNEL)
    first = TEXT + given
    parts = [layer(x[:, :first], mask[:first, :first], cache=cache.layers[0], start=cache.reserve(first))]
    cache.position = first
    for i in range(first, TEXT + CODES):
        parts.append(layer(x[:, i : i + 1], cache=cache.layers[0], start=cache.reserve(1)))
        cache.position += 1
    return whole, torch.cat(parts, 1)


@pytest.mark.parametrize("given", [0, 1, 2 * GRID + 1])
@pytest.mark.parametrize("pattern", Pattern)
def test_cached_equals_uncached(pattern: Pattern, given: int) -> None:
    whole, parts = run(pattern, given)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("pattern", Pattern)
def test_a_code_reads_only_what_its_pattern_needs(pattern: Pattern) -> None:
    cache = RasterCache(CONFIG, [pattern], 1, TEXT, GRID, KERNEL)
    layer = cache.layers[0]
    layer.extend(*torch.randn(2, 1, 2, TEXT, 8), start=0)
    mask = allowed(pattern, TEXT, GRID, KERNEL)
    for i in range(TEXT, TEXT + CODES):
        keys, values = layer.extend(*torch.randn(2, 1, 2, 1, 8), start=i)
        assert keys.shape[2] == values.shape[2] == mask[i].sum()


@pytest.mark.parametrize("pattern", Pattern)
def test_nothing_is_allocated_while_drawing(pattern: Pattern) -> None:
    """Attention reads a view of one buffer from the first code to the last."""
    layer = RasterCache(CONFIG, [pattern], 1, TEXT, GRID, KERNEL).layers[0]
    layer.extend(*torch.randn(2, 1, 2, TEXT, 8), start=0)
    places = {
        layer.extend(*torch.randn(2, 1, 2, 1, 8), start=i)[0].untyped_storage().data_ptr()
        for i in range(TEXT, TEXT + CODES)
    }
    assert len(places) == 1


def test_a_row_layer_keeps_one_row_and_a_dense_one_the_picture() -> None:
    sizes = {pattern: RasterCache(CONFIG, [pattern], 1, TEXT, GRID, KERNEL).bytes for pattern in Pattern}
    position = 2 * CONFIG.width * 4  # key and value in float32
    assert sizes[Pattern.ROW] == position * (TEXT + GRID + 1)
    assert sizes[Pattern.DENSE] == position * (TEXT + CODES)
    # kept are those up to the farthest that can be seen; brought in those that are seen
    assert sizes[Pattern.COLUMN] == position * (TEXT + GRID + CODES - GRID + 1)


@pytest.mark.parametrize("order", [[1, 0, 1], [1, 0]])
def test_a_prompt_is_read_once_for_many_rows(order: list[int]) -> None:
    rows = torch.tensor(order)
    layer = RasterCache(CONFIG, [Pattern.ROW], len(rows), TEXT, GRID, rows=rows).layers[0]
    key, value = torch.randn(2, 2, 2, TEXT, 8)
    returned, _ = layer.extend(key, value, start=0)
    assert len(returned) == 2
    torch.testing.assert_close(layer.keys[:, :, :TEXT], key[rows])


def test_what_a_cache_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="rows"):
        RasterCache(CONFIG, [Pattern.ROW], 3, TEXT, GRID, rows=torch.tensor([0]))
    cache = RasterCache(CONFIG, [Pattern.ROW], 1, TEXT, GRID)
    cache.position = TEXT + 3
    with pytest.raises(InputError, match="code by code"):
        cache.reserve(2)
    with pytest.raises(InputError, match="cannot rewind to position 5"):
        cache.rewind(5)
    cache.rewind(TEXT)
    assert cache.position == TEXT
