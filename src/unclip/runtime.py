"""The machine: devices, precision, noise streams, files written whole or not at all, memory."""

from __future__ import annotations

import ctypes
import errno
import gc
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclip.errors import InputError, UnclipError, UnclipWarning

if TYPE_CHECKING:
    import torch

NOISE_STREAM = (
    "unclip-noise-1"  # part of every noise seed; a new number would change every picture of every seed
)
SPINS = "10000"  # some tens of microseconds
PRECISIONS = ("float32", "bfloat16", "float16")
LOCK = ".lock"
TEMPORARY = re.compile(
    r"\..+\.[0-9a-f]{8}(\.[^.]+)?"
)  # a name that `atomic_path` gives until a file is whole
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system that has none
NEXT_TO_NOTHING = 2**20  # bytes: with less free space a write that failed failed for want of it


def pick_device(name: str | None = None) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"), or CUDA where there is one and else the CPU.

    Raises:
        InputError: the name is not a device, or this machine does not have it.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}: choose cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' is not there: choose cpu or cuda")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r} is not supported: choose cpu, cuda, cuda:N or mps")
    return device


def pick_precision(device: torch.device, name: str | None = None) -> torch.dtype:
    """The dtype for autocast: the one called `name`, or bfloat16 where `device` computes in it, or float32.

    Raises:
        InputError: the name is none of float32, bfloat16 and float16.
    """
    import torch

    if name is None:
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name not in PRECISIONS:
        raise InputError(f"unknown precision {name!r}: choose {', '.join(PRECISIONS)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _has_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # PyTorch accepts bfloat16 on any CPU; without these instructions it is slower than float32.
        try:
            flags = set(Path("/proc/cpuinfo").read_text().split())
        except OSError:
            return False
        return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
    return False


@cache
def has_tiles() -> bool:
    """True where the processor multiplies tiles of bfloat16 (AMX), and other ways of computing are faster."""
    import torch

    return torch.cpu._is_amx_tile_supported()


def autocast(
    device: torch.device, dtype: torch.dtype, *, keeps: bool = True
) -> AbstractContextManager[object]:
    """Runs matrix products in `dtype`; with float32 it changes nothing (and ends an outer autocast).

    With `keeps` the weights in `dtype` stay in memory to the end, so that none is made twice.
    """
    import torch

    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=keeps)


def has_contents(tensor: torch.Tensor) -> bool:
    """False for a tensor that is a shape alone (torch's FakeTensor): nobody can look at its numbers."""
    from torch._subclasses.fake_tensor import FakeTensor

    return not isinstance(tensor, FakeTensor)


@contextmanager
def own_defaults(exact: bool = False) -> Iterator[None]:
    """While it lasts torch makes float32 on the CPU where nothing is said, whatever its user has set.

    With `exact` it computes on one thread, too, and shortens no float32 within a product: sums are then added
    up in one order, whatever the number of cores. It must not span a `yield` of a generator that its user
    reads.
    """
    import torch

    dtype = torch.get_default_dtype()
    with ExitStack() as settings:
        if dtype is not torch.float32 or torch.get_default_device().type != "cpu":
            torch.set_default_dtype(torch.float32)
            settings.callback(torch.set_default_dtype, dtype)
            settings.enter_context(torch.device("cpu"))
        if exact:
            settings.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            for backend, name, value in _exact_backends():
                settings.callback(setattr, backend, name, getattr(backend, name))
                setattr(backend, name, value)
        yield


def _exact_backends() -> Iterator[tuple[Any, str, Any]]:
    """The settings of torch's backends that let rounding differ: where, by which name, the exact value."""
    from torch import backends

    for library, kind in (("cuda", "matmul"), ("cudnn", "conv"), ("mkldnn", "matmul"), ("mkldnn", "conv")):
        yield getattr(getattr(backends, library), kind), "fp32_precision", "ieee"
    yield backends.cudnn, "deterministic", True
    yield backends.cudnn, "benchmark", False


def machine_of_bits(device: torch.device) -> str:
    """The names of all that the bits of an exact picture depend on beside its settings.

    The processor, the instructions that torch and oneDNN may use of it (both can be limited by an environment
    variable), and torch's version: "AMD EPYC, AVX512, torch 2.13.0+cpu".
    """
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    parts = [processor_name(), torch.backends.cpu.get_cpu_capability()]
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA"):
        parts.append(f"oneDNN up to {limit}")
    return ", ".join([*parts, f"torch {torch.__version__}"])


