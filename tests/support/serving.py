"""A server on a real socket, in a thread of the test or in a process of its own."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from support.pictures import ROUNDING
from unclip.model import Model
from unclip.policy import Policy
from unclip.serve.admission import Admission
from unclip.serve.folders import Folders
from unclip.serve.models import Models
from unclip.serve.pulls import Pulls
from unclip.serve.scheduler import Scheduler
from unclip.serve.server import Place, Server
from unclip.serve.service import Service
from unclip.serve.store import Store
from unclip.serve.worker import Observe, Worker

FOUR = {"message", "type", "param", "code"}
PATIENCE = 600.0  # seconds: a machine may do other work beside the tests


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


def models_of(bundle: Path, aliases: Sequence[str] = ()) -> Models:
    """A bundle in float32."""
    return Models.of([str(bundle)], aliases, device="cpu", precision="float32")


@contextmanager
def running(
    bundle: Path,
    folder: Path,
    *,
    admission: Admission | None = None,
    place: Place | None = None,
    folders: Sequence[Path] = (),
    pulls: Pulls | None = None,
    policy: Policy | None = None,
    worker: Callable[[Models, Observe], Worker] = Scheduler,
    aliases: Sequence[str] = (),
    awaited: bool = True,
) -> Iterator[Running]:
    """A server of a bundle, in float32, which has drawn its first picture, unless that is not `awaited`."""
    models = models_of(bundle, aliases)
    service = Service(
        models,
        Store(folder),
        admission=admission,
        folders=Folders(folders, folder),
        pulls=pulls,
        policy=policy,
        worker=worker,
    )
    ready = threading.Event()
    server = Server(service, place or Place(port=0), lambda address: ready.set())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        if awaited and not ready.wait(PATIENCE):
            raise TimeoutError("the server does not become ready")
        with httpx2.Client(base_url=server.socket_address, timeout=PATIENCE) as client:
            model = models.loaded.get(models.first) or models_of(bundle).get(models.first)
            yield Running(server.socket_address, service, client, model)
    finally:
        server.stop()
        thread.join(PATIENCE)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds. Raises TimeoutError where it never does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


@contextmanager
def process(
    bundle: Path, folder: Path, port: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server in a process of its own: the process, its address, and what it says."""
    command = [sys.executable, "-m", "unclip", "serve", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32", "--model", str(bundle), "--data", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        said: list[str] = []
        reading = None
        try:
            for line in started.stderr:
                said.append(line)
                if line.startswith("unclip: ready on "):
                    break
            else:
                raise RuntimeError("".join(said))
            address = said[-1].split()[-1]
            # what it says on is read, lest the pipe be full one day and the server wait
            reading = threading.Thread(target=said.extend, args=(started.stderr,))
            reading.start()
            yield started, address, said
        finally:
            started.kill()
            if reading is not None:
                reading.join(PATIENCE)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def uri_of(image: Image.Image) -> str:
    """A picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(file_of(image)).decode()}"


def same(one: Image.Image, other: Image.Image) -> bool:
    """Are two pictures equal, pixel for pixel?"""
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def near(one: Image.Image, other: Image.Image) -> bool:
    """Are two pictures equal but for rounding, which another number of threads or another process changes?"""
    levels = (np.asarray(picture, dtype=int) for picture in (one, other))
    first, second = levels
    return first.shape == second.shape and int(np.abs(first - second).max()) <= ROUNDING


def refused(answer: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer, which must be of this status and in the API's form."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) >= FOUR
    assert answer.headers["x-request-id"].startswith("req_")
    return dict(error)


def picture_in(answer: dict[str, Any] | bytes) -> Image.Image:
    """The picture of an answer's entry with `b64_json`, or of a file."""
    data = answer if isinstance(answer, bytes) else base64.b64decode(answer["b64_json"])
    return Image.open(io.BytesIO(data)).convert("RGB")
