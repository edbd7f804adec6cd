"""Lists the licences of what unclip installs: `tools/licences.py [EXTRA ...]`, of all extras without one.

A line a library, of those that are installed in the environment that runs this: name, version, licence, and
which extras bring it. Ends with 1 where a licence is unknown or not in `ALLOWED`: somebody has to read it.
Metadata know nothing of programs within a wheel; docs/dependencies.md does. `make licences` calls it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = "unclip"
LEFT_OUT = ("dev", "teacher")  # never needed to draw, train or serve
# Words of SPDX expressions and of classifiers that may stand in a licence here.
ALLOWED = re.compile(
    r"\b(0BSD|Apache|BSD|CC0|CNRI-Python|HPND|ISC|MIT|MIT-0|MIT-CMU|MPL|Mozilla Public License|"
    r"PSF|Python Software Foundation|Unlicense|Zlib|BSL-1\.0)\b",
    re.IGNORECASE,
)
REFUSED = re.compile(r"\b(A?GPL|Affero|General Public License|NonCommercial|Proprietary|SSPL)", re.IGNORECASE)
LESSER = re.compile(r"\b(LGPL|Lesser General Public License)", re.IGNORECASE)
# Libraries whose metadata do not say it, by how their names begin, as their own files do.
READ = {
    "resvg-py": "MIT",
    "nvidia": "NVIDIA's own (CUDA EULA)",  # PyTorch's builds with CUDA bring them
    "cuda": "NVIDIA's own (CUDA EULA)",
}


def main(extras: list[str]) -> int:
    known = distribution(OWN).metadata.get_all("Provides-Extra") or []
    if unknown := [extra for extra in extras if extra not in known]:
        print(f"no extra {', '.join(unknown)}: choose {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = extras or [extra for extra in known if extra not in LEFT_OUT]
    found = closure(chosen)
    doubtful = 0
    for name in sorted(found):
        one = distribution(name)
        licence = licence_of(one)
        good = is_allowed(licence)
        doubtful += not good
        mark = "  " if good else "? "
        brought = ", ".join(sorted(found[name] - {""})) if "" not in found[name] else ""
        print(f"{mark}{name:28} {one.version:18} {licence:44} {brought}".rstrip())
    if missing := not_installed(chosen):
        print(f"not installed here, and so not listed: {', '.join(missing)}", file=sys.stderr)
    if doubtful:
        print(f"{doubtful} with `?` are to be read by somebody", file=sys.stderr)
    return 1 if doubtful else 0


def closure(extras: Iterable[str]) -> dict[str, set[str]]:
    """The installed distributions that unclip needs, and by which of its extras; "" is by itself."""
    found: dict[str, set[str]] = {}
    for extra in ("", *extras):
        waiting = [(OWN, frozenset({extra} - {""}))]
        seen = set(waiting)
        while waiting:
            name, wanted = waiting.pop()
            try:
                requirements = distribution(name).requires or []
            except PackageNotFoundError:
                continue  # of another system, or not installed
            if name != OWN:
                found.setdefault(name, set()).add(extra)
            for requirement in map(Requirement, requirements):
                for one in wanted or {""}:
                    if requirement.marker is None or requirement.marker.evaluate({"extra": one}):
                        step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                        if name == OWN and requirement.marker is None and extra:
                            continue  # listed with what unclip needs by itself
                        if step not in seen:
                            seen.add(step)
                            waiting.append(step)
    return found


def not_installed(extras: Iterable[str]) -> list[str]:
    """The direct requirements of unclip and of its extras that are not installed here."""
    found = []
    for requirement in map(Requirement, distribution(OWN).requires or []):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras):
            try:
                distribution(requirement.name)
            except PackageNotFoundError:
                found.append(requirement.name)
    return found


def licence_of(one: Distribution) -> str:
    """The licence as its metadata say it: an SPDX expression, else classifiers, else a short text."""
    for prefix, read in READ.items():
        if canonicalize_name(one.name).startswith(prefix):
            return read
    metadata = one.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classified = [
        line.split(" :: ")[-1].removesuffix(" License")
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    if classified:
        return "; ".join(classified)
    text = (metadata.get("License") or "").strip()
    first = text.splitlines()[0] if text else ""
    return first[:60] if first else "unknown"


def is_allowed(licence: str) -> bool:
    """Is it a licence that unclip's users have no trouble with?"""
    if any(licence == read for read in READ.values()):
        return True
    if REFUSED.search(licence) and not LESSER.search(licence):
        return " or " in licence.lower() and ALLOWED.search(licence) is not None
    return LESSER.search(licence) is not None or ALLOWED.search(licence) is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
