"""Promises of DALL-E 1: the paper's size and loss, and that drawing code by code is the same model."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from support.tiny import DALLE1, randomise_
from unclip.errors import InputError
from unclip.models.code_sampling import CodeSampling, exponential_noise, guided, write_codes
from unclip.models.dalle1 import Attention, Dalle1, Dalle1Config


def build(config: Dalle1Config = DALLE1) -> Dalle1:
    return randomise_(Dalle1(config).eval(), seed=0, scale=1.5)  # every token and code matters


def example(batch: int = 2, codes: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 30, (batch, 6), generator=generator)
    length = torch.tensor([4, 6, 3, 5])[:batch]
    mask = torch.arange(6) < length[:, None]
    return ids * mask, mask, torch.randint(20, (batch, codes), generator=generator)


CONFIGS = {
    "sparse": DALLE1,
    "dense": replace(DALLE1, attention=Attention.DENSE),
    "tied": replace(DALLE1, tied=True),
    "row and square": replace(DALLE1, layers=2),
}


def test_the_papers_model_has_twelve_billion_parameters() -> None:
    with torch.device("meta"):
        model = Dalle1(Dalle1Config())
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e9) == 12
    assert model.config.transformer.head_width == 64
    assert len(model.config.patterns) == 64


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_equals_uncached(name: str) -> None:
    model = build(CONFIGS[name])
    ids, mask, codes = example()
    with torch.no_grad():
        whole = model(ids, mask, codes).codes
        writing = model.begin(ids, mask)
        steps = [model.step(writing)]
        steps += [model.step(writing, codes[:, i]) for i in range(15)]
    torch.testing.assert_close(torch.stack(steps, 1), whole)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("given", [1, 4, 15])
def test_given_codes_are_read_at_once(name: str, given: int) -> None:
    model = build(CONFIGS[name])
    ids, mask, codes = example()
    with torch.no_grad():
        whole = model(ids, mask, codes).codes
        writing = model.begin(ids, mask, codes=codes[:, :given])
        steps = [model.step(writing)]
        steps += [model.step(writing, codes[:, i]) for i in range(given, 15)]
    torch.testing.assert_close(torch.stack(steps, 1), whole[:, given:])


def test_one_prompt_is_read_once_for_all_its_pictures() -> None:
    model = build()
    ids, mask, codes = example()
    rows = torch.tensor([0, 0, 1, 0])
    with torch.no_grad():
        shared = model.begin(ids, mask, rows)
        alone = model.begin(ids[rows], mask[rows])
        drawn = codes[rows]
        torch.testing.assert_close(model.step(shared), model.step(alone))
        for i in range(15):
            torch.testing.assert_close(model.step(shared, drawn[:, i]), model.step(alone, drawn[:, i]))


def test_the_same_prompts_can_be_drawn_again_without_reading_them() -> None:
    model = build()
    ids, mask, codes = example()
    with torch.no_grad():
        writing = model.begin(ids, mask)
        first = [model.step(writing), *(model.step(writing, codes[:, i]) for i in range(15))]
        writing.again()
        second = [model.step(writing), *(model.step(writing, codes[:, i]) for i in range(15))]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def empty(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions of start and end alone."""
    ids = torch.zeros(batch, 6, dtype=torch.int64)
    ids[:, :2] = torch.tensor([1, 2])
    return ids, torch.arange(6).expand(batch, 6) < 2


@pytest.mark.parametrize("name", CONFIGS)
def test_guidance_changes_the_logits_of_every_code(name: str) -> None:
    """With and without the caption nothing may agree, from the first code drawn with a cache to the last."""
    model = build(CONFIGS[name])
    ids, mask, codes = example()
    nothing, unmasked = empty(2)
    with torch.no_grad():
        writing = model.begin(torch.cat([nothing, ids]), torch.cat([unmasked, mask]))
        both = codes.repeat(2, 1)
        logits = [model.step(writing), *(model.step(writing, both[:, i]) for i in range(15))]
    for position in logits:
        untold, told = position.chunk(2)
        change = (guided(told, untold, 3.0) - told).abs().amax(-1)
        assert (change > 1e-3).all()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, guidance: float) -> None:
    model = build(CONFIGS[name])
    ids, mask, _ = example(batch=4)
    nothing, unmasked = empty(1)

    def draw(pictures: list[int]) -> torch.Tensor:
        rows = torch.tensor([4] * len(pictures) * (guidance != 1) + pictures)
        writing = model.begin(torch.cat([ids, nothing]), torch.cat([mask, unmasked]), rows)
        generators = [torch.Generator().manual_seed(picture) for picture in pictures]
        noise = exponential_noise(generators, 20, torch.device("cpu"))
        step = partial(model.step, writing)
        return torch.stack(list(write_codes(step, 16, noise, CodeSampling(guidance=guidance))), 1)

    with torch.no_grad():
        together = draw([0, 1, 2, 3])
        assert torch.equal(draw([2])[0], together[2])
        assert torch.equal(draw([3, 1]), together[[3, 1]])
    assert len(together.unique(dim=0)) == 4


