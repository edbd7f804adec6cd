"""A policy put to work: prompts before anything is done, pictures before they are used or handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from PIL import Image

from unclip.drawing import Event, Picture
from unclip.errors import InputError, PolicyError
from unclip.images import Source, open_image
from unclip.policy.pictures import NO_PICTURE_RULES, PictureRules
from unclip.policy.policy import Policy


@dataclass(frozen=True)
class Withheld:
    """A picture that was drawn and is not handed out.

    Attributes:
        index, seed, prompt: of the picture.
        category: what for, in words.
    """

    index: int
    seed: int
    prompt: str
    category: str

    @property
    def document(self) -> dict[str, Any]:
        """As the API tells of it."""
        return {"index": self.index, "seed": self.seed, "category": self.category}

    def __str__(self) -> str:
        return f"picture {self.index} of seed {self.seed} is withheld: it shows {self.category}"


def _by_policy(policy: Policy) -> PictureRules:
    if not policy.pictures:
        return NO_PICTURE_RULES
    from unclip.policy.detectors import picture_rules

    return picture_rules(policy.pictures, policy.clip)


@dataclass(frozen=True)
class Guard:
    """Refuses what a policy does not allow.

    Attributes:
        policy: the rules.
        rules_of: makes the picture rules of the policy.
    """

    policy: Policy
    rules_of: Callable[[Policy], PictureRules] = field(default=_by_policy, repr=False)

    @cached_property
    def pictures(self) -> PictureRules:
        """The picture rules, with networks that are read when somebody first asks."""
        return self.rules_of(self.policy)

    def said(self) -> str:
        """One line for the start: which policy it is, and which of its rules cannot be applied."""
        line = f"policy {self.policy.name}"
        for rule, reason in self.pictures.unapplied.items():
            line += f"; its picture rule {rule!r} cannot be applied: {reason}"
        return line

    def check_applied(self) -> None:
        """Raises InputError where an extra is missing that the picture rules need."""
        from unclip.policy.detectors import EXTRA

        for rule, reason in self.pictures.unapplied.items():
            if EXTRA in reason:
                raise InputError(
                    f"the policy {self.policy.name} has the picture rule {rule!r}, and {reason}, or choose "
                    "another policy"
                )

    def check_prompts(self, prompts: Sequence[str], part: str = "prompt") -> None:
        """Raises PolicyError for the first prompt that is refused."""
        for prompt in prompts:
            self.policy.check_prompt(prompt, part)

    def check_pictures(self, given: Mapping[str, Sequence[Source]]) -> None:
        """Look at the pictures that are handed in, by the name that an error calls them by.

        Raises:
            PolicyError: one is refused.
            InputError: one cannot be read.
        """
        if not self.pictures:
            return
        for part, sources in given.items():
            images = [open_image(source) for source in sources]
            for found in self.pictures.findings(images):
                if (category := self.policy.picture_refusal(found)) is not None:
                    raise PolicyError(
                        f"the {part} shows {category}, which the policy {self.policy.name} does not allow: "
                        "give another picture",
                        category=category,
                        part=part,
                    )

    def refuses(self, image: Image.Image) -> str | None:
        """The reason for which a picture is withheld; None where it may be shown."""
        if not self.pictures:
            return None
        return self.policy.picture_refusal(self.pictures.findings([image])[0])

    def sifted(self, pictures: Sequence[Picture]) -> tuple[list[Picture], list[Withheld]]:
        """The pictures that may be handed out, and the others by name."""
        kept, withheld = [], []
        for picture in pictures:
            category = self.refuses(picture.image)
            if category is None:
                kept.append(picture)
            else:
                withheld.append(Withheld(picture.index, picture.seed, picture.prompt, category))
        return kept, withheld

    def check_any(self, kept: int, withheld: Sequence[Withheld]) -> None:
        """Raises PolicyError where pictures were drawn and all are withheld."""
        if withheld and not kept:
            category = withheld[0].category
            raise PolicyError(
                f"all {len(withheld)} pictures are withheld: they show {category}, which the policy "
                f"{self.policy.name} does not allow; ask for something else",
                category=category,
                part=None,
            )

    def watched(self, events: Iterator[Event], tell: Callable[[Withheld], None]) -> Iterator[Event]:
        """Events without the pictures that are withheld, which `tell` hears of, and without estimates of any.

        Raises:
            PolicyError: at the end, where all were.
        """
        kept, withheld = 0, list[Withheld]()
        for event in events:
            if self.pictures and event.estimate is not None:
                event = replace(event, estimate=None)
            if event.pictures:
                good, bad = self.sifted(event.pictures)
                kept, withheld = kept + len(good), withheld + bad
                for one in bad:
                    tell(one)
                event = replace(event, pictures=tuple(good))
            yield event
        self.check_any(kept, withheld)


def in_force(chosen: Policy | None, default: Policy, asked: str) -> Policy:
    """The policy that holds: the chosen one, or the default with what a bundle's card asks for besides."""
    if chosen is not None or not asked:
        return default if chosen is None else chosen
    card = Policy.named(asked)
    if default.refuses_nothing:
        return card
    return replace(
        default,
        prompts=tuple(dict.fromkeys((*default.prompts, *card.prompts))),
        pictures=tuple(dict.fromkeys((*default.pictures, *card.pictures))),
        refused={**card.refused, **default.refused},
        clip=default.clip or card.clip,
        name=f"{default.name} and {card.name}",
    )
