"""Reads a picture once, in a process that may die of it, for all that an index keeps of it."""

from __future__ import annotations

import hashlib
import io
import signal
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from unclip.errors import InputError, SearchError
from unclip.images import Fitting, fit, header, on_white, open_image
from unclip.processes import Contained, ContainedPool, Died, NotStarted, contained_pool
from unclip.search.near import SIGNATURE_SIDE

MEMORY = 3 * 2**29  # bytes of addresses of a reading process
SECONDS = 30  # of processor time for a picture; 50 megapixels take 2
MOST_BYTES = 256 * 2**20  # of a file
HASH_BYTES = 16
THUMBNAIL = 256  # pixels of the longer side
THUMBNAIL_QUALITY = 80  # of JPEG: about 10 kB
UNREADABLE = "cannot be read"  # how a reason begins that may be gone the next time
EXIF_DATE = "%Y:%m:%d %H:%M:%S"  # EXIF 2.32, DateTimeOriginal


@dataclass(frozen=True)
class Job:
    """A file to be read.

    Attributes:
        path: where it is.
        known: hashes of pictures of the same length in bytes; the pixels of those are not read again.
        size, how: the square that the model takes, see `images.fit`.
    """

    path: Path
    known: tuple[bytes, ...]
    size: int
    how: Fitting


@dataclass(frozen=True)
class Pixels:
    """The parts of a picture that are kept.

    Attributes:
        square: uint8 (S, S, 3), what the model sees.
        thumbnail: JPEG.
        signature: see `near`.
        width, height: of the picture as it is shown.
        date: when it was taken, `YYYY-MM-DDTHH:MM:SS` by the camera's clock; None where EXIF does not say.
    """

    square: np.ndarray
    thumbnail: bytes
    signature: bytes
    width: int
    height: int
    date: str | None


@dataclass(frozen=True)
class Reading:
    """A file that was read: hash of its bytes, pixels unless the hash is known; or the reason why not."""

    hash: bytes = b""
    pixels: Pixels | None = None
    reason: str | None = None


def readers(workers: int) -> AbstractContextManager[ContainedPool]:
    """A pool of processes that read, for `read_all`: a picture may end one, and the next one is read."""
    return contained_pool("unclip.search.reading:read", MEMORY, workers)


def read_all(jobs: Sequence[Job], pool: ContainedPool) -> list[Reading]:
    """Read files in one process of a pool, each as `read` does.

    Raises:
        SearchError: a process cannot start.
    """
    reader = pool.free.get()
    try:
        return [_contained(job, reader) for job in jobs]
    except NotStarted as error:
        raise SearchError(f"a reading process cannot start: {error}") from error
    finally:
        pool.free.put(reader)


def _contained(job: Job, reader: Contained) -> Reading:
    try:
        reading: Reading = reader(job, seconds=SECONDS)
        return reading
    except Died as death:
        if death.signal == signal.SIGXCPU:
            return Reading(reason=f"is broken: to read it takes more than {SECONDS} s")
        if death.signal in (signal.SIGKILL, signal.SIGTERM):  # for want of memory, perhaps, which passes
            return Reading(reason=f"{UNREADABLE}: the process that read it was killed")
        return Reading(reason="is broken: to read it ends the process")


def read(job: Job) -> Reading:
    """Read one file; what is wrong with it is the reading's reason."""
    try:
        length = job.path.stat().st_size
        if length > MOST_BYTES:
            return Reading(reason=f"has {length / 2**20:.0f} MiB, more than {MOST_BYTES // 2**20}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about what it makes of half-broken files
            return _read(job)
    except InputError as error:
        return Reading(reason=str(error).removeprefix(f"{job.path} ").removeprefix("the picture "))
    except OSError as error:
        return Reading(reason=f"{UNREADABLE}: {error.strerror or error}")


def _read(job: Job) -> Reading:
    width, height, exif = header(job.path)  # what is no picture is not read to its end
    content = job.path.read_bytes()
    digest = hashlib.blake2b(content, digest_size=HASH_BYTES).digest()
    if digest in job.known:
        return Reading(digest)
    least = max(2 * job.size, THUMBNAIL)
    image = on_white(open_image(io.BytesIO(content), at_least=least, first_frame=True))
    return Reading(digest, _pixels(image, job, width, height, _date(exif)))


def _pixels(image: Image.Image, job: Job, width: int, height: int, date: str | None) -> Pixels:
    square = np.asarray(fit(image, job.size, job.how))  # (S, S, 3)
    small = image.resize((SIGNATURE_SIDE, SIGNATURE_SIDE), Image.Resampling.BOX)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return Pixels(square, buffer.getvalue(), small.tobytes(), width, height, date)


def _date(exif: Image.Exif) -> str | None:
    try:
        text = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        return datetime.strptime(str(text).strip("\0 "), EXIF_DATE).isoformat() if text else None
    except Exception:  # cameras and editors write much that is no date
        return None
