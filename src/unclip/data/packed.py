"""The manifest of a packed corpus (`data.packing`), read without pyarrow."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np

from unclip.config import parse_json
from unclip.errors import DataError, InputError

FORMAT = 1
PICTURES = "pictures.bin"  # the pictures, one behind the other


class PackedManifest:
    """The rows of one split of a packed corpus, or of all; `side` are the pixels of a picture's side.

    Raises:
        DataError: the file cannot be read.
    """

    def __init__(self, file: Path, split: str | None) -> None:
        try:
            found = parse_json(lzma.decompress(file.read_bytes()), str(file))
            if found["format"] != FORMAT:
                raise DataError(
                    f"{file} has format {found['format']}, this version reads {FORMAT}: pack anew"
                )
            columns: dict[str, list[Any]] = found["columns"]
            self.side: int = found["side"]
            self._captions: list[str] = found["captions"]
            rows = [k for k, own in enumerate(columns["split"]) if split is None or own == split]
            self.columns = {name: [values[k] for k in rows] for name, values in columns.items()}
        except (OSError, lzma.LZMAError, InputError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{file} cannot be read ({error}): pack the corpus anew") from error
        self.names = [*self.columns]

    def __len__(self) -> int:
        return len(self.columns["key"])

    def column(self, name: str) -> list[Any]:
        """The values of one column, by picture."""
        if name == "captions":
            return [self._captions[k] for k in self.columns[name]]
        return self.columns[name]

    def row(self, index: int) -> dict[str, Any]:
        """The values of one picture, by column."""
        return {name: self.column(name)[index] for name in self.names}

    def captions(self) -> tuple[list[str], np.ndarray]:
        """The captions that there are, as JSON, and the position (N,) of each picture's among them."""
        return self._captions, np.array(self.columns["captions"], np.int64)
