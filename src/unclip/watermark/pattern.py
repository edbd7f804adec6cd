"""The watermark's pattern: a tile of waves that is repeated over the picture.

Each wave goes k times down and l times across the tile, and carries two signs, one in its cosine and one in
its sine. Some waves are pilots, the same in every mark, by which the detector finds place and size of the
tiles; all others carry the coded bits (spread spectrum: I. J. Cox, J. Kilian, F. T. Leighton and T. Shamoon,
"Secure spread spectrum watermarking for multimedia", IEEE Trans. Image Processing 6, 1997). Since the pattern
is repeated, any part of the picture that is as large as a tile holds all of it (M. Kutter, "Watermarking
resisting to translation, rotation, and scaling", Proc. SPIE 3528, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from unclip.watermark.code import CODED_BITS

TILE = 128  # pixels, side of a tile in a picture that nobody has resized
# Waves a tile, periods of 6 to 21 pixels: JPEG and halving take the shorter ones, the longer ones show.
FEWEST, MOST = 6.0, 20.0
PILOTS_FROM, PILOTS_TO = 8.0, 14.0  # short ones would need more shifts and sizes to be tried
PILOTS = 0.75  # of the waves between
TRUSTED = 12.0  # waves of which a value counts once: pictures have less of their own in shorter ones
SEED = 64  # of the pattern: another one is another watermark


@dataclass(frozen=True)
class Pattern:
    """The waves.

    Attributes:
        down, across: (W,) of int, waves a tile; `across` is 0 and more, `down` from -20 to 20.
        pilots: (W,) of bool.
        signs: (W, 2) of float32, 1 and -1: of the pilots what they carry, of others a scrambling.
        order: (W - P, 2) of int, the coded bit that each other wave carries in cosine and sine.
    """

    down: np.ndarray
    across: np.ndarray
    pilots: np.ndarray
    signs: np.ndarray
    order: np.ndarray

    @property
    def radius(self) -> np.ndarray:
        """(W,) of float32: waves a tile in the direction in which they go."""
        return np.hypot(self.down, self.across).astype(np.float32)

    @property
    def known(self) -> np.ndarray:
        """(P,) of complex64: the pilots, of length one."""
        return _complex(self.signs[self.pilots])

    def tile(self, coded: np.ndarray) -> np.ndarray:
        """A tile (128, 128) that carries coded bits (384,), with a standard deviation of 1."""
        carried = self.signs.copy()
        carried[~self.pilots] *= coded[self.order]
        waves = _complex(carried)
        spectrum = np.zeros((TILE, TILE // 2 + 1), np.complex64)
        spectrum[self.down, self.across] = waves
        alone = self.across == 0  # the other half of these lies in the same half plane
        spectrum[-self.down[alone], 0] = waves[alone].conj()
        tile = np.fft.irfft2(spectrum, (TILE, TILE))
        scaled: np.ndarray = (tile / tile.std()).astype(np.float32)
        return scaled

    def values(self, waves: np.ndarray) -> np.ndarray:
        """Soft values (N, 384) of the coded bits in waves (N, W) as they were found, of about length one."""
        waves = (waves * (self.radius / TRUSTED))[:, ~self.pilots]
        found = np.stack([waves.real, waves.imag], axis=-1) * self.signs[~self.pilots]
        carriers = np.eye(CODED_BITS, dtype=np.float32)[self.order.ravel()]  # a bit has two or three
        values: np.ndarray = found.reshape(len(waves), -1) @ carriers
        return values


def _complex(signs: np.ndarray) -> np.ndarray:
    waves: np.ndarray = ((signs[:, 0] + 1j * signs[:, 1]) / np.sqrt(2)).astype(np.complex64)
    return waves


@cache
def pattern() -> Pattern:
    """The one pattern, always the same."""
    top = int(MOST)
    down, across = (axis.ravel() for axis in np.mgrid[-top : top + 1, 0 : top + 1])
    radius = np.hypot(down, across)
    chosen = (radius >= FEWEST) & (radius <= MOST) & ((across > 0) | (down > 0))
    down, across, radius = down[chosen], across[chosen], radius[chosen]
    # numpy promises that the streams of this generator never change (NEP 19)
    random = np.random.RandomState(SEED)
    between = np.flatnonzero((radius >= PILOTS_FROM) & (radius <= PILOTS_TO))
    pilots = np.zeros(len(down), bool)
    pilots[random.permutation(between)[: round(PILOTS * len(between))]] = True
    signs = random.choice(np.array([-1, 1], np.float32), (len(down), 2))
    places = 2 * int(np.count_nonzero(~pilots))
    order = random.permutation(np.arange(places) % CODED_BITS).reshape(-1, 2)
    return Pattern(down, across, pilots, signs, order)
