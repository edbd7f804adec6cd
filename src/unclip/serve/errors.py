"""An answer that is an error, in the API's form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from unclip.errors import InputError, PolicyError, UnclipError
from unclip.serve.worker import Cancelled, OutOfMemory

BROKEN = re.compile(r"is broken: .*", re.DOTALL)
INVALID = "invalid_request_error"


class ApiError(Exception):
    """An answer that is an error, in the API's form.

    Attributes:
        status: of HTTP.
        message: for a person.
        param: the field that is wrong.
        code: for a program.
        type: the API's kind of error.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.type = type or (INVALID if status < 500 else "server_error")
        self.headers, self.more = dict(headers or {}), dict(more or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """One from another process reads the keywords, too."""
        keywords = {name: getattr(self, name) for name in ("param", "code", "type", "headers", "more")}
        return partial(type(self), **keywords), (self.status, self.message)

    @property
    def document(self) -> dict[str, Any]:
        """The body, with all four keys, as clients expect it."""
        four = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": four | self.more}

    @classmethod
    def of(cls, error: Exception, params: Sequence[str] = ()) -> ApiError:
        """The words a client is told of an error; of one that is not ours, nothing but that it happened."""
        match error:
            case ApiError():
                return error
            case PolicyError():
                return cls(400, str(error), param=error.part, code="content_policy_violation")
            case InputError():
                message = plain(str(error))
                return cls(400, message, param=_named_in(message, params), code="invalid_value")
            case Cancelled():
                return cls(499, "the job was cancelled", code="cancelled")
            case OutOfMemory():
                return cls(500, str(error), code="out_of_memory", headers={"x-should-retry": "false"})
            case UnclipError():
                return cls(500, "the model cannot be used: see the server's log", code="model_error")
            case _:
                return cls(500, "the server failed: see its log", code="internal_error")


def _named_in(message: str, params: Sequence[str]) -> str | None:
    """The field that a message of `unclip` is about: the first that it names."""
    words = re.findall(r"\w+", message)
    return next((word for word in words if word in params), None)


def plain(message: str) -> str:
    """A message of `unclip` without what a decoder says, which may tell of the server's memory."""
    return BROKEN.sub("is broken", message)
