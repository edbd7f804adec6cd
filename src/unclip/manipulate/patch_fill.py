"""A hole filled with patches of what surrounds it: nothing is in it that is not there already.

Every patch that touches the hole looks for the one most alike among those that are known all over, and each
pixel of the hole becomes what the patches over it vote for; by turns, from coarse to fine (Wexler et al.,
Space-Time Completion of Video, 2007). The search is PatchMatch (Barnes et al., 2009): neighbours tell each
other where they have found something, and look around by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unclip.manipulate.masks import grown
from unclip.manipulate.membrane import membrane

REACH = 3  # pixels of a patch to each side of its middle
THINNEST = 4 * REACH  # pixels that a hole is across at the coarsest resolution
LEAST_SIDE = 32  # of a picture, in pixels, at the coarsest resolution
TURNS = 8  # of search and vote at each resolution, fewer where the hole is large
SEARCHES = 2  # of neighbours and by chance, in each turn
FINEST = 20_000  # pixels of a hole above which the places are found at half the resolution
AT_ONCE = 50_000  # patches: 30 MB
EXHAUSTIVE = 2_000_000  # pairs of patches up to which all are compared
SURE = 0.75  # quantile of the differences that counts as alike
OFFSETS = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]


def patch_filled(pixels: np.ndarray, hole: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A picture with its hole filled from what surrounds it, as 1503.05528 does it for films.

    Args:
        pixels: uint8 (H, W, C), whatever stands in the hole.
        hole: (H, W) bool.
        random: decides where is looked by chance.

    Returns:
        uint8 (H, W, C); all but the hole as it was. Where no patch is known all over it is filled smoothly.
    """
    filling = _filled(pixels.astype(np.float32), hole, random)
    filled = membrane(pixels, ~hole) if filling is None else filling.finished()
    levels = filled.round().clip(0, 255).astype(np.uint8)
    return np.where(hole[..., None], levels, pixels)


