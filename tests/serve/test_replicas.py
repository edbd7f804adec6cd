"""Promises of `unclip serve --ray`, kept by two replicas on this machine.

They need the extra `cluster`, which the environment of the other tests does not have: `make test-cluster`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from support.pictures import ROUNDING, holed, speckled
from support.serving import PATIENCE, Running, file_of, picture_in, refused, running, until, uri_of
from unclip.drawing import Event, Picture
from unclip.manipulate.editing import edit
from unclip.model import Model
from unclip.ray_cluster import HERE, settle
from unclip.serve.cluster import Size
from unclip.serve.models import Models
from unclip.serve.worker import Cancelled, Task

settle(HERE)  # before Ray is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed: `make test-cluster`")
    from unclip.serve.replicas import MOST_DEATHS, Replica, ReplicaError, Replicas

pytestmark = [
    pytest.mark.slow,
    # Ray's own, when its threads and sockets end
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
GENERATIONS, JOBS = "/v1/images/generations", "/v1/unclip/jobs"
STEPS = 150  # of a picture that is long enough to be killed


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    worker = partial(Replicas, make=made(tiny_bundle), size=Size(replicas=2))
    with running(tiny_bundle, tmp_path_factory.mktemp("serve"), worker=worker, awaited=False) as server:
        watch_it_become_ready(server)
        until(lambda: server.service.worker.running == 2)
        yield server


def watch_it_become_ready(server: Running) -> None:
    """What a probe sees: 503 until a replica has drawn a picture, never 200 before."""
    seen = set()

    def ready() -> bool:
        try:
            status = server.client.get("/health/ready").status_code
        except httpx2.ConnectError:  # it does not listen yet
            return False
        assert status in (200, 503)
        assert status == 503 or server.service.worker.running
        seen.add(status)
        return status == 200

    until(ready)
    assert seen == {200, 503}


def made(bundle: Path) -> Callable[[], Models]:
    """Makes the bundle, in a process that has `unclip` and not the tests."""
    return partial(Models.of, [str(bundle)], device="cpu", precision="float32")


def apart(one: Image.Image, other: Image.Image) -> int:
    """The most levels that two pictures are apart anywhere."""
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


def processes(server: Running, calls: int = 32) -> set[int]:
    """Identifiers of the replicas' processes."""
    worker = server.service.worker
    asked = [worker.with_model("tiny", lambda model: os.getpid()) for _ in range(calls)]
    return {one.result(PATIENCE) for one in asked}


class Handed:
    """A task that is handed to the worker, and what comes of it."""

    def __init__(self, server: Running, begin: Callable[[Model], Iterator[Event]]) -> None:
        self.heard: list[Event] = []
        self.over = threading.Event()
        self.outcome: Sequence[Picture] | Exception | None = None
        self.task = Task("tiny", begin, tell=self.heard.append, end=self._end)
        server.service.worker.submit(self.task)

    def _end(self, outcome: Sequence[Picture] | Exception) -> None:
        assert self.outcome is None  # told once
        self.outcome = outcome
        self.over.set()

    def wait(self) -> Sequence[Picture] | Exception:
        assert self.over.wait(PATIENCE)
        assert self.outcome is not None
        return self.outcome


def test_pictures_of_replicas_are_the_models_own(server: Running) -> None:
    picture, mask = speckled(64), holed(64, 64, (16, 16, 48, 40))
    asked = {"model": "tiny", "prompt": "a red apple", "size": "64x64", "n": 2, "response_format": "b64_json"}
    drawn = server.post(GENERATIONS, **asked, seed=3).json()["data"]
    for one, expected in zip(drawn, server.model.generate("a red apple", n=2, seed=3, size=64), strict=True):
        assert apart(picture_in(one), expected.image) <= ROUNDING
    form = {"model": "tiny", "prompt": "a red apple", "seed": "6", "steps": "3"}
    files = {"image": file_of(picture), "mask": file_of(mask)}
    (one,) = server.client.post("/v1/images/edits", data=form, files=files).json()["data"]
    (expected,) = (
        picture
        for event in edit(server.model, picture, mask, "a red apple", seed=6, steps=3)
        for picture in event.pictures
    )
    assert apart(picture_in(one), expected.image) <= ROUNDING


def test_the_probe_said_503_until_the_first_picture_and_says_it_without_a_replica(server: Running) -> None:
    """The first half is the fixture's (`watch_it_become_ready`)."""
    assert server.client.get("/health/ready").status_code == 200
    for process in processes(server):
        os.kill(process, signal.SIGKILL)
    until(lambda: server.client.get("/health/ready").status_code == 503)
    assert server.client.get("/health/live").status_code == 200
    until(lambda: server.client.get("/health/ready").status_code == 200)
    until(lambda: server.service.worker.running == 2)


