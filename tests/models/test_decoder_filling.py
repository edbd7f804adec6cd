"""Promises of a decoder that fills in: it sees what is known, and that alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.tiny import DECODER, fill_
from unclip.models.decoder import Decoder, DecoderCondition

CONFIG = replace(DECODER, text_width=None, learned_range=False, noisy_embedding=False)
FILLS_IN = replace(CONFIG, inpainting=True)


def inputs(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, DecoderCondition]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    condition = DecoderCondition(torch.randn(2, 6, generator=generator), torch.ones(2, dtype=torch.bool))
    return x, torch.tensor([10.0, 500.0]), condition


def seen(condition: DecoderCondition) -> DecoderCondition:
    keep = torch.ones(2, 1, 16, 16)
    keep[:, :, 4:12, 6:] = 0
    known = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return replace(condition, known=known, keep=keep)


@torch.no_grad()
def test_it_sees_what_is_known_and_nothing_else() -> None:
    wide = fill_(Decoder(FILLS_IN), 0.2).float()
    x, label, condition = inputs()
    given = seen(condition)
    assert given.known is not None
    assert given.keep is not None
    first = wide(x, label, given)
    other = torch.where(given.keep > 0, given.known, -given.known)
    assert torch.equal(wide(x, label, replace(given, known=other)), first)
    assert not torch.equal(wide(x, label, replace(given, known=-given.known)), first)
    assert not torch.equal(wide(x, label, condition), first)
    blank = replace(given, keep=torch.zeros_like(given.keep))
    torch.testing.assert_close(wide(x, label, blank), wide(x, label, condition))
    torch.testing.assert_close(wide(x, label, wide.read(given)), first)  # read once for many steps
    assert not torch.equal(wide(x, label, given.dropped()), wide(x, label, condition.dropped()))


def test_what_it_cannot_see_is_refused() -> None:
    x, label, condition = inputs()
    with pytest.raises(ValueError, match="inpainting = false"):
        Decoder(CONFIG)(x, label, seen(condition))
    with pytest.raises(ValueError, match="go together"):
        Decoder(FILLS_IN)(x, label, replace(seen(condition), keep=None))
