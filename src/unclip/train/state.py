"""The files of a run: checkpoints to go on from, and the weights that come out of it."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn

from unclip.errors import TrainingError, UnclipWarning
from unclip.native import save_model
from unclip.runtime import atomic_path, sha256, write_failure

FORMAT = 2  # of the checkpoints; in 1 a batch was drawn by a process, and would be another one today
CHECKPOINTS = "checkpoints"
FINAL = "final"
PREVIEWS = "previews"
FOLDERS = (CHECKPOINTS, FINAL, PREVIEWS)  # of a stage
NEXT = "next.pt"  # a checkpoint that has no name yet
SHARES = "shares"  # the end of the name of a checkpoint that several processes wrote, each its shares
NEXT_SHARES = "next-shares"  # one of those that has no name yet
ABOUT = "about.json"  # in it: all that is no tensor, and the sizes of the other files
# step, first digits of the file's SHA-256
NAME = re.compile(rf"step-(\d{{9}})-(?:([0-9a-f]{{12}})\.pt|{SHARES})")


def checkpoint_paths(out: Path) -> list[Path]:
    """The run's checkpoints, the newest first, whole or not."""
    folder = out / CHECKPOINTS
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if NAME.fullmatch(path.name)), reverse=True)


def newest_step(out: Path) -> int | None:
    """The step of the run's newest checkpoint, or None where it has none."""
    return next((int(path.name.split("-")[1]) for path in checkpoint_paths(out)), None)


@contextlib.contextmanager
def writing(out: Path, what: str) -> Iterator[None]:
    """Turns a failed write (disk full, folder gone, no permission) into one clear error."""
    try:
        yield
    # torch.save tells of some failed writes as a RuntimeError
    except (OSError, RuntimeError, SafetensorError) as error:
        kept = checkpoint_paths(out)
        rest = f"; {kept[0].name} is intact" if kept else ""
        raise TrainingError(
            f"cannot write {what} to {out}: {write_failure(error, out)}{rest}. Make room and start the same "
            "command again"
        ) from error


