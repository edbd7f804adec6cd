"""The DALL-E family as one package.

    import unclip

    model = unclip.load()
    for picture in model.generate("a red apple", n=4, size=256, seed=0):
        picture.save("apple.png")

The public names are loaded when they are first used: `import unclip` loads neither torch nor numpy. Imported
before torch it has torch's threads sleep soon while they wait (`runtime.limit_spinning`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unclip.runtime import limit_spinning, no_collections

if TYPE_CHECKING:
    from unclip import provenance, search
    from unclip.bundle import Bundle
    from unclip.classify import Classifier
    from unclip.drawing import Event, Job, Options, Picture
    from unclip.embedding import ClipEmbedder, TextRows
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
    from unclip.given import Given, Inversion, InvertedNoise, Kind, Known, NoisedPicture, Styled, Upper
    from unclip.images import ImageFormat
    from unclip.manifest import Preprocessing
    from unclip.manipulate.latents import Latents
    from unclip.manipulate.principal_components import Basis
    from unclip.manipulate.variations import Start
    from unclip.model import FillingIn, Model, load
    from unclip.models.code_sampling import CodeSampling
    from unclip.record import Record
    from unclip.xmp import SourceType

__version__ = "0.1.0"

limit_spinning()  # here, for torch reads the setting when it is loaded

# Where each public name is; docs/python.md says what it is.
_NAMES = {
    "unclip.bundle": "Bundle",
    "unclip.manifest": "Preprocessing",
    "unclip.classify": "Classifier",
    "unclip.drawing": "Event Job Options Picture",
    "unclip.embedding": "ClipEmbedder TextRows",
    "unclip.errors": (
        "BundleError CheckpointError DataError DownloadError InputError Interrupted "
        "PolicyError SearchError TrainingError UnclipError UnclipWarning"
    ),
    "unclip.given": "Given InvertedNoise Inversion Kind Known NoisedPicture Styled Upper",
    "unclip.images": "ImageFormat",
    "unclip.manipulate.latents": "Latents",
    "unclip.manipulate.principal_components": "Basis",
    "unclip.manipulate.variations": "Start",
    "unclip.model": "FillingIn Model load",
    "unclip.models.code_sampling": "CodeSampling",
    "unclip.xmp": "SourceType",
    "unclip.record": "Record",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

_PARTS = ("provenance", "search")  # of the package, with names of their own

__all__ = [
    "Basis",
    "Bundle",
    "BundleError",
    "CheckpointError",
    "Classifier",
    "ClipEmbedder",
    "CodeSampling",
    "DataError",
    "DownloadError",
    "Event",
    "FillingIn",
    "Given",
    "ImageFormat",
    "InputError",
    "Interrupted",
    "Inversion",
    "InvertedNoise",
    "Job",
    "Kind",
    "Known",
    "Latents",
    "Model",
    "NoisedPicture",
    "Options",
    "Picture",
    "PolicyError",
    "Preprocessing",
    "Record",
    "SearchError",
    "SourceType",
    "Start",
    "Styled",
    "TextRows",
    "TrainingError",
    "UnclipError",
    "UnclipWarning",
    "Upper",
    "__version__",
    "load",
    "provenance",
    "search",
]


def __getattr__(name: str) -> Any:  # PEP 562
    if name in _PARTS:
        return importlib.import_module(f"unclip.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'unclip' has no attribute {name!r}: it has {', '.join(__all__)}")
    with no_collections():
        value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
