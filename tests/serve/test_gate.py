"""Promises about who may ask, and of what the server tells of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from support.serving import Running, refused, running, until
from unclip.errors import InputError
from unclip.serve.keys import Keys, hashed, new_key
from unclip.serve.models import Models
from unclip.serve.scheduler import Scheduler
from unclip.serve.server import Place
from unclip.serve.worker import Observe, Task

GENERATIONS, JOBS = "/v1/images/generations", "/v1/unclip/jobs"
SHORT = {"prompt": "a red apple", "size": "64x64", "seed": 1, "model": "tiny"}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path, str]]:
    """A server with a key of `anna`."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    key = new_key(file, "anna")
    place = Place(port=0, keys=Keys(file))
    with running(tiny_bundle, tmp_path_factory.mktemp("serve"), place=place) as server:
        yield server, file, key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# --- pages of others ---


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
)
def test_a_page_of_another_server_changes_nothing(
    server: Running, method: str, headers: dict[str, str]
) -> None:
    answer = server.client.request(method, GENERATIONS, data={"prompt": "x"}, headers=headers)
    assert refused(answer, 403)["code"] == "foreign_origin"


def test_the_servers_own_page_may_ask(server: Running) -> None:
    assert server.client.post(GENERATIONS, json=SHORT, headers={"origin": server.url}).is_success


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "a b"])
def test_a_name_that_is_not_the_servers_is_refused(server: Running, host: str) -> None:
    refused(server.client.get("/v1/models", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8000"])
def test_every_name_of_this_machine_is_the_servers(server: Running, host: str) -> None:
    assert server.client.get("/v1/models", headers={"host": host}).is_success


def test_others_reach_a_server_with_keys_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --keys FILE"):
        Place(host="0.0.0.0")
    new_key(tmp_path / "keys", "anna")
    assert Place(host="0.0.0.0", keys=Keys(tmp_path / "keys")).hosts == ()


def test_a_page_that_is_named_may_ask_and_read_and_no_other(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key, app = new_key(file, "anna"), "https://app.example"
    with running(tiny_bundle, tmp_path, place=Place(port=0, keys=Keys(file), origins=(app,))) as server:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        preflight = server.client.options(GENERATIONS, headers={"origin": app, **asks})
        assert preflight.headers["access-control-allow-origin"] == app
        answer = server.client.post(GENERATIONS, json=SHORT, headers={"origin": app, **bearer(key)})
        assert answer.headers["access-control-allow-origin"] == app
        refused(server.client.post(GENERATIONS, json=SHORT, headers={"origin": app}), 401)
        other = {"origin": "https://evil.example"}
        refused(server.client.options(GENERATIONS, headers={**other, **asks}), 401)
        refused(server.client.post(GENERATIONS, json=SHORT, headers={**other, **bearer(key)}), 403)


def test_no_page_of_another_server_may_read_unless_it_is_named(server: Running) -> None:
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    for answer in (
        server.client.options(GENERATIONS, headers=asks),
        server.client.get("/v1/models", headers={"origin": "https://app.example"}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


# --- keys ---


def test_without_a_key_nothing_is_told(keyed: tuple[Running, Path, str]) -> None:
    server, _, key = keyed
    for headers in ({}, bearer("sk-unclip-other"), bearer("x y"), {"authorization": key}, bearer("ü")):
        raw = {name: value.encode() for name, value in headers.items()}
        for path in ("/v1/models", JOBS, "/metrics", "/openapi.json", "/v1/unclip/pictures"):
            assert refused(server.client.get(path, headers=raw), 401)["code"] == "invalid_api_key"
        refused(server.client.post(GENERATIONS, json=SHORT, headers=raw), 401)
    assert server.client.get("/health/live").is_success
    assert server.client.get("/v1/models", headers=bearer(key)).is_success


def test_a_key_sees_its_own_jobs_and_pictures_alone(keyed: tuple[Running, Path, str]) -> None:
    server, file, anna = keyed
    ben = new_key(file, "ben")  # without a restart
    keep = {"x-unclip-keep": "1"}
    answer = server.client.post(GENERATIONS, json=SHORT, headers={**bearer(anna), **keep})
    (picture,) = server.client.get("/v1/unclip/pictures", headers=bearer(anna)).json()["data"]
    assert picture["job"] == answer.json()["job"]
    assert server.client.get("/v1/unclip/pictures", headers=bearer(ben)).json()["data"] == []
    for path in (f"{JOBS}/{picture['job']}", f"/v1/unclip/pictures/{picture['id']}"):
        assert server.client.get(path, headers=bearer(anna)).is_success
        refused(server.client.get(path, headers=bearer(ben)), 404)
    refused(server.client.patch(f"/v1/unclip/pictures/{picture['id']}", json={}, headers=bearer(ben)), 404)
    assert server.client.get(picture["url"]).is_success  # the address is signed


def test_a_page_logs_in_for_a_cookie_that_no_script_reads(keyed: tuple[Running, Path, str]) -> None:
    server, file, _ = keyed
    key = new_key(file, "page")
    with httpx2.Client(base_url=server.url) as page:
        refused(page.post("/v1/unclip/login", json={"key": "wrong"}), 401)
        said = page.post("/v1/unclip/login", json={"key": key}).headers["set-cookie"]
        assert "HttpOnly" in said
        assert "SameSite=strict" in said
        assert page.get("/v1/models").is_success
        refused(page.post(GENERATIONS, json=SHORT, headers={"origin": "https://evil.example"}), 403)
        lines = [line for line in file.read_text().splitlines() if not line.startswith("page ")]
        file.write_text("\n".join(lines) + "\n")
        refused(page.get("/v1/models"), 401)  # the key has gone, and the session with it
        page.post("/v1/unclip/logout")


def test_the_file_of_keys_holds_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = new_key(file, "anna")
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert Keys(file).owner(key) == "anna"
    assert Keys(file).owner(hashed(key)) is None
    for name in ("anna", "a b", ""):
        with pytest.raises(InputError):
            new_key(file, name)


@pytest.mark.parametrize("text", ["anna", "anna 12", "a b c", f"a {'0' * 64}\na {'1' * 64}"])
def test_a_file_of_keys_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputError, match="line"):
        Keys(tmp_path / "keys")
    with pytest.raises(InputError, match="cannot read"):
        Keys(tmp_path / "none")


# --- what the server tells ---


def test_probes_and_metrics_answer(server: Running) -> None:
    assert server.client.get("/health/live").json() == {"status": "live"}
    assert server.client.get("/health/ready").json() == {"status": "ready"}
    server.client.post(GENERATIONS, json=SHORT)
    text = server.client.get("/metrics").text
    for name in (
        "unclip_queue_jobs 0.0",
        'unclip_jobs_total{state="done",verb="generate"}',
        "unclip_stage_seconds",
        "unclip_job_seconds_bucket",
        'unclip_answers_total{status="200"}',
        "unclip_queue_seconds 0.0",
        "unclip_refusals 0.0",
        "unclip_peak_memory_bytes",
    ):
        assert name in text
    assert 'unclip_batch_pictures_bucket{le="1.0",stage="decoder"}' in text


class Held(Scheduler):
    """A worker that begins when it is let, as replicas elsewhere do when they have come."""

    def __init__(self, models: Models, observe: Observe) -> None:
        super().__init__(models, observe)
        self.tasks: list[Task] = []
        self.let = self.gone = False

    def submit(self, task: Task) -> None:
        if self.let:
            super().submit(task)
        else:
            self.tasks.append(task)

    def begin(self) -> None:
        self.let = True
        for task in self.tasks:
            super().submit(task)

    def is_alive(self) -> bool:
        return super().is_alive() and not self.gone


def test_a_server_is_ready_when_it_has_drawn_and_while_something_can_draw(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    with running(tiny_bundle, tmp_path, worker=Held, awaited=False) as server:
        worker = server.service.worker
        until(lambda: answers(server, "/health/live"))
        assert refused(server.client.get("/health/ready"), 503)["code"] == "not_ready"
        worker.begin()
        until(lambda: server.client.get("/health/ready").is_success)
        worker.gone = True
        refused(server.client.get("/health/ready"), 503)
        assert answers(server, "/health/live")
        worker.gone = False
        assert server.client.get("/health/ready").is_success
        server.service.draining = True
        refused(server.client.get("/health/ready"), 503)


def answers(server: Running, path: str) -> bool:
    try:
        return server.client.get(path).is_success
    except httpx2.ConnectError:  # it does not listen yet
        return False


def test_the_log_is_json_without_prompts(server: Running, capfd: pytest.CaptureFixture[str]) -> None:
    secret = "a prompt that nobody else reads"
    server.client.post(GENERATIONS, json={**SHORT, "prompt": secret})
    server.client.get("/v1/unclip/pictures/pic_secret")
    refused(server.post(GENERATIONS, prompt=secret, sampler=secret[:20]))
    said = capfd.readouterr().err
    lines = [json.loads(line) for line in said.splitlines()]
    assert {"job", "request"} <= {line["event"] for line in lines}
    assert "secret" not in said
    assert secret[:20] not in said


def test_the_openapi_document_has_every_route_with_its_body(server: Running) -> None:
    document = server.client.get("/openapi.json").json()
    assert document["paths"].keys() >= {GENERATIONS, "/v1/images/edits", JOBS, "/health/ready"}
    body = document["paths"][GENERATIONS]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    assert fields["prompt"]["examples"]
    submitted = document["paths"][JOBS]["post"]
    assert submitted["requestBody"]["content"]["application/json"]["examples"]["plane"]["value"]["plane"]
    operations = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    links = submitted["responses"]["202"]["links"]
    assert links
    assert links.keys() <= operations
    assert "seed" in fields
