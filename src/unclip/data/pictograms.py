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
from unclip.data.records import SCENES, STORED_SIZE, Drawing
from unclip.data.scenes import STYLES, things
from unclip.data.scenes import scenes as scenes_of
from unclip.data.sources import EMOJIBASE, SOURCES, Source, load_names
from unclip.errors import DataError
from unclip.runtime import check_writable, folder_lock

LARGE = 4000
VERSION = "2"  # of the drawing: a change makes half-built corpora start anew
SCENES_VERSION = "1"  # the same for the scenes of a corpus
FETCH = (("npm", "emojibase-data@17.0.0", EMOJIBASE),)


def build_pictograms(
    out: Path,
    *,
    archives: Path | None = None,
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = LARGE,
    scenes: int = 0,
    sources: Sequence[Source] = SOURCES,
) -> Iterator[Progress]:
    """Builds the pictograms corpus in `out`, yielding its progress.

    Args:
        archives: a folder of packages fetched before; without it they are fetched into `out/archives`.
        size: pixels of a picture's side.
        workers: processes that draw.
        large: how many pictures of the train split are also drawn at 1024 px.
        scenes: how many pictures are put together of others, for the train split (`data.scenes`).

    Raises:
        DataError: a package is missing and cannot be fetched, or cannot be read.
    """
    if archives is None:
        archives = out / ARCHIVES
        check_writable(out)
        with folder_lock(
            archives, DataError(f"another process fetches into {archives}: wait until it is done")
        ):
            yield from fetch(archives, sources)
    elif not archives.is_dir():
        raise DataError(
            f"no folder {archives}: name a folder of packages, or leave --archives out to fetch them"
        )
    missing = [pattern for _, _, pattern in wanted(sources) if not any(archives.glob(pattern))]
    if missing:
        raise DataError(f"{archives} lacks {', '.join(missing)}: fetch them, or leave --archives out")
    names = load_names(archives, tuple(sources))
    inputs = [
        Input(source.name, partial(source.drawings, archives, names), source.test_only) for source in sources
    ]
    if scenes:
        inputs.append(Input(SCENES, partial(_scenes, archives, names, sources, scenes)))
    yield from build(
        out,
        inputs,
        size=size,
        workers=workers,
        large=large,
        fingerprint=fingerprint(archives, sources, scenes),
        title="The pictograms corpus",
        groups=names.groups,
    )


def _scenes(archives: Path, names: EmojiNames, sources: Sequence[Source], count: int) -> Iterator[Drawing]:
    """Scenes of what the sources have as SVG."""
    drawings = (
        drawing
        for source in sources
        if source.style in STYLES and not source.test_only
        for drawing in source.drawings(archives, names)
    )
    yield from scenes_of(things(drawings, names.groups), count)


def wanted(sources: Sequence[Source] = SOURCES) -> list[tuple[str, str, str]]:
    """(client, package, pattern of the archive's name) of all that is needed, each once."""
    return list(dict.fromkeys([*FETCH, *((*source.fetch, source.pattern) for source in sources)]))


def fetch(folder: Path, sources: Sequence[Source] = SOURCES) -> Iterator[Progress]:
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


def fingerprint(archives: Path, sources: Sequence[Source], scenes: int = 0) -> str:
    """Changes when an archive, the list of sources or the way of drawing does."""
    digest = hashlib.blake2b(VERSION.encode(), digest_size=16)
    for _, _, pattern in wanted(sources):
        path = find(archives, pattern)
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    if scenes:
        digest.update(f"scenes {SCENES_VERSION} {scenes}".encode())
    return digest.hexdigest()
