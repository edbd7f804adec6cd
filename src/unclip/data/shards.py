"""Webdataset shards: tar files of `KEY.png` and `KEY.json`, the same bytes for the same pictures."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

PER_SHARD = 1000
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Placed:
    """Where one picture's bytes lie: `size` bytes from `offset` on in the file `shard`."""

    shard: str
    offset: int
    size: int


def write_shards(
    folder: Path,
    name: str,
    samples: Iterable[tuple[str, bytes | memoryview, dict[str, Any]]],
    per_shard: int = PER_SHARD,
    first: int = 0,
) -> Iterator[Placed]:
    """Writes (key, PNG, metadata) to `folder/NAME-00000.tar` and so on; yields each picture's place. `first`
    is the number of the first shard.
    """
    samples = iter(samples)
    for number in count(first):
        part = list(islice(samples, per_shard))
        if not part:
            return
        shard = f"{name}-{number:05d}.tar"
        with tarfile.open(folder / shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for index, (key, picture, metadata) in enumerate(part):
                stem = (
                    f"{number * per_shard + index:08d}"  # a key may hold dots, where webdataset ends its own
                )
                text = json.dumps({"key": key, **metadata}, ensure_ascii=False, sort_keys=True)
                offset = _add(tar, f"{stem}.png", picture)
                _add(tar, f"{stem}.json", text.encode("utf-8"))
                yield Placed(shard, offset, len(picture))


def _add(tar: tarfile.TarFile, name: str, content: bytes | memoryview) -> int:
    member = tarfile.TarInfo(name)  # owner 0, time 0, mode 644: nothing of this machine
    member.size = len(content)
    offset = tar.offset + BLOCK  # a ustar header is one block
    tar.addfile(member, io.BytesIO(content))
    return offset
