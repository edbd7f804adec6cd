"""Promises of zero-shot accuracy and linear probes: right figures, intervals, the penalty that is best."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from support.colour_clip import PRIMARIES, MeanColours
from unclip.data.labelled import Labelled
from unclip.errors import InputError
from unclip.evaluate.statistics import Method
from unclip.stages.stage import finished
from unclip.zero_shot import linear_probe, logistic_regression, zero_shot


def pictures(keys: tuple[str, ...], rows: Sequence[tuple[str, str | bytes]], seed: int = 0) -> Labelled:
    """Noisy pictures of a colour each, by (class, colour or content)."""
    random = np.random.default_rng(seed)

    def content(what: str | bytes) -> bytes:
        if isinstance(what, bytes):
            return what
        pixels = np.array(PRIMARIES[what]) * 0.5 + random.integers(0, 120, (4, 4, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    samples = [(content(what), keys.index(key)) for key, what in rows]
    return Labelled(keys, len(samples), {}, lambda: iter(samples))


def test_accuracy_counts_pictures_and_classes() -> None:
    rows = [("red", "red")] * 6 + [("green", "red")] + [("blue", "blue"), ("blue", b"broken")]
    report = finished(zero_shot(MeanColours(), pictures(("blue", "green", "red"), rows)))
    assert report.top1.value == pytest.approx(7 / 8)
    assert report.top1.method is Method.WILSON
    assert 0.5 < report.top1.low < 7 / 8 < report.top1.high < 1
    assert report.top5 is None
    assert report.classes == {"red": (1.0, 6), "green": (0.0, 1), "blue": (1.0, 1)}
    assert report.per_class == pytest.approx(2 / 3)
    assert report.broken == 1


def test_names_choose_the_classes_and_classes_of_one_name_are_one() -> None:
    rows = [("n1", "red"), ("n2", "red"), ("n3", "blue"), ("n4", "green")]
    keys = ("n1", "n2", "n3", "n4")
    names = {"n1": "red", "n2": "red", "n3": "blue"}
    report = finished(zero_shot(MeanColours(), pictures(keys, rows), names, "best7"))
    assert report.classes == {"red": (1.0, 2), "blue": (1.0, 1)}
    assert report.top1.count == 3
    with pytest.raises(InputError, match="no picture can be read"):
        finished(zero_shot(MeanColours(), pictures(("red",), [("red", b"broken")])))


def test_top_5_is_told_where_there_are_more_classes() -> None:
    keys = tuple(f"{number} {name}" for number in range(3) for name in PRIMARIES)
    report = finished(zero_shot(MeanColours(), pictures(keys, [("0 red", "red"), ("2 blue", "red")])))
    assert report.top5 is not None
    assert report.top5.value >= report.top1.value


def test_logistic_regression_finds_the_minimum() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.randint(3, (60,))
    weight, bias = logistic_regression(x, y, 3, penalty=2.0)
    weight.requires_grad_()
    bias.requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, y, reduction="sum")
    (loss + weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.abs().max() < 1e-2
    assert bias.grad.abs().max() < 1e-2
    strong, _ = logistic_regression(x, y, 3, penalty=1e6)
    assert strong.norm() < 1e-3 < weight.norm()


def test_a_probe_learns_what_can_be_told_apart_and_chooses_its_penalty() -> None:
    keys = ("blue", "green", "red")
    rows = [(key, key) for key in keys for _ in range(10)]
    report = finished(linear_probe(MeanColours(), pictures(keys, rows), pictures(keys, rows, seed=1)))
    assert report.accuracy.value == 1
    assert (report.trained, report.tested) == (30, 30)
    assert report.validation[report.penalty] == max(report.validation.values())
    # the seven of the paper, and then both neighbours at half the spacing, four times
    assert len(report.validation) == 7 + 2 * 4


def test_a_probe_needs_classes_that_it_has_seen() -> None:
    keys = ("blue", "red")
    train = pictures(keys, [("blue", "blue"), ("red", "red")] * 5)
    with pytest.raises(InputError, match="the class 'green' is only in the test"):
        finished(linear_probe(MeanColours(), train, pictures(("green",), [("green", "green")])))
    with pytest.raises(InputError, match="there is one class only"):
        only = pictures(("red",), [("red", "red")])
        finished(linear_probe(MeanColours(), only, only))
    few = pictures(keys, [("blue", "blue"), ("red", "red")])
    with pytest.raises(InputError, match="too few to hold a fifth"):
        finished(linear_probe(MeanColours(), few, few))
