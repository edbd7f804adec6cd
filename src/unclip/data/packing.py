"""Packs a corpus into little: small pictures as lossless WebP, and a manifest that is read without pyarrow.

A packed corpus is for training on a rented machine to which everything has to be carried. It is opened as any
other (`Corpus`), and its pictures are as those of the corpus, at the size that they were packed at.
"""

from __future__ import annotations

import io
import json
import lzma
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unclip.data.corpus import Corpus
from unclip.data.packed import FORMAT, PICTURES
from unclip.data.records import PACKED_FILE, Split
from unclip.data.splits import share
from unclip.errors import InputError
from unclip.processes import cores
from unclip.runtime import atomic_path, check_writable

PART = ".part-"  # between the name of a file that was cut and the number of a part
EFFORT = {"method": 4, "quality": 75}  # of WebP: with the most it takes twenty times as long for 2 % less
SPLITS = (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS, Split.TRAIN)  # those that training looks at
AT_ONCE = 256  # pictures that are encoded before it is asked whether there is room for more


def pack(
    folder: Path,
    out: Path,
    *,
    side: int,
    limit: int,
    weights: Callable[[Corpus], np.ndarray],
) -> tuple[int, int]:
    """Packs a corpus into the folder `out`, which gets at most `limit` bytes.

    Held-out pictures all go in. Of those to learn from the ones do that training by these weights would draw
    first, until there is no more room.

    Args:
        folder: of the corpus.
        side: pixels of a picture's side.
        weights: shares (N,) in which training draws the pictures of the split `train`.

    Returns:
        How many pictures to learn from went in, and how many there are.

    Raises:
        InputError: `out` is not empty, or the limit does not even hold what is held out.
        DataError: the corpus cannot be read, or `out` not written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty: name a new folder")
    check_writable(out)
    corpora = [Corpus(folder, split) for split in SPLITS]
    train = corpora[-1]
    encoded: list[list[tuple[int, bytes]]] = []
    left = limit
    for corpus in corpora:
        order = _by_turn(weights(corpus), corpus.column("key")) if corpus is train else range(len(corpus))
        encoded.append([])
        for index, content in _encoded(corpus.pixels(side), order):
            if left < len(content):
                break
            left -= len(content)
            encoded[-1].append((index, content))
    whole = [len(own) == len(corpus) for own, corpus in zip(encoded[:-1], corpora[:-1], strict=True)]
    while True:
        manifest = _manifest(corpora, [sorted(own) for own in encoded], side)
        over = len(manifest) + sum(len(content) for own in encoded for _, content in own) - limit
        if not all(whole) or (over > 0 and not encoded[-1]):
            raise InputError(f"{limit:,} bytes do not even hold the held-out pictures: allow more")
        if over <= 0:
            break
        while over > 0 and encoded[-1]:  # those that would be drawn last stay out
            over -= len(encoded[-1].pop()[1])
    encoded = [sorted(own) for own in encoded]  # in the order of the corpus
    with atomic_path(out / PICTURES) as temporary:
        temporary.write_bytes(b"".join(content for own in encoded for _, content in own))
    with atomic_path(out / PACKED_FILE) as temporary:
        temporary.write_bytes(manifest)
    return len(encoded[-1]), len(train)


def cut(file: Path, limit: int) -> list[Path]:
    """Cuts a file into parts of at most `limit` bytes beside it, "NAME.part-00" and so on, and removes it.

    Where it is no larger it stays as it is. Returns what is there.
    """
    content = file.read_bytes()
    if len(content) <= limit:
        return [file]
    parts = []
    for number, start in enumerate(range(0, len(content), limit)):
        parts.append(file.with_name(f"{file.name}{PART}{number:02d}"))
        with atomic_path(parts[-1]) as temporary:
            temporary.write_bytes(content[start : start + limit])
    file.unlink()
    return parts


def join(folder: Path) -> list[Path]:
    """Puts together all files of a folder that were cut, leaves their parts, and returns the whole ones."""
    names = {path.name.rpartition(PART)[0] for path in folder.glob(f"*{PART}[0-9][0-9]")}
    for name in names:
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            for part in sorted(folder.glob(f"{name}{PART}[0-9][0-9]")):
                file.write(part.read_bytes())
    return [folder / name for name in sorted(names)]


def _by_turn(weights: np.ndarray, keys: list[str]) -> list[int]:
    """Positions in the order in which pictures are first drawn by weights (N,), some of chance by their keys.

    The first turn of a picture with weight w comes after an exponential time of rate w.
    """
    turns = [
        -math.log1p(-share("pack", key)) / weight if weight else math.inf
        for key, weight in zip(keys, weights.tolist(), strict=True)
    ]
    order = sorted(range(len(keys)), key=lambda index: (turns[index], keys[index]))
    return [index for index in order if turns[index] < math.inf]


def _encoded(pixels: np.ndarray, order: list[int] | range) -> Iterator[tuple[int, bytes]]:
    """(position, WebP) of pictures (N, S, S, 3) in an order."""
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            yield from zip(some, pool.map(lambda index: _webp(pixels[index]), some), strict=True)


def _webp(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "WEBP", lossless=True, **EFFORT)
    return out.getvalue()


def _manifest(corpora: list[Corpus], encoded: list[list[tuple[int, bytes]]], side: int) -> bytes:
    """The manifest of the pictures that were encoded, compressed."""
    texts: dict[str, int] = {}
    columns: dict[str, list[Any]] = {}
    offset = 0
    for corpus, own in zip(corpora, encoded, strict=True):
        rows = [index for index, _ in own]
        for name in corpus.manifest.names:
            values = corpus.column(name)
            columns.setdefault(name, []).extend(values[index] for index in rows)
        for place, (_, content) in enumerate(own, len(columns["key"]) - len(own)):
            columns["shard"][place], columns["offset"][place], columns["size"][place] = (
                *(PICTURES, offset, len(content)),
            )
            offset += len(content)
    for name in ("large_shard", "large_offset", "large_size"):
        columns[name] = [None] * len(columns["key"])
    columns["large"] = [False] * len(columns["key"])
    columns["captions"] = [texts.setdefault(text, len(texts)) for text in columns["captions"]]
    whole = {"format": FORMAT, "side": side, "captions": list(texts), "columns": columns}
    return lzma.compress(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(), preset=6)
