"""The way in which pictures are fetched, and how their owners say no: by lists, and by headers of answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unclip import __version__
from unclip.errors import InputError

AGENT = "unclip"  # as robots.txt calls us
USER_AGENT = f"{AGENT}/{__version__} (pictures for training; X-Robots-Tag noai is honoured)"
REFUSING = ("noai", "noimageai", "noindex", "noimageindex", "none")  # of X-Robots-Tag
THREADS = 32


@dataclass(frozen=True)
class Manners:
    """The way in which pictures are fetched.

    Attributes:
        most_bytes: of one picture.
        seconds: for one picture, all tries and redirects together.
        tries: of one address, while it fails in a way that may pass.
        pause: seconds before the second try, doubled before each other one.
        private: addresses of private networks, and of this machine, may be asked.
        robots: robots.txt and headers are obeyed; off for a site of one's own.
        opted_out: names of hosts, with all below them, and addresses of pictures that are not fetched.
        threads: pictures that are fetched at once.
    """

    most_bytes: int = 20_000_000
    seconds: float = 30.0
    tries: int = 3
    pause: float = 0.5
    private: bool = False
    robots: bool = True
    opted_out: frozenset[str] = frozenset()
    threads: int = THREADS


GOOD = Manners()


def read_opt_outs(paths: Iterable[Path]) -> frozenset[str]:
    """The entries of opt-out lists: an address or a host a line, `#` before what is no entry.

    Raises:
        InputError: a list cannot be read.
    """
    entries = set[str]()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the opt-out list {path}: {error}") from error
        for line in lines:
            entry = line.partition("#")[0].strip() if not line.strip().startswith("http") else line.strip()
            if entry:
                entries.add(entry if "://" in entry else entry.removeprefix("*.").rstrip(".").casefold())
    return frozenset(entries)


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The header by which an answer says that it is not to be learned from; "" where there is none.

    `X-Robots-Tag` may name whom it is for: "unclip: noai".
    """
    for name, value in headers:
        text = value.decode("latin-1").strip().casefold()
        if name.lower() == b"tdm-reservation" and text == "1":
            return "tdm-reservation: 1"
        if name.lower() == b"x-robots-tag":
            agent, colon, directives = text.partition(":")
            if colon and agent.strip() not in (AGENT, "*", "unavailable_after"):
                continue
            for directive in (directives if colon else text).split(","):
                if directive.strip() in REFUSING:
                    return f"X-Robots-Tag: {directive.strip()}"
    return ""
