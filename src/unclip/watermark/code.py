"""The error-correcting code of the watermark: 64 bits, a checksum, a convolutional code, soft decisions.

A mark is read from values that are mostly noise, so the decoder takes each value as sure as it is (Viterbi's
algorithm, A. J. Viterbi, "Error bounds for convolutional codes", IEEE Trans. Inf. Theory 13, 1967). The
checksum says whether what it found is a mark at all: noise passes it once in 2^24 tries.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np

PAYLOAD_BITS = 64
CHECK_BITS = 24
MEMORY = 8  # bits that the encoder remembers
# Rate 1/4, constraint length 9, free distance 24: K. J. Larsen, "Short convolutional codes with maximal free
# distance for rates 1/2, 1/3, and 1/4", IEEE Trans. Inf. Theory 19, 1973, table III (octal).
GENERATORS = (0o463, 0o535, 0o733, 0o745)
STEPS = PAYLOAD_BITS + CHECK_BITS + MEMORY  # the last ones bring the encoder back to zero
CODED_BITS = STEPS * len(GENERATORS)


def encode(payload: int) -> np.ndarray:
    """The coded bits of a payload as signs, (384,) of float32, 1 and -1.

    Args:
        payload: 0 to 2^64 - 1.
    """
    word = (payload << CHECK_BITS) | _checksum(payload)
    bits = [(word >> place) & 1 for place in reversed(range(PAYLOAD_BITS + CHECK_BITS))]
    state, coded = 0, []
    for bit in [*bits, *[0] * MEMORY]:
        register = (bit << MEMORY) | state
        coded += [(register & generator).bit_count() & 1 for generator in GENERATORS]
        state = register >> 1
    return 1 - 2 * np.array(coded, np.float32)


def decode(values: np.ndarray) -> list[int | None]:
    """The payloads of rows of values, None for rows that are no mark.

    Args:
        values: (N, 384), in `encode`'s order; the sign is the likelier bit, the size how sure that is.

    Returns:
        One for each row. A row of noise is taken for a mark with a probability of 2^-24.
    """
    count = len(values)
    before, signs = _trellis()
    states = len(before)
    rows = np.arange(count)
    gains = values.reshape(count, STEPS, len(GENERATORS)) @ signs.reshape(-1, len(GENERATORS)).T
    gains = gains.reshape(count, STEPS, states, 2)
    score = np.full((count, states), -np.inf, np.float32)
    score[:, 0] = 0
    came = np.empty((STEPS, count, states), bool)  # from the second of the two states before
    for step in range(STEPS):
        ways = score[:, before] + gains[:, step]  # (N, states, 2)
        came[step] = ways[..., 1] > ways[..., 0]
        score = ways.max(axis=-1)
    state = np.zeros(count, np.int64)
    bits = np.empty((count, STEPS), np.int64)
    for step in reversed(range(STEPS)):
        bits[:, step] = state >> (MEMORY - 1)
        state = before[state, came[step, rows, state].astype(np.int64)]
    words = [int("".join(map(str, row[:-MEMORY])), 2) for row in bits]
    payloads = [word >> CHECK_BITS for word in words]
    sure = [bool(row.any()) for row in values]
    return [
        payload if good and _checksum(payload) == word & (2**CHECK_BITS - 1) else None
        for payload, word, good in zip(payloads, words, sure, strict=True)
    ]


def _checksum(payload: int) -> int:
    """The low bits of CRC-32 (ISO 3309), which is not 0 of 0: values that are all alike are no mark."""
    return zlib.crc32(payload.to_bytes(PAYLOAD_BITS // 8, "big")) & (2**CHECK_BITS - 1)


@cache
def _trellis() -> tuple[np.ndarray, np.ndarray]:
    """The two states before each state (256, 2), and the signs that are sent on the way (256, 2, 4)."""
    states = np.arange(2**MEMORY)
    # A step shifts a new bit in at the top and drops the lowest: the two that came are told apart by it.
    before = ((states << 1) & (2**MEMORY - 1))[:, None] | np.arange(2)
    registers = (states >> (MEMORY - 1) << MEMORY)[:, None] | before
    parity = [[[(int(one) & g).bit_count() & 1 for g in GENERATORS] for one in two] for two in registers]
    return before, 1 - 2 * np.array(parity, np.float32)
