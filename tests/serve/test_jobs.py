"""Promises of jobs: kept ones survive a crash and tell of themselves; plain ones end with their client."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from support.pictures import ROUNDING, holed, speckled
from support.serving import PATIENCE, Running, file_of, near, process, refused, running, same, uri_of
from unclip.serve.admission import Admission
from unclip.serve.jobs import State
from unclip.serve.store import Store

JOBS, GENERATIONS = "/v1/unclip/jobs", "/v1/images/generations"
LONG = {"prompt": "a red apple", "size": "64x64", "steps": 900, "model": "tiny"}
SHORT = {"prompt": "a red apple", "size": "64x64", "seed": 1, "model": "tiny"}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        yield server


def ended(server: Running, id: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        job = server.client.get(f"{JOBS}/{id}").json()
        if State(job["state"]).ended:
            return dict(job)
        time.sleep(0.02)
    raise TimeoutError(id)


def submitted(server: Running, **fields: Any) -> str:
    answer = server.post(JOBS, **fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until_running(server: Running, id: str) -> None:
    until = time.monotonic() + PATIENCE
    while server.client.get(f"{JOBS}/{id}").json()["state"] == "queued" and time.monotonic() < until:
        time.sleep(0.01)


# --- what a job draws ---


def test_every_verb_is_drawn_as_a_job(server: Running) -> None:
    image, mask = uri_of(speckled(64)), uri_of(holed(64, 64, (16, 16, 48, 48)))
    common = {"seed": 1, "steps": 2, "size": "64x64", "model": "tiny"}
    asked: list[dict[str, Any]] = [
        {"verb": "generate", "prompt": "a red apple", "n": 2},
        {"verb": "edit", "prompt": "a red apple", "image": image, "mask": mask},
        {"verb": "vary", "image": image, "n": 2},
        {"verb": "blend", "image": [image, mask], "frames": 3},
        {"verb": "restyle", "image": image, "prompt": "a green apple", "origin": "a red apple"},
        {"verb": "outpaint", "image": image, "prompt": "a red apple", "left": 16},
    ]
    for fields in asked:
        job = ended(server, submitted(server, **common, **fields))
        assert job["state"] == "done", job
        assert job["verb"] == fields["verb"]
        assert len(job["pictures"]) == fields.get("n", fields.get("frames", 1))
    model = server.model
    (expected,) = model.restyle(
        file_of(speckled(64)), "a red apple", "a green apple", seed=1, steps=2, size=64
    )
    jobs = server.client.get(f"{JOBS}?limit=2").json()["data"]
    file = server.client.get(jobs[1]["pictures"][0]["url"]).content
    assert same(Image.open(io.BytesIO(file)), expected.image)


def test_three_or_four_pictures_are_blended_to_a_plane(server: Running) -> None:
    images = [uri_of(speckled(64, 64, seed=seed)) for seed in range(4)]
    common = {"verb": "blend", "seed": 1, "steps": 2, "size": "64x64", "model": "tiny"}
    job = ended(server, submitted(server, **common, image=images, plane=2))
    weights = [picture["settings"]["weights"] for picture in job["pictures"]]
    assert weights == ["1, 0, 0, 0", "0, 1, 0, 0", "0, 0, 1, 0", "0, 0, 0, 1"]
    files = [file_of(speckled(64, 64, seed=seed)) for seed in range(4)]
    for position, one in enumerate(job["pictures"]):
        mixture = [float(position == place) for place in range(4)]
        (expected,) = server.model.blend(*files, weights=mixture, seed=1, steps=2, size=64)
        image = Image.open(io.BytesIO(server.client.get(one["url"]).content))
        apart = np.abs(np.asarray(image).astype(int) - np.asarray(expected.image).astype(int))
        assert apart.max() <= ROUNDING
    mixtures = [[2, 1, 1], [0, 1, 1]]
    job = ended(server, submitted(server, **common, image=images[:3], weights=mixtures))
    assert [one["settings"]["weights"] for one in job["pictures"]] == ["2, 1, 1", "0, 1, 1"]
    error = refused(server.post(JOBS, **common, image=images, plane=2, weights=[1, 1, 1, 1]))
    assert error["param"] == "plane"
    refused(server.post(JOBS, **common, image=images[:2], plane=2))
    refused(server.post(JOBS, **common, image=images, plane=11))


def test_a_job_that_cannot_be_done_is_refused_or_fails_with_the_reason(server: Running) -> None:
    for verb in ("paint", {}, [], None, 3):
        assert refused(server.post(JOBS, verb=verb, prompt="x"))["param"] == "verb"
    assert refused(server.post(JOBS, verb="generate"))["param"] == "prompt"
    assert refused(server.post(JOBS, verb="generate", **{**SHORT, "stream": True}))["param"] == "stream"
    job = ended(server, submitted(server, verb="generate", **{**SHORT, "sampler": "dim"}))
    assert job["state"] == "failed"
    assert job["error"]["param"] == "sampler"


# --- events ---


def events_of(server: Running, id: str) -> list[dict[str, Any]]:
    lines = server.client.get(f"{JOBS}/{id}/events").text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def test_events_say_all_and_can_be_attached_to_again(server: Running) -> None:
    id = submitted(server, verb="generate", **{**SHORT, "steps": 60})
    events = events_of(server, id)
    again = events_of(server, id)
    assert events[-1]["state"] == again[-1]["state"] == "done"
    assert len(again) == 1
    assert events[-1]["fraction"] == 1.0
    assert [event["fraction"] for event in events] == sorted(event["fraction"] for event in events)
    assert {event["stage"] for event in events} <= {"", "prompt", "prior", "decoder", "pictures"}
    assert again[-1]["pictures"][0]["id"] == events[-1]["pictures"][0]["id"]


def test_a_job_that_runs_can_be_seen(server: Running) -> None:
    id = submitted(server, verb="generate", **LONG)
    until = time.monotonic() + PATIENCE
    while (answer := server.client.get(f"{JOBS}/{id}/preview")).status_code == 404:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert Image.open(io.BytesIO(answer.content)).size == (64, 64)
    job = server.client.get(f"{JOBS}/{id}").json()
    assert job["state"] == "running"
    assert 0 < job["step"] <= job["total"]
    server.client.post(f"{JOBS}/{id}/cancel")


# --- ends ---


def test_a_job_is_cancelled_by_call_and_all_others_with_one(server: Running) -> None:
    ids = [submitted(server, verb="generate", **LONG) for _ in range(3)]
    assert server.client.post(f"{JOBS}/{ids[0]}/cancel").json()["state"] == "cancelled"
    gone = server.client.post(f"/v1/unclip/cancel?but={ids[1]}").json()["cancelled"]
    assert gone == [ids[2]]
    assert server.client.get(f"{JOBS}/{ids[1]}").json()["state"] in ("queued", "running")
    assert server.client.post(f"{JOBS}/{ids[1]}/cancel").json()["state"] == "cancelled"
    assert server.client.post(f"{JOBS}/{ids[1]}/cancel").json()["state"] == "cancelled"  # is over already
    assert ended(server, ids[0])["pictures"] == []


@contextmanager
def asking(server: Running, document: dict[str, Any], **headers: str) -> Iterator[None]:
    """A request that is on its way, whose client goes away at the end."""
    body = json.dumps(document).encode()
    host, port = server.url.removeprefix("http://").split(":")
    lines = [f"POST {GENERATIONS} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        yield


def gone_after(server: Running, document: dict[str, Any], seconds: float, **headers: str) -> float:
    """Ask, go away after some seconds, and return those until the job has ended."""
    with asking(server, document, **headers):
        time.sleep(seconds)
        before = len(server.service.live)
    left, until = time.monotonic(), time.monotonic() + PATIENCE
    assert before == 1
    while server.service.live and time.monotonic() < until:
        time.sleep(0.002)
    return time.monotonic() - left


def test_a_client_that_has_gone_is_noticed_within_a_tenth_of_a_second(server: Running) -> None:
    """The end of its connection is; the job itself ends before its next step."""
    noticed: list[float] = []
    while len(noticed) < 5 and min(noticed, default=1.0) > 0.1:  # other work on the machine may delay one
        with asking(server, LONG):
            until = time.monotonic() + PATIENCE
            while not server.service.live and time.monotonic() < until:
                time.sleep(0.002)
            (live,) = server.service.live.values()
            time.sleep(0.1)
        left = time.monotonic()
        assert live.task is not None
        while not live.task.cancelled and time.monotonic() < until:
            time.sleep(0.001)
        noticed.append(time.monotonic() - left)
        while server.service.live and time.monotonic() < until:
            time.sleep(0.002)
    assert min(noticed) <= 0.1, noticed


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_job(server: Running, stream: bool) -> None:
    seconds = gone_after(server, {**LONG, "stream": stream}, 1.0)
    assert seconds < 5  # 0.1 on a machine that does nothing else
    (last,) = server.service.store.jobs("", 1)
    assert last.state is State.CANCELLED


def test_a_kept_request_is_drawn_though_its_client_goes_away(server: Running) -> None:
    gone_after(server, {**SHORT, "steps": 300}, 0.3, **{"x-unclip-keep": "1"})
    (last,) = server.service.store.jobs("", 1)
    assert last.state is State.DONE
    assert len(server.service.store.of_job(last.id)) == 1


# --- idempotency ---


def test_a_request_with_the_same_key_gets_the_same_answer(server: Running) -> None:
    headers = {"idempotency-key": "one"}
    document = {key: value for key, value in SHORT.items() if key != "seed"}  # a random one
    answers = [server.client.post(GENERATIONS, json=document, headers=headers).json() for _ in range(2)]
    assert answers[0]["job"] == answers[1]["job"]
    assert answers[0]["data"] == answers[1]["data"]
    error = refused(server.client.post(GENERATIONS, json={**document, "n": 2}, headers=headers))
    assert error["code"] == "idempotency_key_reused"
    stream, headers = {**document, "stream": True}, {"idempotency-key": "three"}
    texts = [server.client.post(GENERATIONS, json=stream, headers=headers).text for _ in range(2)]
    last = [json.loads(text.split("data: ")[-1]) for text in texts]
    assert last[0]["type"] == last[1]["type"] == "image_generation.completed"
    assert last[0]["b64_json"] == last[1]["b64_json"]
    other = server.client.post(GENERATIONS, json=document, headers={"idempotency-key": "two"}).json()
    assert other["data"] != answers[0]["data"]


# --- the library ---


def test_kept_pictures_are_listed_changed_deleted_and_restored(server: Running) -> None:
    for seed in range(3):
        ended(
            server, submitted(server, verb="generate", **{**SHORT, "seed": seed, "prompt": f"apple {seed}"})
        )
    path = "/v1/unclip/pictures"
    newest = server.client.get(f"{path}?limit=2").json()
    assert [picture["prompt"] for picture in newest["data"]] == ["apple 2", "apple 1"]
    following = server.client.get(f"{path}?limit=1&before={newest['next']!r}").json()["data"]
    assert [picture["prompt"] for picture in following] == ["apple 0"]
    assert [one["prompt"] for one in server.client.get(f"{path}?text=APPLE 1").json()["data"]] == ["apple 1"]
    one = f"{path}/{newest['data'][0]['id']}"
    assert server.client.patch(one, json={"starred": True, "board": "fruit"}).json()["starred"]
    assert len(server.client.get(f"{path}?starred=true").json()["data"]) == 1
    assert len(server.client.get(f"{path}?board=fruit").json()["data"]) == 1
    server.client.patch(one, json={"deleted": True})
    assert newest["data"][0]["id"] not in server.client.get(path).text
    assert newest["data"][0]["id"] in server.client.get(f"{path}?deleted=true").text
    refused(server.client.get(newest["data"][0]["url"]), 404)
    assert not server.client.patch(one, json={"deleted": False}).json()["deleted"]
    assert server.client.get(f"{one}/file").headers["content-type"] == "image/png"
    assert refused(server.client.patch(one, json={"prompt": "x"}))["param"] == "prompt"
    refused(server.client.get(f"{path}/pic_0"), 404)


# --- admission ---


def test_too_many_are_refused_with_an_estimate(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, admission=Admission(most_jobs=3)) as server:
        ids = [submitted(server, verb="generate", **LONG) for _ in range(3)]
        answer = server.post(GENERATIONS, **SHORT)
        error = refused(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert error["estimated_seconds"] > 0
        assert error["jobs_ahead"] == 3
        for id in ids:
            server.client.post(f"{JOBS}/{id}/cancel")
        assert server.post(GENERATIONS, **SHORT).status_code == 200
        assert server.service.admission.jobs == server.service.admission.work == 0


def test_without_keys_each_address_has_its_share(tiny_bundle: Path, tmp_path: Path) -> None:
    """All of 127.0.0.0/8 is this machine: 127.0.0.2 is another client, as `lo` is set up on Linux."""
    with running(tiny_bundle, tmp_path, admission=Admission(most_each=1)) as server:
        id = submitted(server, verb="generate", **LONG)
        assert "1 of your jobs wait" in refused(server.post(GENERATIONS, **SHORT), 429)["message"]
        if sys.platform == "linux":
            transport = httpx2.HTTPTransport(local_address="127.0.0.2")
            with httpx2.Client(base_url=server.url, transport=transport, timeout=PATIENCE) as other:
                assert other.post(GENERATIONS, json=SHORT).is_success
        server.client.post(f"{JOBS}/{id}/cancel")


def test_a_client_that_will_not_wait_so_long_is_told_at_once(server: Running) -> None:
    headers = {"x-stainless-read-timeout": "0.001"}
    refused(server.client.post(GENERATIONS, json=LONG, headers=headers), 429)
    assert server.client.post(GENERATIONS, json=SHORT, headers={"x-stainless-read-timeout": "600"}).is_success


def test_what_is_too_much_even_alone_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, admission=Admission(most_work=10**6)) as server:
        error = refused(server.post(GENERATIONS, **{**SHORT, "size": "1024x1024", "n": 10}))
        assert error["code"] == "too_much_work"


# --- another process ---


def test_a_kept_job_survives_kill_9_and_is_drawn_once_after_the_restart(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    image, mask = speckled(64), holed(64, 64, (16, 16, 48, 48))
    kept = {"verb": "edit", "prompt": "a red apple", "seed": 1, "steps": 200, "model": "tiny"}
    with process(tiny_bundle, tmp_path) as (started, address, _):
        with httpx2.Client(base_url=address, timeout=PATIENCE) as client:
            document = {**kept, "image": uri_of(image), "mask": uri_of(mask)}
            id = client.post(JOBS, json=document).json()["id"]
            done = client.post(JOBS, json={"verb": "generate", **SHORT}).json()["id"]
        started.send_signal(signal.SIGKILL)
        started.wait()
    store = Store(tmp_path)
    store.add(replace_id(store, done))  # as a plain request whose client was there
    store.close()
    with process(tiny_bundle, tmp_path) as (started, address, _), httpx2.Client(base_url=address) as client:
        until = time.monotonic() + PATIENCE
        while (job := client.get(f"{JOBS}/{id}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert job["state"] == "done", job
        assert client.get(f"{JOBS}/plain").json()["state"] == "cancelled"
        (picture,) = job["pictures"]
        file = client.get(picture["url"]).content
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE) == 0
    import unclip

    model = unclip.load(tiny_bundle, device="cpu", precision="float32")
    (expected,) = model.edit(file_of(image), file_of(mask), "a red apple", seed=1, steps=200)
    assert near(Image.open(io.BytesIO(file)), expected.image)


def replace_id(store: Store, id: str) -> Any:
    from dataclasses import replace

    job = store.job(id, "")
    assert job is not None
    return replace(job, id="plain", kept=False, state=State.QUEUED)


def test_a_server_that_is_told_to_stop_finishes_what_is_waited_for(tiny_bundle: Path, tmp_path: Path) -> None:
    import threading

    answers = []
    with process(tiny_bundle, tmp_path) as (started, address, said):
        said.clear()

        def ask() -> None:
            answers.append(
                httpx2.post(f"{address}{GENERATIONS}", json={**LONG, "steps": 300}, timeout=PATIENCE)
            )

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1)
        started.send_signal(signal.SIGTERM)
        asking.join(PATIENCE)
        assert started.wait(PATIENCE) == 0
    assert answers[0].status_code == 200
    assert base64.b64decode(answers[0].json()["data"][0]["b64_json"]).startswith(b"\x89PNG")


def test_a_second_server_does_not_share_the_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    with (
        process(tiny_bundle, tmp_path),
        pytest.raises(RuntimeError, match="another server uses"),
        process(tiny_bundle, tmp_path),
    ):
        pass
