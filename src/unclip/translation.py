"""Prompts put through a program of one's own, for models that read other languages than one's own."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from unclip.errors import InputError, UnclipError, shown

Translate = str | Sequence[str] | Callable[[str], str]
"""A command, as one text or as its words, or a function from a text to a text."""

SECONDS = 300.0  # a program may have to load a model of its own
LONGEST_ANSWER = 2**20  # bytes; a program that goes on and on is stopped
LONGEST = 2000  # characters of a translation: with the prompt it still fits a picture's metadata
LAST_WORDS = 4000  # bytes of what it says on stderr that are kept
PIECE = 2**16


@dataclass(frozen=True)
class Translator:
    """Puts texts through a program, or a function.

    The program is started once for all texts. It gets them on stdin, one a line, in UTF-8, and writes as many
    lines to stdout. No shell reads the command: `sh -c '...'` asks for one.

    Attributes:
        translate: see `Translate`.
        seconds: how long the program may take.

    Raises:
        InputError: a command that is empty, has a quote that is not closed, or names no program.
    """

    translate: Translate
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if callable(self.translate):
            return
        if not self.words:
            raise InputError("the command to translate by is empty: give a program that reads stdin")
        if shutil.which(self.words[0]) is None:
            raise InputError(f"{self.name} is no program that is here; a shell is had by sh -c '...'")

    @property
    def words(self) -> list[str]:
        """The command's words; none of a function."""
        if callable(self.translate):
            return []
        if not isinstance(self.translate, str):
            return [str(word) for word in self.translate]
        try:
            return shlex.split(self.translate)
        except ValueError as error:
            raise InputError(f"the command {self.translate!r} cannot be read: {str(error).lower()}") from None

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The translation of each text.

        Raises:
            InputError: the program cannot be run.
            UnclipError: it failed, took too long, or did not give one line for each text.
        """
        if callable(self.translate):
            found = [self.translate(text) for text in texts]
        else:
            found = self._lines([" ".join(text.split()) for text in texts])
        for text, translated in zip(texts, found, strict=True):
            if not isinstance(translated, str) or not translated.strip():
                raise UnclipError(f"{self.name} gave {shown(translated)} for {shown(text)}: no text to draw")
            if len(translated) > LONGEST:
                raise UnclipError(
                    f"{self.name} gave {len(translated)} characters for {shown(text)}: at most {LONGEST} are "
                    "allowed"
                )
        return [translated.strip() for translated in found]

    @property
    def name(self) -> str:
        """The name that messages call it by."""
        return f"the translator {self.words[0]!r}" if self.words else "the translator"

    def _lines(self, texts: list[str]) -> list[str]:
        code, answer, said = self._run("".join(f"{text}\n" for text in texts).encode())
        if code:
            raise UnclipError(f"{self.name} failed with exit code {code}: {said or 'it does not say why'}")
        try:
            lines = answer.decode("utf-8-sig").strip().splitlines()
        except UnicodeDecodeError as error:
            raise UnclipError(f"{self.name} did not write UTF-8 text") from error
        if len(texts) == 1:  # it may break its line
            return [" ".join(lines)]
        if len(lines) != len(texts):
            raise UnclipError(
                f"{self.name} wrote {len(lines)} lines for {len(texts)} prompts: it must write one for each"
            )
        return lines

    def _run(self, given: bytes) -> tuple[int, bytes, str]:
        """Exit code, what it wrote to stdout, and the last line that it wrote to stderr."""
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given)
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    self.words,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # what it starts itself ends with it
                )
            except OSError as error:
                raise InputError(f"{self.name} cannot be run: {error.strerror or error}") from error
        try:
            answer, last = self._heard(process)
            return process.wait(self.seconds), answer, last
        except subprocess.TimeoutExpired as error:
            raise self._late() from error
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _heard(self, process: subprocess.Popen[bytes]) -> tuple[bytes, str]:
        """Read stdout and stderr to their ends."""
        assert process.stdout is not None  # both are pipes
        assert process.stderr is not None
        answer, last, end = b"", b"", time.monotonic() + self.seconds
        with process.stdout, process.stderr, selectors.DefaultSelector() as waiting:
            for stream in (process.stdout, process.stderr):
                waiting.register(stream, selectors.EVENT_READ)
            while waiting.get_map():
                ready = waiting.select(max(0.0, end - time.monotonic()))
                if not ready:
                    raise self._late()
                for key, _ in ready:
                    piece = os.read(key.fd, PIECE)
                    if not piece:
                        waiting.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        answer += piece
                    else:
                        last = (last + piece)[-LAST_WORDS:]
                if len(answer) > LONGEST_ANSWER:
                    raise UnclipError(f"{self.name} wrote more than {LONGEST_ANSWER} bytes and was stopped")
                if time.monotonic() > end:
                    raise self._late()
        return answer, next(reversed(last.decode("utf-8", "replace").strip().splitlines()), "")

    def _late(self) -> UnclipError:
        return UnclipError(f"{self.name} took more than {self.seconds:g} seconds and was stopped")
