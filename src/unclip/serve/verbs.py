"""Requests to draw, as calls of the model's own verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unclip.drawing import Event
from unclip.errors import listed
from unclip.manipulate.editing import edit
from unclip.manipulate.outpaint import Margins, outpaint
from unclip.manipulate.variations import blend, restyle, vary
from unclip.model import Model
from unclip.policy import Policy
from unclip.serve.contract import Asked, single
from unclip.serve.errors import ApiError
from unclip.serve.fields import HOSTED_STYLES, STEPS, VIVID
from unclip.serve.models import Abilities
from unclip.serve.worker import Begin

MARGINS = ("left", "right", "top", "bottom")


def settings_of(asked: Asked, abilities: Abilities) -> dict[str, Any]:
    """The settings of a request, those that quality and style choose among them.

    Raises:
        ApiError: a verb, a quality or a style that means nothing to the bundle.
    """
    if asked.verb not in abilities.verbs:
        message = f"{asked.bundle} cannot {asked.verb}: choose another model"
        raise ApiError(400, message, param="model", code="unsupported_value")
    settings, factor = dict(asked.settings), STEPS[asked.quality]
    if factor != 1:
        own = abilities.steps.get(asked.verb, 0)
        if not own:
            message = f"{asked.bundle} takes no steps: leave quality out"
            raise ApiError(400, message, param="quality", code="unsupported_value")
        settings["steps"] = max(1, round(own * factor))
    if asked.style is not None and asked.style not in HOSTED_STYLES:
        if asked.style not in abilities.styles:
            message = f"style {asked.style!r}: choose {listed((*abilities.styles, *HOSTED_STYLES))}"
            raise ApiError(400, message, param="style", code="invalid_value")
        settings["style"] = asked.style
    elif asked.style is not None:
        if abilities.guidance is None:
            message = f"{asked.bundle} is not guided: leave style out"
            raise ApiError(400, message, param="style", code="unsupported_value")
        if asked.style == "vivid":
            settings["guidance"] = abilities.guidance * VIVID
    return settings


def allowed(policy: Policy, asked: Asked, begin: Begin, model: Model) -> Iterator[Event]:
    """As `begin`, where the policy allows the prompt as networks read it. Raises PolicyError where not."""
    if asked.prompt and not policy.refuses_nothing:
        policy.check_prompt(model.translated([asked.prompt])[0])
    return begin(model)


def begun(asked: Asked, abilities: Abilities, model: Model) -> Iterator[Event]:
    """The events of a request. Raises InputError or ApiError for what is wrong with it."""
    settings, pictures = settings_of(asked, abilities), asked.pictures
    side = None if asked.size is None else asked.size[0]
    match asked.verb:
        case "generate":
            settings |= {name: single(pictures, name) for name in ("init", "start") if name in pictures}
            return model.stream(asked.prompt, n=asked.n, size=side, **settings)
        case "edit":
            mask = single(pictures, "mask") if "mask" in pictures else None
            image = single(pictures, "image")
            return edit(model, image, mask, asked.prompt, n=asked.n, size=side, **settings)
        case "vary":
            return vary(model, single(pictures, "image"), n=asked.n, size=side, **settings)
        case "blend":
            return blend(model, pictures.get("image", ()), frames=asked.n, size=side, **settings)
        case "restyle":
            origin = settings.pop("origin", "")
            image = single(pictures, "image")
            return restyle(model, image, asked.prompt, origin, frames=asked.n, size=side, **settings)
        case _:
            margins = Margins(**{name: settings.pop(name, 0) for name in MARGINS})
            image = single(pictures, "image")
            return outpaint(model, image, asked.prompt, margins, n=asked.n, size=side, **settings)


def work_of(asked: Asked, abilities: Abilities) -> int:
    """Pixels times steps that a request is reckoned to take."""
    settings: Mapping[str, Any] = settings_of(asked, abilities)
    size = abilities.default_size if asked.size is None else asked.size[0]
    if size not in abilities.sizes:
        size = min((side for side in abilities.sizes if side >= size), default=abilities.sizes[-1])
    steps = settings.get("steps")
    count = max(asked.n, settings.get("rerank") or 0)
    return count * abilities.work(asked.verb, size, steps if isinstance(steps, int) else None)
