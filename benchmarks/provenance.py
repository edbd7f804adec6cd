"""Measures what a signature adds to a picture's file, and the time that it and its check take.

    python benchmarks/provenance.py [--times 50]
    python benchmarks/provenance.py --table         # what docs/provenance.md says of the results

Pictures of noise and of a gradient, which compress badly and well, are signed by a new key (extra
`provenance`), alone and with a signed parent. Times are processor time, the median. Writes
`benchmarks/results/provenance.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unclip.drawing import Picture
from unclip.images import ImageFormat
from unclip.provenance import Proof, Signer, make_key, verify

RESULT = Path(__file__).parent / "results" / "provenance.json"
SIZES = (256, 1024)


def pictures(size: int) -> Iterator[tuple[str, Picture]]:
    """A picture of noise, and a smooth one."""
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    smooth = Image.linear_gradient("L").resize((size, size)).convert("RGB")
    for name, image in (("noise", Image.fromarray(noise)), ("a gradient", smooth)):
        yield name, Picture(image, "a cat", 3, 0, None, "tiny", "0123456789ab", {"size": str(size)})


def milliseconds(work: Callable[[], object], times: int) -> float:
    """The median of the processor time."""
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(1000 * (time.process_time() - started))
    return round(statistics.median(found), 1)


def measured(times: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer(make_key("a measurement", Path(folder) / "key"))
        anchor = Path(folder) / "key" / "anchor.pem"
        for size in SIZES:
            for name, picture in pictures(size):
                for format in ImageFormat:
                    bare = picture.encode(format)
                    sign = partial(signer.sign, bare, picture.made)
                    signed = sign()
                    parent = Path(folder) / f"parent.{format}"
                    parent.write_bytes(signed)
                    child = signer.sign(bare, picture.made, [parent])
                    assert verify(signed, [anchor]).proof is Proof.TRUSTED
                    rows.append(
                        {
                            "picture": f"{name}, {size} px",
                            "format": str(format),
                            "bytes": len(bare),
                            "added": len(signed) - len(bare),
                            "added with a parent": len(child) - len(bare),
                            "ms to sign": milliseconds(sign, times),
                            "ms to verify": milliseconds(partial(verify, signed, [anchor]), times),
                        }
                    )
    return rows


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table of docs/provenance.md."""
    yield "| picture | format | kB | a signature adds | with a signed parent | sign | verify |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        added, more = (f"{row[name] / 1000:.1f} kB" for name in ("added", "added with a parent"))
        times = " | ".join(f"{row[name]:.1f} ms" for name in ("ms to sign", "ms to verify"))
        what = f"{row['picture']} | {row['format'].upper()} | {row['bytes'] / 1000:,.0f}"
        yield f"| {what} | {added} | {more} | {times} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if not options.table:
        options.out.write_text(json.dumps(measured(options.times), indent=1) + "\n")
    print("\n".join(table(json.loads(options.out.read_text()))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
