"""Promises of a server's policy: what is refused is refused as the hosted service does, before any work."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.pictures import holed, speckled
from support.serving import Running, file_of, near, refused, running, uri_of
from unclip.policy import Policy
from unclip.policy.guard import Guard
from unclip.policy.pictures import PictureRules
from unclip.serve.keys import Keys, new_key
from unclip.serve.server import Place

GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
DRAWN = {"size": "64x64", "model": "tiny", "response_format": "b64_json"}


class Seen:
    """Refuses what the test says, and counts what it is shown."""

    def __init__(self) -> None:
        self.bad: list[Image.Image] = []
        self.all = False
        self.shown = 0

    def found(self, image: Image.Image) -> bool:
        self.shown += 1
        return self.all or any(near(image, bad) for bad in self.bad)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve"), policy=Policy.named("dalle2")) as server:
        yield server


@pytest.fixture
def eye(server: Running) -> Seen:
    """The only detector of the server, which has seen nothing yet."""
    seen = Seen()
    rules = PictureRules({"nudity": seen})
    server.service._guards["tiny"] = Guard(Policy.named("dalle2"), lambda policy: rules)
    return seen


def test_a_refused_prompt_is_answered_as_the_hosted_service_does(server: Running, eye: Seen) -> None:
    error = refused(server.post(GENERATIONS, prompt="a naked woman", **DRAWN))
    assert error["code"] == "content_policy_violation"
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "prompt"
    assert "sexual content" in error["message"]
    assert "naked" not in error["message"]
    assert not server.service.live
    assert server.client.get("/v1/unclip/jobs").json()["data"] == []


def test_an_allowed_prompt_is_drawn(server: Running, eye: Seen) -> None:
    answer = server.post(GENERATIONS, prompt="a red apple", seed=1, **DRAWN)
    assert answer.status_code == 200
    assert "withheld" not in answer.json()
    assert eye.shown == 1


@pytest.mark.parametrize("verb", ["edit", "vary", "start"])
def test_a_refused_upload_is_named_before_any_work(server: Running, eye: Seen, verb: str) -> None:
    picture = speckled(64)
    eye.bad.append(picture.convert("RGB"))
    if verb == "edit":
        mask = uri_of(holed(64, 64, (16, 16, 48, 48)))
        answer = server.post(EDITS, prompt="an apple", image=uri_of(picture), mask=mask, model="tiny")
    elif verb == "vary":
        files = {"image": ("blob", file_of(picture), "application/octet-stream")}
        answer = server.client.post(VARIATIONS, data=DRAWN, files=files)
    else:
        answer = server.post(GENERATIONS, prompt="an apple", init=uri_of(picture), **DRAWN)
    error = refused(answer)
    assert error["code"] == "content_policy_violation"
    assert error["param"] == ("init" if verb == "start" else "image")
    assert "nudity" in error["message"]
    assert eye.shown == 1


def test_one_refused_of_several_is_withheld_and_named(server: Running, eye: Seen) -> None:
    expected = server.model.generate("a red apple", n=3, size=64, seed=5)
    eye.bad.append(expected[1].image)
    about = server.post(GENERATIONS, prompt="a red apple", n=3, seed=5, **DRAWN).json()
    assert [entry["index"] for entry in about["data"]] == [0, 2]
    assert about["withheld"] == [{"index": 1, "seed": 5, "category": "nudity"}]
    assert any("withheld" in warning for warning in about["warnings"])


def test_where_all_are_refused_there_is_the_error(server: Running, eye: Seen) -> None:
    eye.all = True
    error = refused(server.post(GENERATIONS, prompt="a red apple", n=2, seed=6, **DRAWN))
    assert error["code"] == "content_policy_violation"
    assert error["param"] is None


def test_a_job_says_what_is_withheld_and_keeps_only_the_others(server: Running, eye: Seen) -> None:
    expected = server.model.generate("a red apple", n=2, size=64, seed=7)
    eye.bad.append(expected[0].image)
    body = {"verb": "generate", "prompt": "a red apple", "n": 2, "seed": 7, "size": "64x64", "model": "tiny"}
    job = server.post("/v1/unclip/jobs", **body).json()
    with server.client.stream("GET", f"/v1/unclip/jobs/{job['id']}/events") as events:
        said = [line for line in events.iter_lines() if line.startswith("data: ")][-1]
    assert '"withheld": [{"index": 0' in said
    kept = server.client.get(f"/v1/unclip/jobs/{job['id']}").json()
    assert [picture["index"] for picture in kept["pictures"]] == [1]


def test_partial_pictures_pass_the_same_rule(server: Running, eye: Seen) -> None:
    body = {"prompt": "a red apple", "seed": 8, "size": "64x64", "model": "tiny", "stream": True}
    allowed = server.post(GENERATIONS, partial_images=2, **body).text
    assert allowed.count("event: image_generation.partial_image") == 2
    eye.all = True
    text = server.post(GENERATIONS, partial_images=2, **{**body, "seed": 9}).text
    assert "partial_image" not in text
    assert "content_policy_violation" in text


def test_a_prompt_in_a_language_without_rules_is_told_so(server: Running, eye: Seen) -> None:
    about = server.post(GENERATIONS, prompt="красное яблоко", seed=1, **DRAWN).json()
    assert any("none of them applied" in warning for warning in about["warnings"])


def test_a_server_that_others_reach_is_public(tmp_path: Path) -> None:
    assert not Place().is_public
    new_key(tmp_path / "keys", "anna")
    assert Place(public_url="https://example.org", keys=Keys(tmp_path / "keys")).is_public


def test_pictures_are_the_models_own_with_a_policy(server: Running, eye: Seen) -> None:
    answer = server.post(GENERATIONS, prompt="a red apple", seed=5, **DRAWN)
    (expected,) = server.model.generate("a red apple", size=64, seed=5)
    image = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert image.tobytes() == expected.image.tobytes()
