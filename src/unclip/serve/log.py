"""The server's log: one JSON document a line on stderr, without prompts, pictures, keys or addresses."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def log(event: str, **values: Any) -> None:
    """Write a line."""
    line = {"time": round(time.time(), 3), "event": event, **values}
    print(json.dumps(line, ensure_ascii=True, default=str), file=sys.stderr, flush=True)
