"""Promises of folders: those that are allowed are indexed and searched, and no more is told of the disk."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.pictures import speckled
from support.serving import PATIENCE, Running, file_of, refused, running, uri_of
from unclip.errors import InputError
from unclip.search.index import Index
from unclip.serve.folders import Folders

FOLDERS = "/v1/unclip/folders"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my pictures")
    (folder / "deep").mkdir()
    for seed in range(3):
        speckled(64, 48, seed=seed).save(folder / f"{seed}.png")
    speckled(64, 48, seed=3).save(folder / "deep" / "빨강.jpg")
    (folder / "no picture.png").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve"), folders=[pictures]) as server:
        yield server


def indexed(server: Running) -> dict[str, Any]:
    (folder,) = server.client.get(FOLDERS).json()["data"]
    path = f"{FOLDERS}/{folder['id']}"
    answer = server.post(f"{path}/index")
    assert answer.status_code == 202, answer.text
    until = time.monotonic() + PATIENCE
    while (folder := server.client.get(path).json())["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    return dict(folder)


def test_a_folder_is_indexed_with_progress_and_searched_by_text_and_picture(
    server: Running, pictures: Path
) -> None:
    (before,) = server.client.get(FOLDERS).json()["data"]
    path = f"{FOLDERS}/{before['id']}"
    assert (before["name"], before["indexed"], before["state"]) == (pictures.name, False, None)
    assert refused(server.post(f"{path}/search", text="red"), 409)["code"] == "not_indexed"
    folder = indexed(server)
    assert folder["state"] == "done", folder
    assert (folder["pictures"], folder["files"], folder["skipped"]) == (4, 4, 1)
    file = (pictures / "1.png").read_bytes()
    found = server.post(f"{path}/search", image=uri_of(Image.open(io.BytesIO(file))), limit=2).json()["data"]
    assert found[0]["name"] == "1.png"
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert (found[0]["width"], found[0]["height"]) == (64, 48)
    texts = server.post(f"{path}/search", text="a red apple").json()["data"]
    with Index(pictures, clip=server.model.clip) as index:
        expected = index.query("a red apple")
    assert [hit["name"] for hit in texts] == [str(hit.path.relative_to(pictures)) for hit in expected]
    assert [hit["similarity"] for hit in texts] == pytest.approx([hit.cosine for hit in expected], abs=1e-3)
    assert "deep/빨강.jpg" in [hit["name"] for hit in texts]
    small = server.client.get(f"{path}/pictures/{found[0]['number']}/thumbnail")
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"
    whole = server.client.get(f"{path}/pictures/{found[0]['number']}/file")
    assert (whole.content, whole.headers["content-type"]) == (file, "image/png")


def test_what_is_no_folder_or_picture_of_it_is_not_found_and_no_path_is_told(
    server: Running, pictures: Path
) -> None:
    path = f"{FOLDERS}/{indexed(server)['id']}"
    for address in (f"{FOLDERS}/fld_0", f"{path}/pictures/999/file", f"{path}/pictures/999/thumbnail"):
        refused(server.client.get(address), 404)
    refused(server.post(f"{path}/index", model="nope"), 404)
    refused(server.post(f"{path}/search"))
    refused(server.post(f"{path}/search", text="red", since="yesterday"))
    refused(server.post(f"{path}/search", text="red", aspect="round"))
    everything = server.client.get(FOLDERS).text + server.post(f"{path}/search", text="red").text
    assert str(pictures.parent) not in everything


def test_the_name_of_a_file_in_a_search_is_a_text_and_reads_no_file(server: Running) -> None:
    path = f"{FOLDERS}/{indexed(server)['id']}"
    answer = server.post(f"{path}/search", text=str(Path(__file__)))
    assert answer.status_code == 200
    assert server.post(f"{path}/search", text='a - "b').status_code == 200


def test_a_file_that_has_become_a_link_out_of_the_folder_is_not_given(
    server: Running, pictures: Path, tmp_path: Path
) -> None:
    path = f"{FOLDERS}/{indexed(server)['id']}"
    found = server.post(f"{path}/search", image=uri_of(Image.open(pictures / "2.png")), limit=1).json()
    number = found["data"][0]["number"]
    whole = (pictures / "2.png").read_bytes()
    (tmp_path / "secret.png").write_bytes(file_of(speckled(16)))
    (pictures / "2.png").unlink()
    (pictures / "2.png").symlink_to(tmp_path / "secret.png")
    try:
        refused(server.client.get(f"{path}/pictures/{number}/file"), 404)
    finally:
        (pictures / "2.png").unlink()
        (pictures / "2.png").write_bytes(whole)


def test_indexing_is_cancelled_and_goes_on(server: Running, pictures: Path) -> None:
    (pictures / "many").mkdir()
    for seed in range(60):
        speckled(16, seed=100 + seed).save(pictures / "many" / f"{seed}.png")
    (folder,) = server.client.get(FOLDERS).json()["data"]
    server.post(f"{FOLDERS}/{folder['id']}/index")
    server.client.post(f"{FOLDERS}/{folder['id']}/cancel")
    until = time.monotonic() + PATIENCE
    while server.client.get(f"{FOLDERS}/{folder['id']}").json()["state"] == "running":
        assert time.monotonic() < until
        time.sleep(0.02)
    assert server.client.get(f"{FOLDERS}/{folder['id']}").json()["state"] == "cancelled"
    assert indexed(server)["pictures"] == 64


def test_without_a_folder_that_is_allowed_there_is_none(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path) as server:
        assert server.client.get(FOLDERS).json()["data"] == []


def test_folders_that_are_not_there_or_of_one_name_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Folders([tmp_path / "none"], tmp_path)
    for parent in ("a", "b"):
        (tmp_path / parent / "same").mkdir(parents=True)
    with pytest.raises(InputError, match="two folders are called same"):
        Folders([tmp_path / "a" / "same", tmp_path / "b" / "same"], tmp_path)
