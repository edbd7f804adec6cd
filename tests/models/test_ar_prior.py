"""Promises of the autoregressive prior: it reads what came before, with a cache or without; its sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from support.tiny import fill_
from unclip import recipes
from unclip.config import from_dict, to_dict
from unclip.errors import InputError
from unclip.models.ar_prior import PAPER, ArPrior, ArPriorConfig
from unclip.models.code_sampling import CodeSampling, draw_ordered, uniform_noise, write_codes
from unclip.models.prior import PriorCondition

CONFIG = ArPriorConfig(
    embedding=6,
    text_width=7,
    context=9,
    components=5,
    buckets=11,
    dot_buckets=4,
    width=16,
    layers=2,
    heads=2,
)
YES = torch.ones(2, dtype=torch.bool)
DOT = torch.tensor([3, 1])


@pytest.fixture(scope="module")
def model() -> ArPrior:
    return fill_(ArPrior(CONFIG)).requires_grad_(False)


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(3))


def condition(length: int = 4) -> PriorCondition:
    torch.manual_seed(2)
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[1, length - 1] = False
    return PriorCondition(
        text_embedding=torch.randn(2, 6).double(),
        sequence=torch.randn(2, length, 7).double(),
        mask=mask,
        keep=YES,
    )


def stepped(model: ArPrior, codes: Tensor, given: PriorCondition) -> Tensor:
    writing = model.begin(given, DOT)
    before = [None, *codes[:, :-1].unbind(1)]
    return torch.stack([model.step(writing, last) for last in before], dim=1)


def test_logits_with_the_cache_are_those_without(model: ArPrior, codes: Tensor) -> None:
    for given in (condition(), condition().dropped()):
        whole = model(codes, given, DOT)
        assert whole.shape == (2, 5, 11)
        torch.testing.assert_close(stepped(model, codes, given), whole)


def test_a_writing_can_begin_again(model: ArPrior, codes: Tensor) -> None:
    writing = model.begin(condition(), DOT)
    first = model.step(writing, None)
    model.step(writing, codes[:, 0])
    torch.testing.assert_close(model.step(writing, None), first)


def test_a_code_knows_those_before_it_and_no_other(model: ArPrior, codes: Tensor) -> None:
    before = model(codes, condition(), DOT)
    changed = codes.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 11
    after = model(changed, condition(), DOT)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.isclose(after[:, 3:], before[:, 3:]).all(dim=2).any()


def test_the_last_code_is_not_read(model: ArPrior, codes: Tensor) -> None:
    changed = codes.clone()
    changed[:, 4] = 0
    assert torch.equal(model(changed, condition(), DOT), model(codes, condition(), DOT))


@pytest.mark.parametrize("part", ["text_embedding", "sequence"])
def test_each_part_of_the_caption_is_read_where_it_is_kept(model: ArPrior, codes: Tensor, part: str) -> None:
    for given, read in ((condition(), True), (condition().dropped(), False)):
        changed = replace(given, **{part: getattr(given, part).flip(0)})
        same = torch.equal(model(codes, changed, DOT), model(codes, given, DOT))
        assert same is not read


def test_the_dot_product_is_read_where_the_caption_is_kept(model: ArPrior, codes: Tensor) -> None:
    for given, read in ((condition(), True), (condition().dropped(), False)):
        same = torch.equal(model(codes, given, DOT), model(codes, given, DOT.flip(0)))
        assert same is not read


def test_padding_changes_nothing(model: ArPrior, codes: Tensor) -> None:
    given = condition()
    padded = replace(
        given,
        sequence=torch.cat([given.sequence, torch.randn(2, 3, 7).double()], dim=1),
        mask=torch.cat([given.mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(model(codes, padded, DOT), model(codes, given, DOT))


def test_the_same_noise_writes_the_same_codes_alone_and_in_a_batch(model: ArPrior) -> None:
    def write(rows: list[int]) -> Tensor:
        whole = condition()
        given = PriorCondition(
            whole.text_embedding[rows], whole.sequence[rows], whole.mask[rows], whole.keep[rows]
        )
        generators = [torch.Generator().manual_seed(row) for row in rows]
        noise: Callable[[], Tensor] = uniform_noise(generators, torch.device("cpu"))
        writing = model.begin(given, DOT[rows])
        step = partial(model.step, writing)
        return torch.stack(list(write_codes(step, 5, noise, CodeSampling(), draw_ordered)), dim=1)

    together = write([0, 1])
    assert torch.equal(torch.cat([write([0]), write([1])]), together)


def test_the_papers_size() -> None:
    """Table 3 of 2204.06125: 319 codes, context 384, width 1664, 24 blocks, 26 heads."""
    with torch.device("meta"):
        model = ArPrior(PAPER)
    blocks = 24 * (12 * 1664**2 + 13 * 1664)  # matrices, biases and norms of a transformer's block
    around = 1664 * (1024 + 1) * 2 + 2 * 1024  # caption's features and norm, text embedding
    tokens = 1664 * (1024 + 1024 + 2 + 383)  # codes, dot products, what stands for none, positions
    out = 2 * 1664 + (1664 + 1) * 1024
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == blocks + around + tokens + out == 807_131_264
    assert len(model.position) == 384 - 1
    assert model.codes.basis.shape == (319, 1024)


def test_the_papers_recipe_has_the_papers_size() -> None:
    table = recipes.load("dalle2")["ar-prior"]["model"]
    assert (
        from_dict(ArPriorConfig, {**table, "embedding": 1024, "text_width": 1024, "components": 319}) == PAPER
    )


def test_that_of_the_shipped_bundle_costs_less_than_four_mebibytes() -> None:
    """In bfloat16, however many components the embeddings turn out to need."""
    recipe = recipes.load("pictograms")
    width = recipe["clip"]["model"]["embedding"]
    sizes = {
        "embedding": width,
        "components": width,
        "text_width": recipe["clip"]["model"]["text"]["width"],
    }
    with torch.device("meta"):
        model = ArPrior(from_dict(ArPriorConfig, {**recipe["ar-prior"]["model"], **sizes}))
    assert 2 * sum(tensor.numel() for tensor in model.state_dict().values()) < 4 * 2**20


def test_a_config_survives_being_written_down() -> None:
    assert from_dict(ArPriorConfig, to_dict(CONFIG)) == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components": 7}, "components 7: choose from 1 to 6"),
        ({"components": 0}, "components 0"),
        ({"buckets": 1}, "buckets 1: choose 2 or more"),
        ({"dot_buckets": 1}, "dot_buckets 1"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **change)
