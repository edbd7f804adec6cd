"""A thousand captions in several languages and spellings, to be cut into tokens."""

from __future__ import annotations

from pathlib import Path

CAPTIONS = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
