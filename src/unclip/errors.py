"""The one tree of errors. A message says what was got, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class UnclipError(Exception):
    """Anything that goes wrong in `unclip` and that its user can understand.

    `exit_code` is what the command line ends with: 1 failed, 2 wrong usage, 3 refused by policy,
    130 interrupted.
    """

    exit_code: ClassVar[int] = 1


class InputError(UnclipError, ValueError):
    """An option, a setting, a prompt or a picture that was handed in is not allowed."""

    exit_code: ClassVar[int] = 2


class BundleError(UnclipError):
    """A bundle is missing, incomplete or altered."""


class CheckpointError(UnclipError):
    """A checkpoint is missing, or its tensors do not fit the model."""


class DownloadError(UnclipError):
    """A published model cannot be fetched; the message says what to do by hand."""


class DataError(UnclipError):
    """A corpus, an archive or a manifest cannot be used."""


class SearchError(UnclipError):
    """An index of pictures is missing, damaged, busy or made with another model."""


class TrainingError(UnclipError):
    """A training run cannot start, go on or be resumed."""


class Interrupted(UnclipError):
    """Ctrl-C or a signal ended the work in good order; the message says how to go on."""

    exit_code: ClassVar[int] = 130


class PolicyError(UnclipError):
    """The content policy refuses a request."""

    exit_code: ClassVar[int] = 3


class UnclipWarning(UserWarning):
    """Something that its user should know and that does not stop the work."""


def listed(values: Iterable[object]) -> str:
    """Values for a message, "a, b, c"."""
    return ", ".join(map(str, values))
