"""Promises of ADM and GLIDE as networks: they start as nothing, learn everywhere, refuse what they lack."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from support.tiny import wake_
from unclip.errors import InputError
from unclip.models.adm import ADM, ADMConfig, Classifier, ClassifierConfig
from unclip.models.caption import CaptionConfig
from unclip.models.glide import Glide, GlideCondition, GlideConfig

ADM_CONFIG = ADMConfig(16, 32, (32, 64), 1, (2,), head_channels=32, classes=3)
CLASSIFIER = ClassifierConfig(16, 32, (32, 64), 1, (2,), classes=3, head_channels=32)
GLIDE = GlideConfig(
    image_size=16,
    channels=32,
    widths=(32, 64),
    blocks=1,
    attention=(2,),
    head_channels=32,
    caption=CaptionConfig(vocabulary=11, context=5, width=32, layers=1, heads=2),
    dropout=0.0,
)
X, LABEL = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 700.0])


def caption(model: Glide, *rows: list[int]) -> Tensor:
    ids = torch.tensor([row + [0] * (5 - len(row)) for row in rows])
    mask = torch.tensor([[i < len(row) for i in range(5)] for row in rows])
    return model.read(ids, mask)


def idle(model: nn.Module) -> list[str]:
    """Parameters that no gradient reaches; a key's bias never has one, and stands with others."""
    named = [(name, parameter.grad) for name, parameter in model.named_parameters()]
    return [name for name, gradient in named if gradient is None or not gradient.any()]


def test_new_networks_predict_zero() -> None:
    assert not ADM(ADM_CONFIG)(X, LABEL, torch.tensor([0, 2])).any()
    glide = Glide(GLIDE)
    text = caption(glide, [1, 2], [3])
    assert not glide(X, LABEL, GlideCondition(text, text)).any()


def test_every_parameter_learns() -> None:
    adm = wake_(ADM(ADM_CONFIG))
    adm(X, LABEL, torch.tensor([0, 2])).square().sum().backward()
    assert idle(adm) == []
    classifier = wake_(Classifier(CLASSIFIER))
    classifier.log_probability(X, LABEL, torch.tensor([1, 2])).sum().backward()
    assert idle(classifier) == []
    glide = wake_(Glide(GLIDE))
    text = caption(glide, [1, 2], [3])
    glide(X, LABEL, GlideCondition(text, text)).square().sum().backward()
    assert idle(glide) == []


@torch.no_grad()
def test_each_condition_is_read() -> None:
    adm = wake_(ADM(ADM_CONFIG)).eval()
    assert not torch.allclose(
        adm(X, LABEL, torch.tensor([0, 1])), adm(X, LABEL, torch.tensor([0, 2])), atol=1e-4
    )
    glide = wake_(Glide(replace(GLIDE, low_size=8, fills_in=True))).eval()
    text, other = caption(glide, [1, 2], [3]), caption(glide, [1, 4], [3])
    known, keep = torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    whole = GlideCondition(text, caption(glide, [], []), torch.rand(2, 3, 8, 8), known, keep)
    out = glide(X, LABEL, whole)
    for change in (
        {"text": other},
        {"low": -whole.low},
        {"known": known / 2},
        {"keep": keep * 0},
    ):
        assert not torch.allclose(out, glide(X, LABEL, replace(whole, **change)), atol=1e-4)
    unseen = replace(whole, known=known / 2, keep=keep * 0)
    assert torch.equal(glide(X, LABEL, unseen), glide(X, LABEL, replace(whole, keep=keep * 0)))
    prepared = glide.prepared(whole)
    torch.testing.assert_close(glide(X, LABEL, prepared), out)
    dropped = prepared.dropped()
    assert whole.empty is not None
    assert dropped.read is None
    assert torch.equal(dropped.text, whole.empty)
    assert torch.equal(dropped.empty, whole.empty)


def test_conditions_that_a_glide_lacks_are_refused() -> None:
    glide = Glide(GLIDE)
    text = caption(glide, [1], [2])
    known, keep = torch.zeros_like(X), torch.zeros_like(X[:, :1])
    with pytest.raises(InputError, match="not trained to fill in"):
        glide(X, LABEL, GlideCondition(text, text, known=known, keep=keep))
    with pytest.raises(InputError, match="go together"):
        glide(X, LABEL, GlideCondition(text, text, known=known))
    with pytest.raises(InputError, match="no small picture"):
        glide(X, LABEL, GlideCondition(text, text, low=X))
    with pytest.raises(InputError, match="the small picture to enlarge"):
        Glide(replace(GLIDE, low_size=8))(X, LABEL, GlideCondition(text, text))
    with pytest.raises(InputError, match="reads 5"):
        glide.read(torch.zeros(1, 6, dtype=torch.int64), torch.ones(1, 6, dtype=torch.bool))


def test_a_network_may_work_on_a_grid_of_patches() -> None:
    """Every pixel is predicted, from all of the network; nothing is left idle."""
    adm = wake_(ADM(replace(ADM_CONFIG, patch=2)))
    out = adm(X, LABEL, torch.tensor([0, 2]))
    assert out.shape == (2, 6, 16, 16)
    assert (out.std(dim=(2, 3)) > 0).all()
    out.square().sum().backward()
    assert idle(adm) == []
    classifier = Classifier(replace(CLASSIFIER, patch=2))
    assert classifier(X, LABEL).shape == (2, 3)
    glide = wake_(Glide(replace(GLIDE, patch=4, low_size=8)))
    condition = GlideCondition(caption(glide, [1, 2], [3]), low=torch.rand(2, 3, 8, 8))
    assert glide(X, LABEL, condition).shape == (2, 6, 16, 16)
    with pytest.raises(InputError, match="needs the empty caption"):
        condition.dropped()
