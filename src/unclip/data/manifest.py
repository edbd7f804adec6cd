"""The manifest of a corpus: a row a picture, as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unclip.data.records import GROUPS, WEIGHT
from unclip.errors import DataError

MANIFEST = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("concept", pa.string()),
        ("style", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("author", pa.string()),
        ("tone", pa.int8()),
        ("group", pa.string()),  # of an emoji, as Unicode orders them: food-drink; "" for what is none
        ("subgroup", pa.string()),  # food-fruit
        ("width", pa.int32()),  # pixels of the source's longer side; 0 for a vector drawing
        ("vector", pa.bool_()),
        ("names", pa.list_(pa.string())),
        ("captions", pa.string()),  # JSON: language -> [name, tag, ...]; many pictures share one
        ("shard", pa.string()),
        ("offset", pa.int64()),  # where the PNG's bytes begin in the shard
        ("size", pa.int64()),
        ("large", pa.bool_()),
        ("large_shard", pa.string()),
        ("large_offset", pa.int64()),
        ("large_size", pa.int64()),
    ]
)


WEIGHTED = MANIFEST.append(pa.field(WEIGHT, pa.float32()))


class TableManifest:
    """The rows of one split, or of all, as a table (`table`).

    Raises:
        DataError: the file cannot be read, or its columns are others.
    """

    def __init__(self, file: Path, split: str | None) -> None:
        try:
            table = pq.read_table(file, filters=None if split is None else [("split", "=", split)])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} cannot be read ({error}): build the corpus anew") from error
        for name in GROUPS:
            if name not in table.column_names:
                table = table.append_column(name, pa.array([""] * len(table), pa.string()))
        if missing := set(MANIFEST.names) - set(table.column_names):
            raise DataError(f"{file} has no column {sorted(missing)[0]!r}: build the corpus anew")
        schema = WEIGHTED if WEIGHT in table.column_names else MANIFEST
        self.table: pa.Table = table.select(schema.names)
        self.names: list[str] = self.table.column_names

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> list[Any]:
        """The values of one column, by picture."""
        values: list[Any] = self.table[name].to_pylist()
        return values

    def row(self, index: int) -> dict[str, Any]:
        """The values of one picture, by column."""
        values: dict[str, Any] = self.table.slice(index, 1).to_pylist()[0]
        return values

    def captions(self) -> tuple[list[str], np.ndarray]:
        """The captions that there are, as JSON, and the position (N,) of each picture's among them."""
        encoded = pc.dictionary_encode(self.table["captions"].combine_chunks())
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
