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
    from unclip.drawing import Event, Job, Options, Picture
    from unclip.embedding import ClipEmbedder
    from unclip.errors import (
        BundleError,
        CheckpointError,
        DataError,
        DownloadError,
        InputError,
        Interrupted,
        PolicyError,
        SearchError,
        TrainingError,
        UnclipError,
        UnclipWarning,
    )
    from unclip.given import Given, Inversion, Known
    from unclip.manipulate.latents import Latents
    from unclip.model import Model, load

__version__ = "0.1.0"

_NAMES = {
    "unclip.bundle": ("Bundle",),
    "unclip.drawing": ("Event", "Job", "Options", "Picture"),
    "unclip.embedding": ("ClipEmbedder",),
    "unclip.errors": (
        *("BundleError", "CheckpointError", "DataError", "DownloadError", "InputError", "Interrupted"),
        *("PolicyError", "SearchError", "TrainingError", "UnclipError", "UnclipWarning"),
    ),
    "unclip.given": ("Given", "Inversion", "Known"),
    "unclip.manipulate.latents": ("Latents",),
    "unclip.model": ("Model", "load"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

_PARTS = ("search",)  # of the package, with names of their own

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "ClipEmbedder",
    "DataError",
    "DownloadError",
    "Event",
    "Given",
    "InputError",
    "Interrupted",
    "Inversion",
    "Job",
    "Known",
    "Latents",
    "Model",
    "Options",
    "Picture",
    "PolicyError",
    "SearchError",
    "TrainingError",
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
