"""Opens the files of `test_attacks.py`, each in a process with limits of memory and time, and says what came.

`contained.py FOLDER` takes what lies in FOLDER in order of name: bundles (folders with bundle.json) are drawn
with, files called tokenizer*.json are read as tokenizers, and everything else is converted. A line of JSON
each: name, seconds, and how it ended ("done", "refused", or what went wrong), with the message.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import unclip
from unclip.catalogue import MANIFEST
from unclip.checkpoints.formats import convert, formats
from unclip.errors import UnclipError
from unclip.tokenizer import BytePairTokenizer
from unclip.tokenizer.siglip import SiglipTokenizer

SECONDS = 20  # of the processor; what is refused takes a few on any machine
BYTES = 700 * 2**20  # beside what torch takes to be there
TEXT = "a red apple " * 8


def opened(path: Path, folder: Path) -> None:
    """Do with a file what the package does with it."""
    if (path / MANIFEST).is_file():
        unclip.load(path, device="cpu").generate("a red apple", size=64, steps=2, seed=1)
    elif path.name.startswith("tokenizer"):
        kind = SiglipTokenizer if "siglip" in path.name else BytePairTokenizer
        kind.load(path).batch([TEXT], 32)
    else:
        for _ in convert(path, folder / "out"):
            pass


def judged(path: Path, folder: Path) -> tuple[str, str]:
    """The end of an attempt to open a file ("done", "refused" or an error), and the message."""
    try:
        opened(path, folder)
    except UnclipError as error:
        return "refused", str(error)
    except BaseException as error:
        return f"{type(error).__name__}", str(error)
    return "done", ""


def contained(path: Path) -> dict[str, object]:
    """The same in a process of its own."""
    folder, started = Path(tempfile.mkdtemp()), time.monotonic()
    if (child := os.fork()) == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        (folder / "end").write_text(json.dumps(judged(path, folder)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = (folder / "end").read_text() if status == 0 else json.dumps([f"signal or exit {status}", ""])
    shutil.rmtree(folder)
    end, message = json.loads(ended)
    return {"name": path.name, "end": end, "message": message, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    formats()  # imports what is needed, once for all
    for place in sorted(Path(sys.argv[1]).iterdir()):
        print(json.dumps(contained(place)), flush=True)
