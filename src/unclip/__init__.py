"""The DALL-E family as one package.

    import unclip

    model = unclip.load()
    for picture in model.generate("a red apple", n=4, size=256, seed=0):
        picture.save("apple.png")

The public names are loaded when they are first used: `import unclip` loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unclip import search
    from unclip.bundle import Bundle
    from unclip.errors import (
        BundleError,
        CheckpointError,
        DataError,
        InputError,
        PolicyError,
        SearchError,
        TrainingError,
        UnclipError,
        UnclipWarning,
    )
    from unclip.families.unclip import UnCLIP
    from unclip.pipeline import Picture, Pipeline, load

__version__ = "0.1.0"

_HOME = {
    "Bundle": "unclip.bundle",
    "Picture": "unclip.pipeline",
    "Pipeline": "unclip.pipeline",
    "UnCLIP": "unclip.families.unclip",
    "load": "unclip.pipeline",
    "BundleError": "unclip.errors",
    "CheckpointError": "unclip.errors",
    "DataError": "unclip.errors",
    "InputError": "unclip.errors",
    "PolicyError": "unclip.errors",
    "SearchError": "unclip.errors",
    "TrainingError": "unclip.errors",
    "UnclipError": "unclip.errors",
    "UnclipWarning": "unclip.errors",
}

_PARTS = ("search",)  # of the package, with names of their own

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "DataError",
    "InputError",
    "Picture",
    "Pipeline",
    "PolicyError",
    "SearchError",
    "TrainingError",
    "UnCLIP",
    "UnclipError",
    "UnclipWarning",
    "__version__",
    "load",
    "search",
]


def __getattr__(name: str) -> Any:  # PEP 562
    if name in _PARTS:
        return importlib.import_module(f"unclip.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'unclip' has no attribute {name!r}: it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
