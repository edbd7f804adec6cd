"""Promises of the watermark's code: 64 bits come through noise, and noise is no mark."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.watermark.code import CHECK_BITS, CODED_BITS, decode, encode

PAYLOADS = (0, 1, 2**64 - 1, 0x0123456789ABCDEF)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_payload_comes_back(payload: int) -> None:
    coded = encode(payload)
    assert coded.shape == (CODED_BITS,)
    assert set(coded.tolist()) == {1.0, -1.0}
    assert decode(np.stack([coded, 0.01 * coded, -coded])) == [payload, payload, None]


def test_noise_as_large_as_the_signal_is_corrected() -> None:
    random = np.random.default_rng(0)
    payloads = [int(random.integers(2**63)) for _ in range(20)]
    noisy = np.stack([encode(payload) for payload in payloads])
    noisy = noisy + random.normal(0, 1, noisy.shape).astype(np.float32)
    assert np.mean(np.sign(noisy) != np.stack([encode(payload) for payload in payloads])) > 0.12
    assert decode(noisy) == payloads


def test_what_the_picture_hides_is_made_up_for() -> None:
    random = np.random.default_rng(1)
    values = encode(7)
    values[random.permutation(CODED_BITS)[: CODED_BITS // 2]] = 0
    assert decode(values[None]) == [7]


def test_noise_is_no_mark_and_neither_is_what_is_all_alike() -> None:
    random = np.random.default_rng(2)
    assert decode(random.normal(0, 1, (200, CODED_BITS)).astype(np.float32)) == [None] * 200
    alike = np.stack([np.full(CODED_BITS, value, np.float32) for value in (0, 1, -1)])
    assert decode(alike) == [None] * 3
    assert 16 * 2.0**-CHECK_BITS < 1e-6  # as many places of a picture as are decoded at most