def test_padding_is_learned_for_each_position_and_its_ids_mean_nothing() -> None:
    model = build()
    ids, mask, codes = example()
    with torch.no_grad():
        before = model(ids, mask, codes)
        assert torch.equal(model(ids.masked_fill(~mask, 7), mask, codes).codes, before.codes)
        model.padding.weight[5] += 1.0
        after = model(ids, mask, codes)
    assert not torch.allclose(after.codes[0], before.codes[0])  # four tokens: position 5 is padding
    assert torch.equal(after.codes[1], before.codes[1])  # six tokens


def test_nothing_is_seen_before_it_is_there() -> None:
    model = build()
    ids, mask, codes = example()
    changed = codes.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 20
    with torch.no_grad():
        before, after = model(ids, mask, codes), model(ids, mask, changed)
    assert torch.equal(before.text, after.text)
    assert torch.equal(before.codes[:, :10], after.codes[:, :10])
    assert not torch.equal(before.codes[:, 10], after.codes[:, 10])


def test_the_loss_is_an_eighth_of_the_texts_and_seven_of_the_pictures() -> None:
    model = build()
    ids, mask, codes = example()
    losses = model.losses(ids, mask, codes)
    logits = model(ids, mask, codes)
    tokens = [(b, t) for b in range(2) for t in range(1, 6) if mask[b, t]]
    text = torch.stack([-F.log_softmax(logits.text[b, t - 1], 0)[ids[b, t]] for b, t in tokens]).mean()
    image = F.cross_entropy(logits.codes.flatten(0, 1), codes.flatten())
    torch.testing.assert_close(losses.text, text.detach())
    torch.testing.assert_close(losses.total, text / 8 + image * 7 / 8)


def test_dropped_captions_are_not_learned() -> None:
    model = build()
    ids, mask, codes = example()
    one = model.losses(ids, mask, codes, told=torch.tensor([True, False]))
    alone = model.losses(ids[:1], mask[:1], codes[:1])
    torch.testing.assert_close(one.text, alone.text)
    none = model.losses(ids, mask, codes, told=torch.tensor([False, False]))
    assert none.text == 0
    assert none.codes == model.losses(ids, mask, codes).codes


def test_checkpointing_changes_no_gradient() -> None:
    ids, mask, codes = example()
    gradients = []
    for checkpointing in (False, True):
        model = build(replace(DALLE1, dropout=0.2)).train()
        model.checkpointing = checkpointing
        torch.manual_seed(3)
        model.losses(ids, mask, codes).total.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_caption_can_be_written_on() -> None:
    model = build()
    ids, mask, codes = example()
    with torch.no_grad():
        whole = model(ids[1:], mask[1:], codes[1:]).text  # (1, 5, V), of a caption without padding
        writing = model.begin_text(ids[1:, :2], batch=3)
        steps = [model.step_text(writing)]
        steps += [model.step_text(writing, ids[1, i].expand(3)) for i in range(2, 5)]
    for k in range(3):
        torch.testing.assert_close(torch.stack(steps, 1)[k], whole[0, 1:])


def test_what_does_not_fit_is_refused() -> None:
    model = build()
    ids, mask, codes = example()
    with pytest.raises(InputError, match=r"both must be \(B, 6\)"):
        model(ids[:, :4], mask[:, :4], codes)
    with pytest.raises(InputError, match="17 codes: choose 1 to 16"):
        model.begin(ids, mask, codes=codes)
    with pytest.raises(InputError, match="fewer than 6"):
        model.begin_text(ids[:1], batch=1)
    with pytest.raises(InputError, match="kernel 4"):
        replace(DALLE1, kernel=4)
    with torch.no_grad():
        writing = model.begin(ids, mask, codes=codes[:, :15])
        with pytest.raises(InputError, match="all its 16 codes"):
            model.step(writing, codes[:, 15])
        with pytest.raises(InputError, match="cannot begin again"):
            writing.again()


def test_the_papers_sixteen_bits_survive_an_overflow() -> None:
    """The gradient of one branch overflows on its way back: training goes on and learns."""
    torch.manual_seed(0)
    model = Dalle1(replace(DALLE1, sixteen_bit=True)).train()
    assert model.scales is not None
    assert len(model.scales.scale) == 2 * DALLE1.layers
    ids, mask, codes = example(batch=4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(30):
        hook = model.resblocks[1].mlp.register_full_backward_hook(
            lambda module, inputs, outputs, step=step: (inputs[0] * math.inf,) if step == 10 else None
        )
        loss = model.losses(ids, mask, codes).total
        loss.backward()
        hook.remove()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        if step == 10:
            assert model.scales.bad.nonzero().flatten().tolist() == [3]
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert model.scales.scale[3] < model.scales.scale[2]


def test_the_papers_scales_are_one_hundred_and_twenty_eight() -> None:
    with torch.device("meta"):
        model = Dalle1(replace(Dalle1Config(), sixteen_bit=True))
    assert model.scales is not None
    assert len(model.scales.scale) == 128
