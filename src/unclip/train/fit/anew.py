"""Training from nothing, `--from none`: what a folder must have for it, said before anybody waits for it."""

from __future__ import annotations

from pathlib import Path

from unclip.errors import InputError
from unclip.train.fit.corpus import Folder

ANEW = "none"  # in place of the name of a bundle
# The smallest corpus that a bundle which draws known things was trained on from nothing, and its time on two
# threads: the first of the trainings in the card of the shipped bundle, all stages together.
KNOWN_PICTURES, KNOWN_HOURS = 35_602, 2.5
LEAST_ANEW = 10_000  # pictures; fewer a network of that size learns by heart


def refuse(folder: Folder, sources: str, out: Path) -> InputError:
    """The reason why a fit does not begin from nothing, and what to do."""
    known = (
        f"the shipped bundle, which knows simple drawings and nothing else, took {KNOWN_PICTURES:,} "
        "pictures and "
        f"{KNOWN_HOURS:g} hours of two threads"
    )
    if folder.pictures < LEAST_ANEW:
        return InputError(
            f"--from none cannot work with {folder.pictures:,} pictures: {known}, and fewer than "
            f"{LEAST_ANEW:,} are "
            f"learned by heart. Leave --from out, and what pictograms knows is built on: unclip fit {sources}"
        )
    return InputError(
        f"--from none: {folder.pictures:,} pictures may be enough ({known}; photographs take far more than "
        "that, and "
        "are not what its networks are made for). A fit trains on what is there; from nothing all stages "
        "are trained "
        f"by unclip train pictograms --data {folder.corpus} --out {out}"
    )