@dataclass
class _Filling:
    """A picture while its hole is filled.

    Attributes:
        image: float32 (H, W, C).
        hole: (H, W) bool.
        whole: (H, W) bool, the middles of patches that are known all over.
        places: int64 (T, 2), the middles of the patches that touch the hole.
        sources: int64 (T, 2), for each the middle of the whole patch that is most alike.
    """

    image: np.ndarray
    hole: np.ndarray
    whole: np.ndarray
    places: np.ndarray
    sources: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, hole: np.ndarray) -> _Filling:
        """Filled smoothly, with no source found yet."""
        places = np.argwhere(grown(hole[None], REACH)[0])
        return cls(membrane(pixels, ~hole), hole, _whole(hole), places, np.zeros((0, 2), np.int64))

    def index(self) -> np.ndarray:
        """(H, W) the row of each place, -1 elsewhere."""
        index = np.full(self.hole.shape, -1)
        index[tuple(self.places.T)] = np.arange(len(self.places))
        return index

    def refined(self, pixels: np.ndarray, hole: np.ndarray, random: np.random.Generator) -> _Filling:
        """The same at twice the resolution, where the picture has (H, W, C) pixels."""
        finer = _Filling.of(pixels, hole)
        below = np.minimum(finer.places // 2, np.array(self.hole.shape) - 1)
        sources = 2 * self.sources[self.index()[tuple(below.T)]] + finer.places % 2
        finer.sources = _nearest_allowed(sources, finer.whole, random)
        finer.image = finer.voted()
        return finer

    def settled(self, random: np.random.Generator) -> _Filling:
        """After turns of search and vote."""
        if not len(self.sources):  # any will do: each is replaced in the first turn
            self.sources = np.argwhere(self.whole)[np.zeros(len(self.places), np.int64)]
        for _ in range(max(2, TURNS - int(self.hole.sum()) // 2000)):
            self.search_(random)
            self.image = self.voted()
        return self

    def search_(self, random: np.random.Generator) -> None:
        """Finds better sources."""
        wanted = _patches(self.image, self.places)  # (T, D)
        known = np.argwhere(self.whole)
        if len(wanted) * len(known) <= EXHAUSTIVE:
            self.sources = known[_most_alike(wanted, _patches(self.image, known))]
            return
        differences = self._differences(wanted, self.sources)
        index, bounds = self.index(), np.array(self.hole.shape)
        for _ in range(SEARCHES):
            for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                beside = np.clip(self.places + step, 0, bounds - 1)
                row = index[tuple(beside.T)]
                self._take_better_(self.sources[row] - step, row >= 0, wanted, differences)
            radius = int(bounds.max())
            while radius >= 1:
                jump = random.integers(-radius, radius + 1, self.sources.shape)
                self._take_better_(self.sources + jump, np.ones(len(jump), bool), wanted, differences)
                radius //= 2

    def _take_better_(
        self, candidates: np.ndarray, usable: np.ndarray, wanted: np.ndarray, differences: np.ndarray
    ) -> None:
        bounds = np.array(self.hole.shape)
        usable = usable & ((candidates >= 0) & (candidates < bounds)).all(1)
        usable[usable] = self.whole[tuple(candidates[usable].T)]
        rows = np.flatnonzero(usable)
        found = self._differences(wanted[rows], candidates[rows])
        better = found < differences[rows]
        rows = rows[better]
        differences[rows], self.sources[rows] = found[better], candidates[rows]

    def _misfits(self) -> np.ndarray:
        """(T,) mean squares, of all patches and their sources."""
        parts = (slice(start, start + AT_ONCE) for start in range(0, len(self.places), AT_ONCE))
        return np.concatenate(
            [self._differences(_patches(self.image, self.places[part]), self.sources[part]) for part in parts]
        )

    def _differences(self, wanted: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """(N,) mean squares, of patches (N, 49 C) and those in the picture around (N, 2)."""
        differences: np.ndarray = np.square(wanted - _patches(self.image, sources)).mean(1)
        return differences

    def voted(self) -> np.ndarray:
        """The picture with its hole as the patches have it in the mean."""
        image = self.image.copy()
        image[self.hole] = self._votes(np.argwhere(self.hole))
        return image

    def finished(self) -> np.ndarray:
        """The picture with its hole as the best patches have it, in the light of what is around it."""
        image, rim = self.image.copy(), grown(self.hole[None], 1)[0] & ~self.hole
        image[self.hole] = self._votes(np.argwhere(self.hole), best=True)
        light = np.zeros_like(image)
        light[rim] = image[rim] - self._votes(np.argwhere(rim))
        image[self.hole] += membrane(light, rim)[self.hole]
        return image

    def _votes(self, pixels: np.ndarray, best: bool = False) -> np.ndarray:
        """(P, C) what the patches over pixels (P, 2) say they are: the mean, or what the best one says."""
        differences = self._misfits()
        sure = max(float(np.quantile(differences, SURE)), 1e-3)
        weights = np.exp(-differences / (2 * sure)) + 1e-9
        index, bounds = self.index(), np.array(self.hole.shape)
        total = np.zeros((len(pixels), 1), np.float32)
        colours = np.zeros((len(pixels), self.image.shape[2]), np.float32)
        for offset in OFFSETS:
            middles = pixels - offset
            row = index[tuple(np.clip(middles, 0, bounds - 1).T)]
            there = ((middles >= 0) & (middles < bounds)).all(1) & (row >= 0)
            weight = np.where(there, weights[row], 0)[:, None].astype(np.float32)
            values = self.image[tuple((self.sources[row] + offset).T)]
            if best:
                better = (weight > total)[:, 0]
                colours[better], total[better] = values[better], weight[better]
            else:
                colours += weight * values
                total += weight
        return colours if best else colours / total


def _filled(pixels: np.ndarray, hole: np.ndarray, random: np.random.Generator) -> _Filling | None:
    """(H, W, C) float32 with a hole (H, W), filled at every resolution from the coarsest on.

    None where no patch is known all over.
    """
    if not _whole(hole).any():
        return None
    if min(hole.shape) >= 2 * LEAST_SIDE and _is_thick(hole):
        coarse = _filled(*_halved(pixels, hole), random)
        if coarse is not None:
            filling = coarse.refined(pixels, hole, random)
            return filling if int(hole.sum()) > FINEST else filling.settled(random)
    return _Filling.of(pixels, hole).settled(random)


def _whole(hole: np.ndarray) -> np.ndarray:
    """(H, W) bool, the middles of patches that lie within the picture and touch no hole."""
    whole: np.ndarray = ~grown(hole[None], REACH)[0]
    whole[:REACH] = whole[-REACH:] = False
    whole[:, :REACH] = whole[:, -REACH:] = False
    return whole


def _is_thick(hole: np.ndarray) -> bool:
    """True where something of the hole is further than `THINNEST` / 2 from its edge."""
    return not bool(grown(~hole[None], THINNEST // 2).all())


def _halved(pixels: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture at half the resolution: means of what is known; a hole is where anything of it is one."""
    odd = ((0, hole.shape[0] % 2), (0, hole.shape[1] % 2))
    hole, pixels = np.pad(hole, odd, mode="edge"), np.pad(pixels, (*odd, (0, 0)), mode="edge")
    height, width = hole.shape[0] // 2, hole.shape[1] // 2
    small = pixels.reshape(height, 2, width, 2, -1).mean(axis=(1, 3))
    return small, np.asarray(hole.reshape(height, 2, width, 2).any(axis=(1, 3)))


def _patches(image: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """(N, 49 C) the patches of a picture (H, W, C) around (N, 2); beyond its edges are those repeated."""
    rows, columns = middles.T
    padded = np.pad(image, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1, 2 * REACH + 1), axis=(0, 1))
    size = (2 * REACH + 1) ** 2 * image.shape[2]
    return windows[rows, columns].reshape(len(middles), size)


def _most_alike(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,) for each of (N, D) the row of (M, D) that is nearest."""
    squares = np.square(known).sum(1)
    best: np.ndarray = (squares - 2 * wanted @ known.T).argmin(1)
    return best


def _nearest_allowed(sources: np.ndarray, whole: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Sources (T, 2), in place of those that are no whole patch others by chance."""
    sources = np.clip(sources, 0, np.array(whole.shape) - 1)
    wrong = ~whole[tuple(sources.T)]
    known = np.argwhere(whole)
    sources[wrong] = known[random.integers(0, len(known), int(wrong.sum()))]
    return sources
