"""Promises of the Images API over a real socket: pictures are the model's own, fields are honoured."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.pictures import holed, speckled
from support.serving import Running, file_of, refused, running, same, uri_of

GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        yield server


def images_of(answer: httpx2.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    files = [base64.b64decode(entry["b64_json"]) for entry in answer.json()["data"]]
    return [Image.open(io.BytesIO(file)) for file in files]


# --- pictures ---


def test_a_picture_through_http_is_the_models_own(server: Running) -> None:
    answer = server.post(GENERATIONS, prompt="a red apple", n=2, size="64x64", seed=5, model="tiny")
    expected = server.model.generate("a red apple", n=2, size=64, seed=5)
    for image, picture, entry in zip(images_of(answer), expected, answer.json()["data"], strict=True):
        assert same(image, picture.image)
        assert base64.b64decode(entry["b64_json"]) == picture.encode()
        assert (entry["seed"], entry["index"]) == (picture.seed, picture.index)
        assert entry["score"] == pytest.approx(picture.score, abs=1e-5)
    about = answer.json()
    assert about["size"] == "64x64"
    assert about["usage"]["total_tokens"] > 0


def test_an_edit_without_words_removes_what_is_masked(server: Running) -> None:
    picture, mask = speckled(64), holed(64, 64, (16, 16, 48, 48))
    answer = server.post(EDITS, prompt="", seed=1, model="tiny", image=uri_of(picture), mask=uri_of(mask))
    (expected,) = server.model.edit(picture, mask, "", seed=1)
    (image,) = images_of(answer)
    assert same(image.convert("RGB"), expected.image.convert("RGB"))
    refused(server.post(GENERATIONS, prompt=""))


@pytest.mark.parametrize("form", [True, False])
def test_an_edit_through_http_is_the_models_own(server: Running, form: bool) -> None:
    picture, mask = speckled(64), holed(64, 64, (16, 16, 48, 48))
    if form:
        files = {"image": ("upload", file_of(picture), "application/octet-stream"), "mask": file_of(mask)}
        fields = {"prompt": "a red apple", "n": "2", "seed": "1", "steps": "4", "model": "tiny"}
        answer = server.client.post(EDITS, data=fields, files=files)
    else:
        given = {"image": uri_of(picture), "mask": {"image_url": uri_of(mask)}}
        answer = server.post(EDITS, prompt="a red apple", n=2, seed=1, steps=4, model="tiny", **given)
    expected = server.model.edit(file_of(picture), file_of(mask), "a red apple", n=2, seed=1, steps=4)
    assert len(images_of(answer)) == 2
    for entry, one in zip(answer.json()["data"], expected, strict=True):
        assert base64.b64decode(entry["b64_json"]) == one.encode()


def test_a_variation_through_http_is_the_models_own(server: Running) -> None:
    files = {"image[]": ("blob", file_of(speckled(64)), "application/octet-stream")}
    fields = {"seed": "3", "steps": "4", "size": "64x64", "response_format": "b64_json"}
    answer = server.client.post(VARIATIONS, data=fields, files=files)
    (image,), (expected,) = (
        images_of(answer),
        server.model.vary(file_of(speckled(64)), seed=3, steps=4, size=64),
    )
    assert same(image, expected.image)


def test_an_edit_without_a_size_comes_back_as_large_as_it_was(server: Running) -> None:
    given = {"image": uri_of(speckled(100, 70)), "mask": uri_of(holed(100, 70, (20, 20, 40, 40)))}
    answer = server.post(EDITS, prompt="a red apple", seed=1, steps=2, model="tiny", **given)
    assert images_of(answer)[0].size == (100, 70)
    assert answer.json()["size"] == "100x70"
    again = server.post(EDITS, prompt="a red apple", seed=1, steps=2, model="tiny", size="100x70", **given)
    assert same(images_of(again)[0], images_of(answer)[0])


@pytest.mark.parametrize(
    ("quality", "steps"),
    [
        *(("low", 2), ("medium", 3), ("standard", 3), ("auto", 3)),
        *(("high", 6), ("hd", 6), ("xhigh", 9), ("max", 12)),
    ],
)
def test_quality_chooses_steps(server: Running, quality: str, steps: int) -> None:
    answer = server.post(
        GENERATIONS, prompt="a red apple", size="64x64", seed=1, model="tiny", quality=quality
    )
    assert images_of(answer)[0].text["steps"] == str(steps)
    assert answer.json()["quality"] == quality


def test_style_chooses_guidance(server: Running) -> None:
    for style, guidance in (("vivid", "3"), ("natural", "2")):
        answer = server.post(GENERATIONS, prompt="an apple", size="64x64", seed=1, model="tiny", style=style)
        assert images_of(answer)[0].text["guidance"] == guidance


@pytest.mark.parametrize(("kind", "compression"), [("png", None), ("jpeg", 30), ("jpeg", 95), ("webp", 50)])
def test_the_output_format_and_its_quality_are_honoured(
    server: Running, kind: str, compression: int | None
) -> None:
    fields = {"output_format": kind, "output_compression": compression, "model": "tiny"}
    answer = server.post(GENERATIONS, prompt="a red apple", size="64x64", seed=1, **fields)
    assert images_of(answer)[0].format == kind.upper()
    (expected,) = server.model.generate("a red apple", size=64, seed=1)
    file = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert file == expected.encode(kind, quality=compression)


def test_dall_e_names_answer_with_an_address_that_gives_the_picture(server: Running) -> None:
    for named in ({}, {"model": None}, {"model": "dall-e-3"}):
        answer = server.post(GENERATIONS, prompt="a red apple", size="64x64", seed=1, **named)
        (entry,) = answer.json()["data"]
        image = Image.open(io.BytesIO(server.client.get(entry["url"]).content))
        assert same(image, server.model.generate("a red apple", size=64, seed=1)[0].image)
    assert "b64_json" in server.post(GENERATIONS, prompt="x", size="64x64", model="gpt-image-1").text


def test_an_address_with_another_signature_gives_nothing(server: Running) -> None:
    url = httpx2.URL(server.post(GENERATIONS, prompt="x", size="64x64").json()["data"][0]["url"])
    assert server.client.get(url).status_code == 200
    for change in ({"signature": "0" * 64}, {"expires": str(10**10)}):
        refused(server.client.get(url.copy_merge_params(change)), 404)


def test_an_address_is_good_for_an_hour_and_then_the_file_is_gone(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    url = server.post(GENERATIONS, prompt="x", size="64x64").json()["data"][0]["url"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3500)
    assert server.client.get(url).status_code == 200
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    refused(server.client.get(url), 404)
    server.service.store.sweep(None, None, 7)
    assert not list(server.service.store.pictures.iterdir())


# --- streams ---


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("partials", [0, 2])
def test_a_stream_shows_the_picture_growing(server: Running, partials: int) -> None:
    answer = server.post(
        GENERATIONS,
        prompt="a red apple",
        size="256x256",
        seed=1,
        model="tiny",
        steps=8,
        stream=True,
        partial_images=partials,
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    names = [name for name, _ in events]
    assert names == ["image_generation.partial_image"] * partials + ["image_generation.completed"]
    (expected,) = server.model.generate("a red apple", seed=1, steps=8)
    images = [Image.open(io.BytesIO(base64.b64decode(data["b64_json"]))) for _, data in events]
    assert same(images[-1], expected.image)
    assert [data["partial_image_index"] for _, data in events[:-1]] == list(range(partials))
    assert {image.size for image in images} == {(256, 256)}
    assert len({image.tobytes() for image in images}) == partials + 1
    assert events[-1][1]["usage"]["total_tokens"] > 0
    assert events[-1][1]["seed"] == 1


def test_an_edit_streams_too(server: Running) -> None:
    given = {"image": uri_of(speckled(64)), "mask": uri_of(holed(64, 64, (16, 16, 48, 48)))}
    answer = server.post(EDITS, prompt="a red apple", stream=True, model="tiny", steps=2, **given)
    assert [name for name, _ in events_of(answer.text)] == ["image_edit.completed"]


# --- refusals ---


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \u200b"}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": "2"}, "n"),
        ({"size": "1024x1792"}, "size"),
        ({"size": "128x128"}, "size"),
        ({"size": "large"}, "size"),
        ({"quality": "best"}, "quality"),
        ({"quality": "hd", "steps": 4}, "steps"),
        ({"style": "baroque"}, "style"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "svg"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"response_format": "png"}, "response_format"),
        ({"seed": -1}, "seed"),
        ({"steps": 5000}, "steps"),
        ({"guidance": 51}, "guidance"),
        ({"sampler": "dim"}, "sampler"),
        ({"temperature": 1.0}, "temperature"),
        ({"strength": 0.5}, "strength"),
        ({"init": "https://example.org/a.png"}, "init"),
        ({"init": "data:image/png;base64,!!!!"}, "init"),
        ({"init": "data:image/png;base64,AAAA"}, "init"),
        ({"n": 2, "stream": True}, "n"),
        ({"partial_images": 2}, "partial_images"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"stream": True, "response_format": "url"}, "response_format"),
        ({"frame_count": 3}, "frame_count"),
        ({"colour": "red"}, "colour"),
        ({"moderation": "off"}, "moderation"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    server: Running, fields: dict[str, Any], param: str
) -> None:
    document = {"prompt": "a red apple", "model": "tiny", **fields} if fields else {}
    assert refused(server.post(GENERATIONS, **document))["param"] == param


def test_an_unknown_model_is_not_found(server: Running) -> None:
    error = refused(server.post(GENERATIONS, prompt="x", model="nope"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"prompt": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_cannot_be_read_is_told_so(server: Running, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(server.client.post(GENERATIONS, content=body, headers=headers))


def test_every_failure_has_the_four_keys(server: Running) -> None:
    refused(server.client.get("/v1/nothing"), 404)
    refused(server.client.get(GENERATIONS), 405)
    refused(server.client.post(GENERATIONS, content=b"x", headers={"content-type": "text/plain"}), 415)
    refused(server.client.get("/v1/unclip/jobs?limit=0"))
    refused(server.client.get("/v1/unclip/jobs/job_0"), 404)
    refused(server.client.post(EDITS, content=b"x", headers={"content-type": "multipart/form-data"}))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"mask": None, "image": speckled(64)}, None),
        ({"mask": holed(32, 32, (0, 0, 16, 16))}, "mask"),
        ({"image": None}, "image"),
        ({"input_fidelity": "low"}, "input_fidelity"),
        ({"rounds": 21}, "rounds"),
    ],
)
def test_an_edit_that_cannot_be_done_is_refused(
    server: Running, changes: dict[str, Any], param: str | None
) -> None:
    given = {"image": speckled(64), "mask": holed(64, 64, (16, 16, 48, 48)), **changes}
    fields = {key: uri_of(value) if isinstance(value, Image.Image) else value for key, value in given.items()}
    fields = {key: value for key, value in fields.items() if value is not None}
    error = refused(server.post(EDITS, prompt="a red apple", model="tiny", **fields))
    assert param is None or error["param"] == param


def test_two_pictures_are_not_edited_as_one(server: Running) -> None:
    files = [("image[]", file_of(speckled(64))), ("image[]", file_of(speckled(64)))]
    answer = server.client.post(EDITS, data={"prompt": "x"}, files=files)
    assert refused(answer)["param"] == "image"


def test_what_is_no_picture_is_refused_without_the_decoders_words(server: Running) -> None:
    whole = file_of(speckled(64))
    broken = whole[:60] + b"\0" * 40 + whole[100:]
    for file in (b"no picture", b"", whole[:40], broken):
        error = refused(server.client.post(VARIATIONS, files={"image": file}))
        assert "0x" not in error["message"]
        assert "/" not in error["message"].replace("PNG, JPEG", "")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(server: Running) -> None:
    bomb = bytearray(file_of(Image.new("L", (8, 8))))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    error = refused(server.client.post(VARIATIONS, files={"image": bytes(bomb)}))
    assert "megapixels" in error["message"]


def test_a_body_is_counted_as_it_arrives(server: Running) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(80):
            yield b"x" * 2**20

    try:
        answer = server.client.post(
            GENERATIONS, content=chunks(), headers={"content-type": "application/json"}
        )
    except httpx2.WriteError:  # the server has answered and closed while the client was sending
        return
    refused(answer, 413)


def test_user_fields_are_taken_and_the_newer_is_echoed(server: Running) -> None:
    fields = {"prompt": "x", "size": "64x64", "model": "tiny", "user": "a", "safety_identifier": "b"}
    assert server.post(GENERATIONS, **fields).json()["safety_identifier"] == "b"


def test_a_prompt_that_is_too_long_is_drawn_with_a_warning(server: Running) -> None:
    answer = server.post(GENERATIONS, prompt="a red apple " * 9, size="64x64", model="tiny")
    assert "longer than the 16 tokens" in answer.json()["warnings"][0]


# --- models ---


def test_models_tell_what_they_can(server: Running) -> None:
    (entry,) = server.client.get("/v1/models").json()["data"]
    assert (
        entry
        == server.client.get("/v1/models/tiny").json()
        == server.client.get("/v1/models/dall-e-2").json()
    )
    assert {"id", "object", "created", "owned_by"} <= entry.keys()
    assert entry["sizes"] == ["64x64", "256x256", "512x512", "1024x1024"]
    assert entry["limits"]["n"] == 10
    refused(server.client.get("/v1/models/nope"), 404)
    assert math.isfinite(entry["guidance"])