def save_checkpoint(out: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Writes a checkpoint whole or not at all and removes all but the newest `keep`.

    The name carries part of the file's own hash: so a damaged file is known, and one rename publishes both.
    """
    folder = out / CHECKPOINTS
    with writing(out, f"the checkpoint of step {step}"):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / NEXT) as temporary:  # renamed below, once its hash is known
            with temporary.open("wb") as file:
                torch.save({"format": FORMAT, "step": step, **state}, file)
            path = folder / f"step-{step:09d}-{sha256(temporary)[:12]}.pt"
        (folder / NEXT).replace(path)
        _remove_old(out, keep)
    return path


def _remove_old(out: Path, keep: int) -> None:
    for old in checkpoint_paths(out)[keep:]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def save_shares(
    out: Path, step: int, plain: Mapping[str, Any], tensors: dict[str, Any], keep: int, writes: bool
) -> Path:
    """Writes a checkpoint of which every process writes its own shares, whole or not at all.

    All processes call it, over one file system. Any number of processes goes on from it, one too.

    Args:
        plain: what is no tensor, as JSON.
        tensors: nested dictionaries and lists of tensors, whole or cut into shares.
        writes: true in one process.
    """
    from torch.distributed.checkpoint.state_dict_saver import save  # here: half a second

    folder = out / CHECKPOINTS
    new, path = folder / NEXT_SHARES, folder / f"step-{step:09d}-{SHARES}"
    with writing(out, f"the checkpoint of step {step}"):
        if writes:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
        dist.barrier()
        with _plain_errors():
            save(tensors, checkpoint_id=new)
        if writes:
            sizes = {file.name: file.stat().st_size for file in new.iterdir()}
            about = {"format": FORMAT, "step": step, **plain, "files": sizes}
            (new / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
            shutil.rmtree(path, ignore_errors=True)
            new.replace(path)
            _remove_old(out, keep)
        dist.barrier()
    return path


def load_shares(path: Path, tensors: dict[str, Any]) -> None:
    """Fills tensors with what a checkpoint of shares holds for them; all processes call it.

    Raises:
        TrainingError: it is damaged, or of other tensors.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    alone = not dist.is_initialized()
    try:
        with _plain_errors(), warnings.catch_warnings(action="ignore"):  # of being alone
            load(tensors, checkpoint_id=path, no_dist=alone)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


def tensors_in_shares(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Empty tensors for those whose names in a checkpoint of shares begin with `prefix`, by the rest."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    found = FileSystemReader(path).read_metadata().state_dict_metadata
    return {
        name.removeprefix(prefix): torch.empty(about.size, dtype=about.properties.dtype)
        for name, about in found.items()
        if name.startswith(prefix) and isinstance(about, TensorStorageMetadata)
    }


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns what torch's checkpoints raise, a BaseException, into an error of the usual kind."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise (first if isinstance(first, OSError) else RuntimeError(str(first))) from error


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, on the CPU, or None where the run has none.

    A damaged one is passed over with a warning. One of shares (its path is `shares`) is without tensors, see
    `load_shares`.

    Raises:
        TrainingError: there are checkpoints, but none can be read, or the newest is of another format.
    """
    paths = checkpoint_paths(out)
    for path in paths:
        try:
            state = read_checkpoint(path)
        except TrainingError as error:
            warnings.warn(f"{error}; going back to the one before", UnclipWarning, stacklevel=2)
            continue
        if state["format"] != FORMAT:
            raise TrainingError(
                f"the run in {out} cannot go on: its checkpoints have format {state['format']}, this version "
                f"goes on from {FORMAT}; end it with the version that began it, or train in another folder"
            )
        return state
    if paths:
        raise TrainingError(
            f"none of the {len(paths)} checkpoints in {out / CHECKPOINTS} can be read: start anew"
        )
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """One checkpoint, on the CPU.

    Raises:
        TrainingError: it is damaged.
    """
    if path.is_dir():
        return _read_about(path)
    match = NAME.fullmatch(path.name)
    if match and not sha256(path).startswith(match[2]):
        raise TrainingError(f"{path} is damaged")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    return state


def _read_about(path: Path) -> dict[str, Any]:
    """A checkpoint of shares without its tensors. Raises TrainingError where a file of it is not whole."""
    try:
        about: dict[str, Any] = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        files = about.pop("files").items()
        whole = all((path / name).stat().st_size == size for name, size in files)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    if not whole:
        raise TrainingError(f"{path} is damaged")
    return {**about, "shares": path}


def write_weights(out: Path, name: str, model: nn.Module, details: Mapping[str, Any]) -> Path:
    """Writes `final/NAME.safetensors`, whole or not at all, for `unclip.native.load_model`."""
    path = out / FINAL / f"{name}.safetensors"
    with writing(out, path.name):
        save_model(path, model, details=details)
    return path


def publish(out: Path, name: str) -> None:
    """Copies weights that were written beside the checkpoints to `final/NAME.safetensors`."""
    path = out / FINAL / f"{name}.safetensors"
    with writing(out, path.name), atomic_path(path) as temporary:
        shutil.copyfile(out / path.name, temporary)


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Every value that differs between two plain structures: `decoder.width: was 64, is 96`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found = []
        for key in sorted({*before, *now}):
            name = f"{where}.{key}" if where else str(key)
            if key not in now:
                found.append(f"{name}: was {before[key]!r}, is gone")
            elif key not in before:
                found.append(f"{name}: was not there, is {now[key]!r}")
            else:
                found.extend(differences(before[key], now[key], name))
        return found
    if isinstance(before, list | tuple) and isinstance(now, list | tuple) and list(before) == list(now):
        return []
    return [] if before == now else [f"{where}: was {before!r}, is {now!r}"]
