"""Picture rules: detectors look at a picture in a worker thread, once; what they find is kept by its hash."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Protocol

from PIL import Image

REMEMBERED = 1024  # pictures


class Detector(Protocol):
    """Looks for one thing in pictures."""

    def found(self, image: Image.Image) -> bool:
        """True where an RGB picture shows it."""


class PictureRules:
    """The picture rules of a policy, as far as they can be applied here.

    Args:
        detectors: by rule.
        unapplied: rules that cannot be applied, and why.
    """

    def __init__(self, detectors: Mapping[str, Detector], unapplied: Mapping[str, str] | None = None) -> None:
        self.detectors, self.unapplied = dict(detectors), dict(unapplied or {})
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="unclip-policy")
        self._known: OrderedDict[str, dict[str, bool]] = OrderedDict()
        self._lock = Lock()

    def __bool__(self) -> bool:
        """True where a rule looks at pictures."""
        return bool(self.detectors)

    def findings(self, images: Sequence[Image.Image]) -> list[dict[str, bool]]:
        """The findings of each rule in each picture. May be called from any thread."""
        return list(self._worker.map(self._found, [image.convert("RGB") for image in images]))

    def _found(self, image: Image.Image) -> dict[str, bool]:
        digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        with self._lock:
            if digest in self._known:
                self._known.move_to_end(digest)
                return self._known[digest]
        found = {rule: detector.found(image) for rule, detector in self.detectors.items()}
        with self._lock:
            self._known[digest] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found


NO_PICTURE_RULES = PictureRules({})
