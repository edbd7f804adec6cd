"""Attention over a text and a grid of codes behind it, in the patterns of DALL-E 1 (2102.12092, figure 11).

Codes stand in raster order. A pattern is a set of distances: code i sees code i - d for each d of the set,
over the edges of the rows as well. Text sees the text before it; codes see all of the text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.nn.transformer import KVCache, LayerCache, TransformerConfig

KERNEL = 11  # side of the paper's convolutional pattern
PERIOD, COLUMN_LAYER = 4, 2  # layer i, counted from 1, looks along the column where (i - 2) mod 4 = 0


class Pattern(StrEnum):
    """The codes that a code sees, itself included."""

    ROW = "row"  # as many as a row holds before it: the last one stands above it
    COLUMN = "column"  # those above it
    CONVOLUTION = "convolution"  # those before it in a square around it
    DENSE = "dense"  # all before it


RINGS = (Pattern.ROW, Pattern.DENSE)  # what they see are the newest codes, without gaps


def paper_patterns(layers: int) -> tuple[Pattern, ...]:
    """The patterns of a stack of layers in appendix B.1 of 2102.12092.

    Row, column, row, row, again and again, and at the end the convolution.
    """
    patterns = [
        Pattern.COLUMN if (layer - COLUMN_LAYER) % PERIOD == 0 else Pattern.ROW
        for layer in range(1, layers + 1)
    ]
    patterns[-1] = Pattern.CONVOLUTION
    return tuple(patterns)


def distances(pattern: Pattern, grid: int, kernel: int = KERNEL) -> tuple[int, ...]:
    """Distances back to the codes that a code of a grid x grid picture sees, nearest first."""
    if pattern is Pattern.ROW:
        return tuple(range(grid + 1))
    if pattern is Pattern.COLUMN:
        return tuple(range(0, grid * grid, grid))
    if pattern is Pattern.DENSE:
        return tuple(range(grid * grid))
    reach = kernel // 2
    square = {up * grid + left for up in range(reach + 1) for left in range(-reach, reach + 1)}
    return tuple(sorted(back for back in square if 0 <= back < grid * grid))


def allowed(pattern: Pattern, text: int, grid: int, kernel: int = KERNEL) -> Tensor:
    """The mask of `text` tokens and grid^2 codes, (N, N) bool, N = text + grid^2, True = attend."""
    count = text + grid * grid
    mask = torch.ones(count, count, dtype=torch.bool).tril()
    position = torch.arange(grid * grid)
    back = position[:, None] - position  # (codes, codes)
    seen = torch.zeros(grid * grid, dtype=torch.bool)
    seen[list(distances(pattern, grid, kernel))] = True
    mask[text:, text:] &= seen[back.clamp(min=0)]
    return mask


class RasterLayer(LayerCache, ABC):
    """One layer's keys and values: the text's, and behind them those codes that the next one may see.

    `keys` and `values` are (B, H, text + room, D/H). The room behind the text holds in no particular order
    what a code attends to, as attention asks for none; so the text is never copied again.

    Args:
        both: (2, B, H, text + room, D/H) zeros, for the keys and the values.
        back: distances at which a code sees others, as many as there is room.
        rows: see `RasterCache`.
    """

    def __init__(self, both: Tensor, back: Sequence[int], rows: Tensor | None) -> None:
        super().__init__(both[0], both[1])
        self.room = len(back)
        self.text = both.shape[3] - self.room
        self.rows = rows

    def extend(self, key: Tensor, value: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """As of `LayerCache`: the first call may bring anything, later ones more of the text or one code.

        The first call returns what it was given, for a mask says there who sees what.
        """
        end = start + key.shape[2]
        if start >= self.text:
            self._keep(key, value, start - self.text)
            end = self.text + self._bring(start - self.text)
            return self.keys[:, :, :end], self.values[:, :, :end]
        read = min(end, self.text)
        own_key, own_value = key, value
        if start == 0 and self.rows is not None:  # what was computed a prompt, for each row of the batch
            own_key, own_value = key[self.rows], value[self.rows]
        self.keys[:, :, start:read] = own_key[:, :, : read - start]
        self.values[:, :, start:read] = own_value[:, :, : read - start]
        for i in range(read, end):  # codes that are given and not drawn
            at = slice(i - start, i - start + 1)
            self._keep(own_key[:, :, at], own_value[:, :, at], i - self.text)
        if start == 0:
            return key, value
        return self.keys[:, :, :end], self.values[:, :, :end]

    @abstractmethod
    def _keep(self, key: Tensor, value: Tensor, position: int) -> None:
        """Keep the key and value (B, H, 1, D/H) of a code."""

    @abstractmethod
    def _bring(self, position: int) -> int:
        """Have behind the text what the newest code sees; return how many these are."""

    @property
    def bytes(self) -> int:
        """Memory that the keys and values take."""
        return 2 * self.keys.numel() * self.keys.element_size()


class RingLayer(RasterLayer):
    """Rows: the room is a ring that the newest code goes round. A dense pattern is a ring without an end."""

    def _keep(self, key: Tensor, value: Tensor, position: int) -> None:
        slot = self.text + position % self.room
        self.keys[:, :, slot : slot + 1] = key
        self.values[:, :, slot : slot + 1] = value

    def _bring(self, position: int) -> int:
        return min(position + 1, self.room)


class GatheredLayer(RasterLayer):
    """Columns and squares: all codes that can still be seen stand apart, and what one sees is brought in."""

    def __init__(self, both: Tensor, back: Sequence[int], rows: Tensor | None) -> None:
        super().__init__(both, back, rows)
        self.back = list(back)
        self.length = back[-1] + 1  # of the ring of codes
        self._back = torch.tensor(self.back, device=both.device)
        kept = both.new_zeros(*both.shape[:3], self.length, both.shape[4])
        self.kept_keys, self.kept_values = kept[0], kept[1]

    def _keep(self, key: Tensor, value: Tensor, position: int) -> None:
        slot = position % self.length
        self.kept_keys[:, :, slot : slot + 1] = key
        self.kept_values[:, :, slot : slot + 1] = value

    def _bring(self, position: int) -> int:
        count = bisect_right(self.back, position)
        index = (position - self._back[:count]) % self.length
        end = self.text + count
        self.keys[:, :, self.text : end] = self.kept_keys.index_select(2, index)
        self.values[:, :, self.text : end] = self.kept_values.index_select(2, index)
        return count

    @property
    def bytes(self) -> int:
        return super().bytes + 2 * self.kept_keys.numel() * self.kept_keys.element_size()


class RasterCache(KVCache):
    """Keys and values of a text and of a picture's codes, each layer in its pattern, allocated once.

    Args:
        patterns: one a layer.
        batch: rows that are drawn together.
        text: tokens of every text.
        grid: codes along each side of the picture.
        rows: (batch,) int64, which of the prompts of the first pass each row has; None where that pass has
            as many rows as the batch.
    """

    def __init__(
        self,
        config: TransformerConfig,
        patterns: Sequence[Pattern],
        batch: int,
        text: int,
        grid: int,
        kernel: int = KERNEL,
        *,
        rows: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if rows is not None and rows.shape != (batch,):
            raise InputError(f"rows {tuple(rows.shape)}: there must be one for each of the batch of {batch}")
        self._raster: list[RasterLayer] = []
        for pattern in patterns:
            back = distances(pattern, grid, kernel)
            shape = (2, batch, config.heads, text + len(back), config.head_width)
            both = torch.zeros(shape, device=device, dtype=dtype)
            self._raster.append((RingLayer if pattern in RINGS else GatheredLayer)(both, back, rows))
        self.layers = list[LayerCache](self._raster)
        self.text = text
        self.length = text + grid * grid
        self.position = 0

    def reserve(self, count: int) -> int:
        """As of `KVCache`; after the first pass codes come one at a time."""
        if self.position >= self.text and count > 1:
            raise InputError(f"{count} codes at once: after the first pass a picture goes on code by code")
        return super().reserve(count)

    def rewind(self, position: int = 0) -> None:
        """Forget every position from `position` on: some of the text, or the whole picture."""
        if position > self.text:
            raise InputError(
                f"cannot rewind to position {position}: of a picture only what is needed is kept, so go back "
                f"to {self.text}, the end of the text, or before"
            )
        super().rewind(position)

    @property
    def bytes(self) -> int:
        """Memory that the keys and values take."""
        return sum(layer.bytes for layer in self._raster)
