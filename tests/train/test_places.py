"""Promises of places: what one draws is its own, in every task, however a batch is shared out or cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.tiny_recipe import every_stage
from unclip.tokenizer import Tokens
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.stages import TASKS

BATCH = 8
DRAWS = {
    "rand": (3, 2),
    "randn": (3, 40, 40),
    "exponential": (20,),
    "randint": (-3, 1000, 7),
    "randoms": (),
    "stratified": (),
}
# what is drawn for a batch or its loss only where it is asked for
SETTINGS = (
    *("clip.task={pictures={shift=2, colours=0.5, tags_as_names=0.5}}", "prior.task={}"),
    *("decoder.model.inpainting=true", "decoder.task.augment=0.5", "decoder.task.whole=0.3"),
    *("vqvae.task.perceptual=0.0", "vqvae.task.nearest={dead=0.5}"),
)
DVAE = {"vocabulary": 16, "channels": 16, "multipliers": [1, 1], "blocks": 1, "decoder_channels": 16}
QUIET = ("clip", "supervised", "vqvae")  # whose losses draw nothing


def shares(count: int) -> list[range]:
    """A batch cut into so many."""
    size = BATCH // count
    return [range(first, first + size) for first in range(0, BATCH, size)]


@pytest.mark.parametrize("name", DRAWS)
def test_a_row_is_of_its_place_whatever_stands_beside_it(name: str) -> None:
    def drawn(numbers: range | list[int], **changes: Any) -> list[Any]:
        rows = getattr(Places(numbers, BATCH, seed=3, step=5, **changes), name)(*DRAWS[name])
        return [row.random() for row in rows] if name == "randoms" else rows.tolist()

    whole = drawn(range(BATCH))
    assert [row for numbers in shares(4) for row in drawn(numbers)] == whole
    assert drawn([6, 1]) == [whole[6], whole[1]]
    assert drawn(range(BATCH), stream="loss") != whole
    assert len({str(row) for row in whole}) == BATCH


def test_draws_go_on_and_can_be_made_again() -> None:
    places = Places.whole(BATCH, seed=3)
    first, second = places.rand(4), places.rand(4)
    assert not torch.equal(first, second)
    again = replace(places)
    assert torch.equal(again.rand(4), first)
    assert torch.equal(again.rand(4), second)
    for other in (replace(places, seed=4), replace(places, step=1)):
        assert not torch.equal(other.rand(4), first)


def test_draws_are_what_they_are_called() -> None:
    places = Places.whole(400)
    uniform, normal, waits, numbers = (
        places.rand(50).double(),
        places.randn(50).double(),
        places.exponential(50).double(),
        places.randint(-2, 3, 50),
    )
    assert 0 <= uniform.min() < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.03)
    assert (waits.mean().item(), waits.std().item()) == pytest.approx((1, 1), abs=0.05)
    assert np.bincount(numbers.flatten() + 2) / numbers.numel() == pytest.approx([0.2] * 5, abs=0.02)
    between = torch.corrcoef(torch.stack([normal[:-1].flatten(), normal[1:].flatten()]))[0, 1]
    assert abs(between.item()) < 0.03


def test_each_position_is_drawn_as_often_as_its_weight_says() -> None:
    weights = torch.tensor([0.0, 3.0, 0.0, 1.0, 4.0, 0.0]).double()
    drawn = torch.bincount(Places.whole(8000).multinomial(weights), minlength=6) / 8000
    assert drawn[weights == 0].sum() == 0
    torch.testing.assert_close(drawn.double(), weights / weights.sum(), rtol=0, atol=0.02)


def test_a_batch_is_spread_evenly() -> None:
    spread = Places.whole(100, seed=1).stratified()
    assert sorted((spread * 100).long().tolist()) == list(range(100))
    offsets = (spread * 100).frac()
    torch.testing.assert_close(offsets, offsets[:1].expand(100), rtol=0, atol=1e-4)
    assert (spread.diff() > 0).float().mean() < 0.7  # in no order


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages that others learn from."""
    run = Run(every_stage(*SETTINGS), corpus, tmp_path_factory.mktemp("whole"), torch.device("cpu"))
    for stage in ("clip", "vqvae", "layout"):
        run.go(stage)
    return run.out


def leaves(value: Any) -> Iterator[list[Tensor]]:
    """The rows of every tensor of a batch; of tokens without padding, which the longest of them decides."""
    if isinstance(value, Tensor):
        yield list(value)
    elif isinstance(value, Tokens):
        yield [ids[there] for ids, there in zip(value.ids, value.mask, strict=True)]
    elif is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from leaves(item)


def joined(parts: list[list[list[Tensor]]]) -> list[list[Tensor]]:
    """The leaves of shares of a batch, one share after the other."""
    return [list(chain.from_iterable(rows)) for rows in zip(*parts, strict=True)]


@pytest.mark.parametrize("stage", [*TASKS, "dvae"])
def test_the_shares_of_a_batch_are_the_batch_to_the_bit(
    stage: str, whole: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every task: what it shows, and every number that its loss draws."""
    recipe = every_stage(*SETTINGS)
    if stage == "dvae":
        recipe["vqvae"]["model"] = {"dvae": DVAE}
    task = Run(recipe, corpus, whole, torch.device("cpu")).task("vqvae" if stage == "dvae" else stage)
    drawn: list[list[Tensor]] = []

    def heard(name: str) -> None:
        draw = getattr(Places, name)

        def listening(places: Places, *arguments: Any) -> Tensor:
            rows = draw(places, *arguments)
            drawn.append(list(rows.clone()))
            return rows

        monkeypatch.setattr(Places, name, listening)

    heard("_drawn")
    heard("stratified")

    def seen(numbers: range) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """The batch of a share, and the numbers that its loss draws."""
        places = Places(numbers, BATCH, seed=1, step=2)
        batch = task.batch(places)
        drawn.clear()
        task.loss(task.model.train(), batch, replace(places, stream="loss"))
        return list(leaves(batch)), list(drawn)

    shown, noise = seen(range(BATCH))
    assert all(len(rows) == BATCH for rows in shown + noise)
    assert bool(noise) == (stage not in QUIET)
    for count in (2, 4):
        found = [seen(numbers) for numbers in shares(count)]
        for expected, parts in zip((shown, noise), zip(*found, strict=True), strict=True):
            together = joined(list(parts))
            assert len(together) == len(expected)
            for rows, others in zip(expected, together, strict=True):
                assert all(map(torch.equal, rows, others))
