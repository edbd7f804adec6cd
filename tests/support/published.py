"""A small published model that is fetched from a server of the test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from support.file_server import FileServer
from support.tiny import OPENAI_CLIP
from unclip import catalogue
from unclip.catalogue import Ability, Published, WebFile
from unclip.checkpoints import clip_openai
from unclip.models.clip import CLIP

NAME, FILE = "clip-tiny", "tiny.pt"


@contextmanager
def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Where the published model `clip-tiny` lies, at "/tiny.pt"; the user's data folder is empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    torch.manual_seed(0)
    torch.save(clip_openai.TABLE.write(CLIP(OPENAI_CLIP).state_dict()), folder / FILE)
    content = (folder / FILE).read_bytes()
    with FileServer({f"/{FILE}": content}) as web:
        source = WebFile(f"{web.url}/{FILE}", FILE, hashlib.sha256(content).hexdigest())
        model = Published(
            name=NAME,
            family="clip",
            format="clip-openai",
            abilities=(Ability.COMPARE,),
            parameters={"clip": 1_000_000},
            licence="MIT",
            sources=(source,),
            page="https://example.org/tiny",
            opens=FILE,
        )
        monkeypatch.setitem(catalogue.PUBLISHED, model.name, model)
        yield web
