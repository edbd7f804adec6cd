"""Prints the OpenAPI document, which the page's types are made of: `python -m unclip.serve.openapi`."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from fastapi import FastAPI

from unclip.serve import schema
from unclip.serve.app import create_app
from unclip.serve.models import Models
from unclip.serve.service import Service
from unclip.serve.store import Store

if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        gate = create_app(
            Service(Models({}), Store(Path(folder))), ready=lambda: None, ended=lambda error: None
        )
        print(json.dumps(schema.document(cast(FastAPI, gate.app)), indent=1))
