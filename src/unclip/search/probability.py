"""The probability that a picture shows what was asked for.

A softmax over a query and some background texts is no such probability: it takes for granted that one of them
is right, and CLIP is surer of itself than it should be. Here the background only says how far a query stands
out (`standing_out`, and `likeness` for a picture as query), and the odds are a straight line over that, which
`benchmarks/search_calibration.py` fitted to pictures with names that the CLIP had not seen (Platt scaling;
slope and offset are a temperature and a prior). The prior depends on the size of the folder: `RARER`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A background text that is so many standard deviations more similar to the query than the others are says the
# same as the query (perhaps in another language) and does not compete with it.
SYNONYM = 3.0
# Four times as many pictures show twice as many things twice as often (Heaps' law): the share that shows the
# one asked for falls with this power of their number. Fitted to folders of 100 to 35,600 pictures of four
# kinds it was .55 to .81; for the larger ones .5 leaves the least error.
RARER = 0.5
USUAL_SIZE = 1000  # pictures of the folder that the offsets below are for
SMALLEST = 100  # pictures; below, nothing was measured
FEW = 10  # pictures whose mean says as much of what all have in common as the guess that it is nothing
SAME = 0.9999  # most of a centred cosine, whose inverse hyperbolic tangent is infinite at 1


@dataclass(frozen=True)
class Calibration:
    """Log-odds of being right, in a folder of `USUAL_SIZE`, as `slope` times the evidence plus `offset`."""

    slope: float
    offset: float

    def probability(self, evidence: np.ndarray, count: int) -> np.ndarray:
        """Of evidence (N,) in a folder of `count` pictures, (N,) from 0 to 1."""
        rarer = RARER * np.log(max(count, SMALLEST) / USUAL_SIZE)
        odds = np.exp(self.slope * evidence.astype(np.float64) + self.offset - rarer)
        return odds / (1 + odds)


TEXT = Calibration(slope=0.63, offset=-5.3)
PICTURE = Calibration(slope=4.5, offset=-5.5)


def standing_out(pictures: np.ndarray, text: np.ndarray, background: np.ndarray, scale: float) -> np.ndarray:
    """Evidence that a text belongs to pictures (N, E) rather than an average one of a background (B, E).

    It is the text's logit less the logarithm of the mean of the others' exponentials, (N,): CLIP's own odds
    against any of the background, times their number, so that it hardly matters how many they are. Those that
    say the same as the text are left out.
    """
    others = _without_synonyms(text, background)
    theirs = scale * (pictures @ others.T)  # (N, B)
    most = theirs.max(axis=1, keepdims=True)
    return scale * (pictures @ text) - most[:, 0] - np.log(np.exp(theirs - most).mean(axis=1))


def likeness(pictures: np.ndarray, picture: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Likeness of pictures (N, E) to another, beyond what a sample (K, E) of the folder has in common.

    It is the inverse hyperbolic tangent of their cosine after the sample's mean is taken away, (N,). In a
    softmax over the sample, pictures of one thing would compete with each other.
    """
    common = sample.sum(axis=0) / (len(sample) + FEW)
    own, theirs = picture - common, pictures - common
    lengths = np.linalg.norm(own) * np.linalg.norm(theirs, axis=1)
    return np.arctanh(np.clip(theirs @ own / np.maximum(lengths, 1e-6), -SAME, SAME))


def _without_synonyms(text: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Of a background (B, E) what does not say nearly the same as the text."""
    cosines = background @ text  # (B,)
    others = background[cosines <= cosines.mean() + SYNONYM * cosines.std()]
    return others if len(others) else background
