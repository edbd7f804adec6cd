"""A policy: which categories of prompts and of pictures are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from unclip.config import from_dict
from unclip.errors import InputError, PolicyError, listed
from unclip.languages import named as languages_named
from unclip.languages import unread

PRESETS = Path(__file__).parent / "presets"
NONE = "none"
PICTURE_RULES = {  # as a refusal names them
    "nudity": "nudity",
    "faces": "a realistic face",
    "gore": "gore or a weapon",
}


@dataclass(frozen=True)
class Policy:
    """Rules of what may be drawn, as a file of TOML has them.

    Attributes:
        description: for people.
        prompts: categories that prompts are refused for: "minors", "sexual", "gore", "hate", "persons",
            "news".
        pictures: rules of pictures, of those that are handed in and of those that were drawn: "nudity",
            "faces", "gore".
        allowed: regular expressions; what they cover in a prompt is harmless. Prompts are read in small
            letters, umlauts as ae, oe, ue, with one blank between words.
        refused: words and phrases that are refused besides, each list under the name that a refusal gives it.
        clip: name or folder of a bundle with a published CLIP, one that knows photographs: by it the picture
            rule "gore" looks. "" is none, and then that rule is not applied, which is said.
        name: of the preset or file; not in the file itself.

    Raises:
        InputError: an unknown category or rule, or an expression that cannot be read.
    """

    description: str = ""
    prompts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    clip: str = ""
    name: str = field(default=NONE, compare=False)

    def __post_init__(self) -> None:
        known: dict[str, Iterable[str]] = {"pictures": PICTURE_RULES}
        if self.prompts:  # a policy without rules reads no terms
            from unclip.policy.terms import CATEGORIES

            known["prompts"] = CATEGORIES
        for what, names in known.items():
            for name in getattr(self, what):
                if name not in names:
                    raise InputError(f"policy {self.name}: {what}: unknown {name!r}: choose {listed(names)}")
        for pattern in self.allowed:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(
                    f"policy {self.name}: allowed: {pattern!r} cannot be read: {error}"
                ) from None

    @classmethod
    def named(cls, name: str | Path) -> Policy:
        """A preset by its name, or a file of TOML by its path.

        Raises:
            InputError: there is none, or what the file holds is not allowed.
        """
        import tomllib  # every model has a type for a policy, and few have one

        path = PRESETS / f"{name}.toml" if str(name) in presets() else Path(name)
        if not path.is_file():
            raise InputError(f"no policy {str(name)!r}: choose {listed(presets())}, or give a file of TOML")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"policy {name} is no TOML that can be read: {error}") from None
        if "name" in table:
            raise InputError(f"policy {name}: unknown key 'name': a policy is called as its file is")
        return from_dict(cls, {**table, "name": path.stem}, "")

    @property
    def refuses_nothing(self) -> bool:
        """True where every prompt and picture is allowed."""
        return not (self.prompts or self.pictures or self.refused)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(map(re.compile, self.allowed))

    # --- prompts ---

    def refusal(self, prompt: str) -> str | None:
        """The reason for which a prompt is refused; None where it may be drawn.

        One function for drawing and for preparing data: captions are judged by the same rules.
        """
        if self.refuses_nothing or not prompt.strip():
            return None
        from unclip.policy.terms import CATEGORIES, find, find_own

        if self.prompts and (found := find(prompt, self.prompts, self._patterns)) is not None:
            return CATEGORIES[found]
        return find_own(prompt, self.refused, self._patterns)

    def check_prompt(self, prompt: str, part: str = "prompt") -> None:
        """Refuse a prompt that the rules are against, before any work is done.

        Args:
            prompt: as it was given, in any language.
            part: what it is of the request, for the error.

        Raises:
            PolicyError: naming the category, and never the list.
        """
        if (found := self.refusal(prompt)) is not None:
            raise PolicyError(
                f"the {part} asks for {found}, which the policy {self.name} does not allow: describe "
                "something else",
                category=found,
                part=part,
            )

    def unruled(self, prompt: str) -> str | None:
        """A note for a prompt in a language that there are no rules for; None for another."""
        from unclip.policy.terms import LANGUAGES

        if not self.prompts or (written := unread(prompt, LANGUAGES)) is None:
            return None
        return (
            f"the prompt is in {written}: the policy {self.name} has rules for {languages_named(LANGUAGES)}, "
            "and none of them applied"
        )

    def notes(self, prompts: Sequence[str]) -> Iterator[str]:
        """The notes for several prompts, each once."""
        yield from dict.fromkeys(note for prompt in prompts if (note := self.unruled(prompt)) is not None)

    # --- pictures ---

    def picture_refusal(self, scores: Mapping[str, bool]) -> str | None:
        """The reason for which a picture is refused, by each rule's finding; None where it may be shown."""
        return next((PICTURE_RULES[rule] for rule in self.pictures if scores.get(rule)), None)


EVERYTHING = Policy("no rules")


def presets() -> list[str]:
    """The names of the policies that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))
