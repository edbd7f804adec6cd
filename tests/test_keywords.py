"""Promises of the verbs' keywords: `help` shows each with its range; of a wrong one the right one is told."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import unclip
from unclip.diffusion.samplers import SAMPLERS
from unclip.drawing import Event, Options, Prior, Settings
from unclip.errors import InputError
from unclip.manipulate.editing import FilledIn
from unclip.manipulate.fitting import Fit
from unclip.manipulate.latents import FromLatents
from unclip.model import Model

PICTURE = Image.new("RGB", (64, 64), "red")
VERBS: dict[str, Callable[..., object]] = {
    "generate": lambda model, **wrong: model.generate("a red apple", **wrong),
    "stream": lambda model, **wrong: model.stream("a red apple", **wrong),
    "vary": lambda model, **wrong: model.vary(PICTURE, **wrong),
    "blend": lambda model, **wrong: model.blend(PICTURE, PICTURE, **wrong),
    "restyle": lambda model, **wrong: model.restyle(PICTURE, "a cat", "a dog", **wrong),
    "edit": lambda model, **wrong: model.edit(PICTURE, PICTURE, "a cat", **wrong),
    "outpaint": lambda model, **wrong: model.outpaint(PICTURE, "a cat", right=8, **wrong),
    "reconstruct": lambda model, **wrong: model.reconstruct(PICTURE, [1], **wrong),
    "complete_caption": lambda model, **wrong: model.complete_caption("a", **wrong),
    "encode": lambda model, **wrong: model.encode(PICTURE, **wrong),
    "decode": lambda model, **wrong: model.decode(None, **wrong),
}
KEYWORDS = {
    "generate": Settings,
    "stream": Settings,
    **dict.fromkeys(("vary", "blend", "restyle", "reconstruct"), FromLatents),
    **dict.fromkeys(("edit", "outpaint"), FilledIn),
}


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return unclip.load(tiny_bundle, device="cpu", precision="float32")


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_keyword_is_told_from_the_right_one_by_every_verb(model: Model, verb: str) -> None:
    name, right = {"encode": ("fti", "fit"), "complete_caption": ("smapling", "sampling")}.get(
        verb, ("siez", "size")
    )
    with pytest.raises(InputError, match=f"unknown setting '{name}': did you mean {right}"):
        VERBS[verb](model, **{name: 64})
    with pytest.raises(InputError, match="unknown setting 'xyz': there are .*"):
        VERBS[verb](model, xyz=1)


def test_a_wrong_keyword_of_load_is_told_from_the_right_one() -> None:
    with pytest.raises(InputError, match="unknown setting 'devcie': did you mean device"):
        unclip.load(devcie="cpu")  # type: ignore[call-arg]


@pytest.mark.parametrize("verb", KEYWORDS)
def test_help_shows_every_setting_with_its_type_and_what_it_may_be(model: Model, verb: str) -> None:
    method = getattr(model, verb)
    shown = inspect.signature(method).parameters
    assert not any(each.kind is each.VAR_KEYWORD for each in shown.values())
    text = inspect.getdoc(method) or ""
    for name, kind in inspect.get_annotations(KEYWORDS[verb]).items():
        assert shown[name].annotation == kind.__forward_arg__
        assert f"    {name}: " in text, f"{verb} does not say what {name} is"
    assert "prompt: " in text or "image: " in text or "images: " in text


def test_type_checkers_see_the_settings_through_the_wrapper() -> None:
    hints = typing.get_type_hints(inspect.unwrap(Model.generate))
    assert hints["settings"] == typing.Unpack[Settings]


def test_the_ranges_that_help_shows_are_those_that_are_kept() -> None:
    text = inspect.getdoc(Options) or ""
    for name, low, high in [
        *(("n", 1, 100), ("guidance", 0, 50), ("prior_guidance", 0, 50), ("clip_guidance", 0, 50)),
        *(("candidates", 1, 64), ("temperature", 0.01, 100), ("top_p", 0.01, 1)),
    ]:
        assert f"{low:g} to {high:g}" in text.partition(f"    {name}: ")[2].partition(": ")[0]
        Options(**{name: low})
        Options(**{name: high})
        for outside in (low - 1, high + 1):
            with pytest.raises(InputError, match=name):
                Options(**{name: outside})
    choices = [*SAMPLERS, *(prior for prior in Prior), *Fit]
    assert [name for name in choices if f'"{name}"' not in text and name != "letterbox"] == []


def test_what_is_printed_of_options_events_models_and_bundles_is_short(model: Model) -> None:
    assert repr(Options()) == "Options()"
    assert (
        repr(Options(n=4, size=64, seed=1, steps="fast27")) == "Options(n=4, size=64, seed=1, steps='fast27')"
    )
    events = [event for event in model.stream("a red apple", size=64, seed=1) if event.estimate is not None]
    assert len(repr(events[0])) < 120
    assert "estimate" not in repr(events[0])
    assert isinstance(events[0], Event)
    assert repr(model.bundle).startswith("<Bundle tiny, family unclip, in /")
    assert repr(model.clip).startswith("<ClipEmbedder tiny, a CLIP, ")
    assert repr(model).startswith("<Model tiny, family unclip, weights ")


def test_a_picture_shows_itself_in_notebooks(model: Model) -> None:
    (picture,) = model.generate("a red apple", size=64, seed=1)
    assert picture._repr_png_().startswith(b"\x89PNG")