def test_two_replicas_share_the_work_and_their_batches_are_counted(server: Running) -> None:
    assert len(processes(server)) == 2
    with ThreadPoolExecutor(8) as pool:
        asked = partial(server.post, GENERATIONS, model="tiny", prompt="a red apple", size="64x64")
        answers = list(pool.map(lambda seed: asked(seed=seed), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    counted = server.client.get("/metrics").text
    assert 'unclip_batch_pictures_count{stage="decoder"}' in counted


def test_a_replica_that_is_killed_loses_nothing_and_its_pictures_are_the_same(server: Running) -> None:
    seeds = range(4)
    asked = {"model": "tiny", "prompt": "a red apple", "size": "64x64", "steps": STEPS}
    expected = [server.model.generate("a red apple", seed=seed, size=64, steps=STEPS)[0] for seed in seeds]
    before = processes(server)
    ids = [server.post(JOBS, verb="generate", **asked, seed=seed).json()["id"] for seed in seeds]
    until(lambda: all(live.step > 5 for live in list(server.service.live.values())))
    os.kill(min(before), signal.SIGKILL)

    def job(id: str) -> dict[str, Any]:
        return dict(server.client.get(f"{JOBS}/{id}").json())

    until(lambda: all(job(id)["state"] in ("done", "failed", "cancelled") for id in ids))
    for id, picture in zip(ids, expected, strict=True):
        found = job(id)
        assert found["state"] == "done", found
        (one,) = found["pictures"]
        file = server.client.get(f"/v1/unclip/pictures/{one['id']}/file").content
        assert apart(picture_in(file), picture.image) <= ROUNDING
    until(lambda: len(processes(server)) == 2)  # another has come in its place
    assert processes(server) != before


def test_a_task_that_kills_its_replicas_is_given_up_and_takes_no_other_with_it(server: Running) -> None:
    def deadly(model: Model) -> Iterator[Event]:
        yield from model.stream("a red apple", seed=0, size=64)
        os._exit(1)

    def harmless(model: Model, seed: int) -> Iterator[Event]:
        return model.stream("a red apple", seed=seed, size=64, steps=STEPS)

    others = [Handed(server, partial(harmless, seed=seed)) for seed in range(3)]
    outcome = Handed(server, deadly).wait()
    assert isinstance(outcome, ReplicaError)
    assert f"{MOST_DEATHS} replicas have died" in str(outcome)
    for other in others:
        assert not isinstance(other.wait(), Exception), other.outcome


def test_a_cancelled_task_ends_in_its_replica(server: Running, tmp_path: Path) -> None:
    mark = tmp_path / "closed"

    def endless(model: Model) -> Iterator[Event]:
        try:
            yield from model.stream("a red apple", seed=0, size=64, steps=1000)
        finally:
            mark.touch()

    handed = Handed(server, endless)
    until(lambda: any(event.stage == "decoder" for event in handed.heard))
    server.service.worker.cancel(handed.task)
    assert isinstance(handed.wait(), Cancelled)
    until(mark.exists)
    unstarted = Handed(server, endless)
    server.service.worker.cancel(unstarted.task)
    assert isinstance(unstarted.wait(), Cancelled)


def test_a_client_that_leaves_ends_its_job_in_the_replica(server: Running) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        asked = {"model": "tiny", "prompt": "a red apple", "steps": 1000}
        server.client.post(GENERATIONS, json=asked, timeout=1.0)
    until(lambda: not server.service.live)
    assert server.service.admission.jobs == 0


def test_a_stream_through_a_replica_has_its_partial_pictures(server: Running) -> None:
    asked = {"model": "tiny", "prompt": "a red apple", "size": "64x64", "stream": True, "partial_images": 2}
    answer = server.post(GENERATIONS, **asked)
    assert answer.text.count("event: image_generation.partial_image") == 2
    assert answer.text.count("event: image_generation.completed") == 1


def test_an_error_of_a_replica_names_the_field(server: Running) -> None:
    asked = {"model": "tiny", "prompt": "a red apple", "size": "64x64"}
    error = refused(server.post(GENERATIONS, **asked, init=uri_of(speckled(64)), strength=7.0))
    assert error["param"] == "strength"
    refused(server.client.post("/v1/unclip/models/tiny/unload"))


def test_clip_works_in_a_replica(server: Running) -> None:
    answer = server.post("/v1/unclip/classify", image=uri_of(speckled(64)), labels=["noise", "an apple"])
    assert sum(label["probability"] for label in answer.json()["labels"]) == pytest.approx(1, abs=1e-4)
    found = server.post("/v1/unclip/search", text="a red apple").json()["data"]
    assert found  # the pictures that were kept above, read on this side


def test_nobody_without_the_token_gets_into_the_cluster(server: Running) -> None:
    address = ray.get_runtime_context().gcs_address
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", f"import ray; ray.init(address={address!r}); print('inside')"]
    found = subprocess.run(
        command, env=environment | {"RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    assert "inside" not in found.stdout
    assert "InvalidAuthToken" in found.stderr


def test_a_replica_with_other_weights_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ReplicaError, match="another one here"):
        Replica(made(tiny_bundle), {"tiny": "0123456789abcdef"})


def test_the_command_serves_by_replicas_and_ends_well(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unclip", "serve", "--ray", "--replicas", "1", "--port", "0"]
    options = ["--model", str(tiny_bundle), "--data", str(tmp_path / "data"), "--device", "cpu"]
    log = tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with log.open("w") as stderr:
        process = subprocess.Popen([*command, *options], stderr=stderr, env=environment)
    try:
        until(lambda: "unclip: ready on " in log.read_text() or process.poll() is not None)
        address = log.read_text().partition("unclip: ready on ")[2].split()[0]
        answer = httpx2.post(f"{address}{GENERATIONS}", json={"prompt": "an apple"}, timeout=PATIENCE)
        assert answer.status_code == 200
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
    said = log.read_text()
    assert code == 0, said
    assert "Traceback" not in said
    assert all(line.startswith(("{", "unclip: ")) for line in said.splitlines()), said
    assert not (Path.home() / ".ray").exists()


def test_a_cluster_that_is_not_there_is_said_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unclip", "serve", "--ray", "127.0.0.1:9", "--port", "0"]
    options = ["--model", str(tiny_bundle), "--data", str(tmp_path)]
    found = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert found.returncode == 1
    assert "no Ray cluster at 127.0.0.1:9" in found.stderr
