"""Policies as rules of `unclip data prepare`: what may not be drawn is not learned from, nor are faces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from PIL import Image

from unclip.errors import InputError
from unclip.policy.detectors import missing, picture_rules
from unclip.policy.guard import Guard
from unclip.policy.policy import Policy


class Sieve:
    """Refuses captioned pictures by the rules that refuse prompts and drawn pictures.

    Args:
        guard: of the policy.

    Attributes:
        identity: stands for the rules, which of them can be applied here included.

    Raises:
        InputError: an extra is missing that the picture rules need.
    """

    def __init__(self, guard: Guard) -> None:
        guard.check_applied()
        self._guard = guard
        rules = repr(guard.policy) + repr(sorted(guard.pictures.unapplied))
        self.identity = hashlib.blake2b(rules.encode(), digest_size=8).hexdigest()

    @classmethod
    def named(cls, name: str) -> Sieve:
        """Of a preset by its name, or a file of TOML by its path. Raises InputError as `Policy.named`."""
        return cls(Guard(Policy.named(name)))

    def __call__(self, image: Image.Image, captions: Sequence[str], /) -> str:
        """The reason for which a picture (RGB), or one of its captions, is refused; "" where it is not."""
        for caption in captions:
            if (category := self._guard.policy.refusal(caption)) is not None:
                return f"a caption says {category}"
        category = self._guard.refuses(image)
        return "" if category is None else f"it shows {category}"


class FaceSieve:
    """Refuses pictures that show the face of a person, whoever it is; what is drawn is none.

    Attributes:
        identity: stands for the detector.

    Raises:
        InputError: the extra `policy` is missing.
    """

    identity = "faces by CenterFace"

    def __init__(self) -> None:
        if (reason := missing("faces")) is not None:
            raise InputError(f"faces cannot be looked for: {reason}")
        self._detector = picture_rules(("faces",)).detectors["faces"]

    def __call__(self, image: Image.Image, captions: Sequence[str], /) -> str:
        """The reason for which a picture (RGB) is refused, "" where it is not; captions do not matter."""
        return "it shows a face" if self._detector.found(image) else ""
