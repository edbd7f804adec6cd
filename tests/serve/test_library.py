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
from unclip.serve.routes import clip

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


def test_a_search_looks_at_some_pictures_at_a_time_and_says_how_many_are_left(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.service.store._rows("delete from embeddings")
    monkeypatch.setattr(clip, "MOST_LOOKED_AT", 2)
    count, lefts = len(ids_of(server)), []
    for _ in range(3):
        answer = server.post("/v1/unclip/search", text="a red apple").json()
        assert len(answer["data"]) == count - answer["left"]
        lefts.append(answer["left"])
    assert lefts == [max(0, count - looked) for looked in (2, 4, 6)]


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


def test_a_picture_that_is_made_of_another_names_it_as_its_parent(server: Running) -> None:
    parent = ids_of(server)[0]
    file = server.client.get(f"{PICTURES}/{parent}/file").content
    fields = {"size": "64x64", "seed": "9", "steps": "2", "model": "tiny"}
    keep = {"x-unclip-keep": "1"}
    answer = server.client.post("/v1/images/variations", data=fields, files={"image": file}, headers=keep)
    assert answer.is_success
    made = server.client.get(f"{PICTURES}?limit=1").json()["data"][0]
    assert made["job"] == answer.json()["job"]
    assert made["parents"] == [parent]
    assert server.client.get(f"{PICTURES}/{parent}").json()["parents"] == []


def test_the_library_is_filtered_by_bundle_and_date(server: Running) -> None:
    newest, *older = server.client.get(PICTURES).json()["data"]
    found = server.client.get(f"{PICTURES}?since={newest['created']!r}").json()["data"]
    assert [one["id"] for one in found] == [newest["id"]]
    found = server.client.get(f"{PICTURES}?until={newest['created']!r}&model=tiny").json()["data"]
    assert [one["id"] for one in found] == [one["id"] for one in older]
    assert server.client.get(f"{PICTURES}?model=other").json()["data"] == []


def test_boards_are_made_filled_renamed_and_taken_away_and_their_pictures_stay(server: Running) -> None:
    boards, (first, second, *_) = "/v1/unclip/boards", ids_of(server)
    server.post(boards, name="empty")
    answer = server.client.patch(PICTURES, json={"ids": [second, first, "pic_0"], "board": "과일/fruit"})
    assert answer.json() == {"changed": [second, first]}
    found = server.client.get(boards).json()["data"]
    assert found == [
        {"name": "empty", "count": 0, "cover": None},
        {"name": "과일/fruit", "count": 2, "cover": first},
    ]
    server.client.patch(f"{PICTURES}/{first}", json={"deleted": True})
    assert server.client.get(boards).json()["data"][1] == {"name": "과일/fruit", "count": 1, "cover": second}
    server.client.patch(f"{PICTURES}/{first}", json={"deleted": False})
    server.client.patch(f"{boards}/과일/fruit", json={"name": "empty"}).raise_for_status()  # they become one
    assert [(one["name"], one["count"]) for one in server.client.get(boards).json()["data"]] == [("empty", 2)]
    assert server.client.delete(f"{boards}/empty").status_code == 204
    assert server.client.get(boards).json()["data"] == []
    assert server.client.get(f"{PICTURES}/{first}").json()["board"] == ""
    refused(server.client.delete(f"{boards}/empty"), 404)
    refused(server.client.patch(f"{boards}/nope", json={"name": "x"}), 404)
    for name in ("", "a\nb", "x" * 101):
        refused(server.post(boards, name=name))
