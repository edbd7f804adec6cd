"""Promises of a server behind a reverse proxy that has another name and ends TLS."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from support.proxy import proxied
from support.serving import PATIENCE, Running, refused, running, same
from unclip.errors import InputError
from unclip.serve.keys import Keys, new_key
from unclip.serve.server import Place

NAME = "draw.example.org"
PUBLIC = f"https://{NAME}"
GENERATIONS = "/v1/images/generations"
SHORT = {"prompt": "a red apple", "size": "64x64", "seed": 1}


@pytest.fixture(scope="module")
def behind(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, Running, str]]:
    """A client of the proxy by its public name, the server behind it, and a key."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    key = new_key(file, "anna")
    place = Place(port=0, public_url=PUBLIC, keys=Keys(file))
    with (
        running(tiny_bundle, tmp_path_factory.mktemp("serve"), place=place) as server,
        proxied(server.url) as address,
        httpx2.Client(base_url=address, timeout=PATIENCE, headers={"host": NAME}) as client,
    ):
        yield client, server, key


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_an_address_of_a_picture_is_the_public_one_and_gives_it(
    behind: tuple[httpx2.Client, Running, str],
) -> None:
    client, server, key = behind
    answer = client.post(GENERATIONS, json=SHORT, headers=bearer(key))
    url = httpx2.URL(answer.json()["data"][0]["url"])
    assert str(url).startswith(f"{PUBLIC}/v1/unclip/files/")
    image = Image.open(io.BytesIO(client.get(url.raw_path.decode()).content))
    assert same(image, server.model.generate("a red apple", size=64, seed=1)[0].image)
    jobs = client.get("/v1/unclip/jobs?limit=1", headers=bearer(key)).json()["data"]
    assert all(picture["url"].startswith(PUBLIC) for job in jobs for picture in job["pictures"])


def test_a_stream_comes_through(behind: tuple[httpx2.Client, Running, str]) -> None:
    client, _, key = behind
    fields = {**SHORT, "stream": True, "partial_images": 2, "steps": 9}
    text = client.post(GENERATIONS, json=fields, headers=bearer(key)).text
    assert text.count("event: image_generation.partial_image") == 2
    assert json.loads(text.strip().split("data: ")[-1])["type"] == "image_generation.completed"


def test_the_page_of_the_public_name_may_ask_and_others_may_not(
    behind: tuple[httpx2.Client, Running, str],
) -> None:
    client, _, key = behind
    own = {"origin": PUBLIC, **bearer(key)}
    assert client.post(GENERATIONS, json=SHORT, headers=own).is_success
    for origin in (f"http://{NAME}", "https://evil.example", f"{PUBLIC}.evil.example"):
        refused(client.post(GENERATIONS, json=SHORT, headers={"origin": origin, **bearer(key)}), 403)
    refused(client.get("/v1/models", headers={"host": "evil.example", **bearer(key)}), 421)


def test_a_page_logs_in_for_a_cookie_that_goes_by_tls_alone(
    behind: tuple[httpx2.Client, Running, str],
) -> None:
    client, _, key = behind
    said = client.post("/v1/unclip/login", json={"key": key}, headers={"origin": PUBLIC})
    for word in ("HttpOnly", "SameSite=strict", "Secure"):
        assert word in said.headers["set-cookie"]
    cookie = said.headers["set-cookie"].partition(";")[0]
    assert client.get("/v1/unclip/pictures", headers={"cookie": cookie}).is_success
    refused(client.get("/v1/unclip/pictures", headers={"cookie": "unclip=other"}), 401)


def test_a_public_name_needs_keys_and_no_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give --keys FILE"):
        Place(public_url=PUBLIC)
    new_key(tmp_path / "keys", "anna")
    keys = Keys(tmp_path / "keys")
    assert Place(public_url="http://localhost:8080").hosts
    for wrong in ("draw.example.org", "ftp://draw.example.org", f"{PUBLIC}/draw", f"{PUBLIC}?a"):
        with pytest.raises(InputError, match="give https://NAME"):
            Place(public_url=wrong, keys=keys)
