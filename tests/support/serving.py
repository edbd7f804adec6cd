"""A server on a real socket, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from unclip.model import Model
from unclip.serve.admission import Admission
from unclip.serve.jobs import Store
from unclip.serve.models import Models
from unclip.serve.server import Place, Server
from unclip.serve.service import Service

PATIENCE = 300.0  # seconds: a machine may do other work beside the tests


@dataclass
class Running:
    """A server that answers.

    Attributes:
        url: where.
        service: what answers.
        client: asks it.
        model: draws the same pictures without it.
    """

    url: str
    service: Service
    client: httpx2.Client
    model: Model

    def post(self, path: str, **json: Any) -> httpx2.Response:
        return self.client.post(path, json=json)


@contextmanager
def running(
    bundle: Path, folder: Path, *, admission: Admission | None = None, place: Place | None = None
) -> Iterator[Running]:
    """A server of a bundle, in float32, which has drawn its first picture."""
    models = Models.of([str(bundle)], device="cpu", precision="float32")
    service = Service(models, Store(folder), admission=admission)
    ready = threading.Event()
    server = Server(service, place or Place(port=0), lambda address: ready.set())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        if not ready.wait(PATIENCE):
            raise TimeoutError("the server does not become ready")
        with httpx2.Client(base_url=server.address, timeout=PATIENCE) as client:
            yield Running(server.address, service, client, models.loaded[models.first])
    finally:
        server.stop()
        thread.join(PATIENCE)