def limit_spinning() -> None:
    """Has OpenMP's threads sleep soon while they wait; to be called before torch is imported.

    By default libgomp lets them spin for milliseconds. Beside other busy programs they then keep each other
    from running: four pictures of 256 px on two cores that twenty programs wanted took 2.6 and 5.1 times as
    long, at 2.3 and 5.6 times the processor time. What the environment says comes first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def check_writable(folder: str | Path, advice: str = "choose another folder") -> None:
    """Refuse a folder that no file can be written into, before work is done for it.

    One that is not there is judged by the nearest above it that is. Nothing is made.

    Raises:
        InputError: it cannot be written into; the message ends in `advice`.
    """
    place = Path(folder).absolute()
    try:
        there = next(path for path in (place, *place.parents) if _is_there(path))
        if not there.is_dir():
            raise InputError(f"cannot write into {folder}: {there} is not a folder; {advice}")
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        reason = (error.strerror or "it is not writable").lower()
        raise InputError(f"cannot write into {folder}: {reason}; {advice}") from error


def _is_there(path: Path) -> bool:
    """As `Path.exists`, but a link that leads nowhere is there, and what cannot be told is an OSError."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix) to write a file or a folder to.

    When the block ends well it takes the name `path`; when it fails nothing is left behind. Missing parent
    folders are made. A folder cannot replace one that has something in it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if (
            temporary.is_file()
        ):  # on the disk before the name is: a power cut must not leave an empty checkpoint
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def folder_lock(folder: Path, busy: UnclipError | None) -> Iterator[None]:
    """Held by the one process that may write into a folder; a process that is killed loses it.

    It is a lock on the file `.lock` in it, which is made, and removed at the end. A file system without locks
    lets everybody in, with a warning. Temporary files of a process that was killed are removed (`sweep`).

    Args:
        folder: made where it is missing.
        busy: raised where another process holds the lock; None waits until it is free.

    Raises:
        OSError: the folder cannot be written into.
    """
    import fcntl  # not there on Windows

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            # another process may have removed the file that was opened, and made a new one
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                break
        except BlockingIOError:
            os.close(handle)
            assert busy is not None  # else it waits
            raise busy from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(handle)
                raise
            text = (
                f"{folder} lies on a file system without locks: see to it that no other process writes there"
            )
            warnings.warn(text, UnclipWarning, stacklevel=3)
            break
        os.close(handle)
    try:
        sweep(folder)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what `atomic_path` had begun in a folder, for processes that were killed."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def write_failure(error: Exception, folder: Path) -> str:
    """The reason why a file could not be written into a folder, of a full disk however a library tells it."""
    earlier: BaseException | None = error
    while earlier is not None:  # torch.save ends with another error than it began with
        if isinstance(earlier, OSError) and earlier.errno:
            return os.strerror(earlier.errno).lower()
        earlier = earlier.__cause__ or earlier.__context__
    with suppress(OSError):
        place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        if shutil.disk_usage(place).free < NEXT_TO_NOTHING:
            return os.strerror(errno.ENOSPC).lower()
    return f"{error}; the disk may be full"


def reserve(path: Path) -> None:
    """Has the disk keep room for all of a file that has holes: then to write a map of it cannot fail.

    On a full disk a process that writes a map of a file is ended by SIGBUS, without a word.

    Raises:
        OSError: the disk has no room for it.
    """
    if hasattr(os, "posix_fallocate"):  # macOS lacks it
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def noise_seed(seed: int, index: int, stage: str) -> int:
    """The 63-bit seed of a picture's stage: the same on every platform and in every version."""
    digest = hashlib.sha256(f"{NOISE_STREAM}/{seed}/{index}/{stage}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def noise_generator(seed: int, index: int, stage: str) -> torch.Generator:
    """The CPU generator that picture `index` of `seed` draws all the noise of `stage` from.

    One stream a picture and stage: so a picture does not depend on the batch it is drawn in, and a stage not
    on how much noise the stages before it took.
    """
    import torch

    return torch.Generator("cpu").manual_seed(noise_seed(seed, index, stage))


def peak_memory_bytes() -> int:
    """The most memory that this process has held at one time (resident set), in bytes.

    It is 0 where the system does not tell (Windows).
    """
    try:  # getrusage would also count what the process that started this one held
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def no_collections() -> Iterator[None]:
    """Collects no garbage meanwhile: importing torch makes a million objects, all of which stay, and Python's
    collections, which look at each of them anew, take a seventh of the time to import it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else what another has frozen would thaw
            gc.freeze()  # this and the next line make the new objects old ones, which are seldom looked at
            gc.unfreeze()
        if collects:
            gc.enable()


def return_freed_memory() -> None:
    """Has the C library hand what was freed back to the system: glibc keeps it for what may come next."""
    with suppress(AttributeError, OSError, TypeError):  # another C library has no such thing
        ctypes.CDLL(None).malloc_trim(0)


def processor_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def data_folder() -> Path:
    """The user's folder for corpora and bundles: $XDG_DATA_HOME/unclip, by default ~/.local/share/unclip."""
    return _user_folder("XDG_DATA_HOME", Path(".local") / "share")


def cache_folder() -> Path:
    """The user's folder for what can be fetched again: $XDG_CACHE_HOME/unclip, by default ~/.cache/unclip."""
    return _user_folder("XDG_CACHE_HOME", Path(".cache"))


def _user_folder(variable: str, usual: Path) -> Path:
    base = os.environ.get(variable, "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / usual) / "unclip"


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
