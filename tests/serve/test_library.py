"""Promises of the library: thumbnails, archives, search, labels, canvases; and of models that come and go."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.pictures import speckled
from support.serving import Running, file_of, refused, running, uri_of

PICTURES = "/v1/unclip/pictures"


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        for seed in range(3):
            fields = {"prompt": "a red apple", "size": "64x64", "seed": seed, "model": "tiny"}
            keep = {"x-unclip-keep": "1"}
            assert server.client.post("/v1/images/generations", json=fields, headers=keep).is_success
        yield server


def ids_of(server: Running) -> list[str]:
    return [picture["id"] for picture in server.client.get(PICTURES).json()["data"]]


def test_a_thumbnail_is_small(server: Running) -> None:
    answer = server.client.get(f"{PICTURES}/{ids_of(server)[0]}/thumbnail?side=32")
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size) == ("WEBP", (32, 32))
    refused(server.client.get(f"{PICTURES}/pic_0/thumbnail"), 404)


def test_an_archive_holds_the_pictures(server: Running) -> None:
    ids = ids_of(server)
    archive = zipfile.ZipFile(io.BytesIO(server.client.get(f"/v1/unclip/zip?ids={','.join(ids)}").content))
    assert archive.namelist() == [f"{id}.png" for id in ids]
    assert archive.read(f"{ids[0]}.png") == server.client.get(f"{PICTURES}/{ids[0]}/file").content
    refused(server.client.get("/v1/unclip/zip?ids=pic_0"), 404)
    refused(server.client.get("/v1/unclip/zip?ids=../secret"))


def test_pictures_are_found_by_picture_and_by_text(server: Running) -> None:
    ids = ids_of(server)
    file = server.client.get(f"{PICTURES}/{ids[1]}/file").content
    hits = server.post("/v1/unclip/search", image=uri_of(Image.open(io.BytesIO(file))), limit=2).json()[
        "data"
    ]
    assert hits[0]["picture"]["id"] == ids[1]
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert len(hits) == 2
    found = server.post("/v1/unclip/search", text="a red apple").json()["data"]
    expected = server.model.clip.similarity(file, "a red apple").item()
    assert next(hit["similarity"] for hit in found if hit["picture"]["id"] == ids[1]) == pytest.approx(
        expected, abs=1e-3
    )
    refused(server.post("/v1/unclip/search"))
    refused(server.post("/v1/unclip/search", text="x", model="nope"), 404)


def test_labels_are_as_likely_as_the_model_says(server: Running) -> None:
    labels = ["a red apple", "a cat"]
    answer = server.post("/v1/unclip/classify", image=uri_of(speckled(64)), labels=labels).json()
    (expected,) = server.model.clip.classify([file_of(speckled(64))], labels)
    assert {one["label"]: one["probability"] for one in answer["labels"]} == pytest.approx(expected, abs=1e-4)
    refused(server.post("/v1/unclip/classify", image="data:image/png;base64,AAAA", labels=labels))
    refused(server.post("/v1/unclip/classify", image=uri_of(speckled(64)), labels=["a", "a"]))


def test_canvases_are_saved_and_come_back(server: Running) -> None:
    path = "/v1/unclip/canvases"
    saved = server.client.put(f"{path}/one", json={"name": "first", "document": "{}"}).json()
    assert server.client.get(f"{path}/one").json() == saved
    server.client.put(f"{path}/one", json={"document": "[1]"})
    assert server.client.get(f"{path}/one").json()["document"] == "[1]"
    assert [entry["id"] for entry in server.client.get(path).json()["data"]] == ["one"]
    refused(server.client.put(f"{path}/big", json={"document": "x" * (4 * 2**20 + 1)}), 413)
    assert server.client.delete(f"{path}/one").status_code == 204
    refused(server.client.get(f"{path}/one"), 404)
    refused(server.client.delete(f"{path}/one"), 404)


def test_a_model_is_let_go_and_read_again(server: Running) -> None:
    path = "/v1/unclip/models/tiny"
    assert not server.client.post(f"{path}/unload").json()["loaded"]
    assert not server.client.get("/v1/models/tiny").json()["loaded"]
    assert server.client.post(f"{path}/load").json()["loaded"]
    assert server.service.models.loaded["tiny"].networks.held
    refused(server.client.post("/v1/unclip/models/nope/load"), 404)
