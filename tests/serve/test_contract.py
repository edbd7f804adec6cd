"""Promises of the contract: every field stands in the docs, and apps that nobody changed are answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.pictures import holed, speckled
from support.serving import Running, picture_in, refused, running, same, uri_of
from support.tiny_bundles import unclip_parts
from unclip.bundle import save_bundle
from unclip.manifest import Styles
from unclip.serve.fields import HOSTED_STYLES, REFUSED, SETTINGS, STEPS, Edit, Generation, Variation

DOCS = Path(__file__).parent.parent.parent / "docs" / "serving.md"
GENERATIONS, EDITS, VARIATIONS = (f"/v1/images/{name}" for name in ("generations", "edits", "variations"))
ENDPOINTS = {"generations": Generation, "edits": Edit, "variations": Variation}
# The parameters of the methods of `openai` 1.109.1, 2.54.0 and 3.57.0, all together (inspect.signature).
SHARED = (
    *(
        "model",
        "n",
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "response_format",
    ),
    *("user", "safety_identifier", "stream", "partial_images", "prompt"),
    *("frame_count", "frame_duration_ms", "svg", "complexity"),
)
PUBLISHED = {
    "generations": {*SHARED, "style", "moderation"},
    "edits": {*SHARED, "image", "mask", "markup", "input_fidelity"},
    "variations": {"image", "model", "n", "response_format", "size", "user"},
}


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("serve")
    with running(tiny_bundle, folder, aliases=["my-model=tiny"]) as server:
        yield server


def table() -> dict[str, tuple[str, str, str, str]]:
    """The rows of the table of fields: of each, what the three endpoints do with it, and how."""
    section = DOCS.read_text().partition("## The fields")[2].partition("\n## ")[0]
    rows = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].startswith("`"):
            for name in re.findall(r"`([a-z0-9_]+)`", cells[0]):
                rows[name] = (cells[1], cells[2], cells[3], cells[4])
    return rows


def settings_in_the_docs(endpoint: str) -> set[str]:
    (line,) = re.findall(rf"^\| {endpoint} \| (`.*) \|$", DOCS.read_text(), re.MULTILINE)
    return set(re.findall(r"`([a-z0-9_]+)`", line))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_that_is_taken_stands_in_the_docs(endpoint: str) -> None:
    kind, place = ENDPOINTS[endpoint], list(ENDPOINTS).index(endpoint)
    settings = settings_in_the_docs(endpoint)
    assert set(SETTINGS[kind]) <= settings
    rows = table()
    for name, field in kind.model_fields.items():
        if name in settings or name == "images":  # which stands beside `image`
            continue
        assert rows[name][place] == ("needed" if field.is_required() or name == "image" else "yes"), name
    assert "`images:" in rows["image"][3]
    said = {name for name, row in rows.items() if row[place] in ("yes", "needed")}
    assert said | settings == kind.model_fields.keys() - {"images"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_field_of_the_published_clients_is_in_the_table_and_taken_or_refused_by_name(
    server: Running, endpoint: str
) -> None:
    rows, place = table(), list(ENDPOINTS).index(endpoint)
    for name in PUBLISHED[endpoint]:
        assert rows[name][place] in ("yes", "needed", "refused"), name
        assert name in ENDPOINTS[endpoint].model_fields or name in REFUSED, name
    for name in REFUSED:
        given = {"prompt": "x"} if endpoint != "variations" else {}
        picture = {} if endpoint == "generations" else {"image": uri_of(speckled(64))}
        error = refused(server.post(f"/v1/images/{endpoint}", **given, **picture, **{name: 3}))
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        assert rows[name][place] == "refused"


def test_every_quality_and_style_of_the_hosted_service_is_explained() -> None:
    rows = table()
    for name in STEPS:
        assert f"`{name}`" in rows["quality"][3]
    for name in HOSTED_STYLES:
        assert f"`{name}`" in rows["style"][3]


# --- unchanged apps ---


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ({}, "url"),
        ({"model": None}, "url"),
        ({"model": "dall-e-2"}, "url"),
        ({"model": "dall-e-3"}, "url"),
        ({"model": "gpt-image-1"}, "b64_json"),
        ({"model": "gpt-image-2-mini"}, "b64_json"),
        ({"model": "tiny"}, "b64_json"),
        ({"model": "my-model"}, "b64_json"),
    ],
)
def test_every_name_that_an_app_may_say_draws_and_answers_in_its_way(
    server: Running, named: dict[str, Any], kind: str
) -> None:
    asked = {"prompt": "x", "size": "64x64", "steps": 2, "seed": 1, **named}
    (entry,) = server.post(GENERATIONS, **asked).json()["data"]
    assert {"url", "b64_json"} & entry.keys() == {kind}
    other = "url" if kind == "b64_json" else "b64_json"
    (entry,) = server.post(GENERATIONS, **asked, response_format=other).json()["data"]
    assert {"url", "b64_json"} & entry.keys() == {other}


def test_aliases_are_told_with_their_model(server: Running) -> None:
    assert server.client.get("/v1/models/my-model").json()["id"] == "tiny"
    assert "my-model" in server.client.get("/v1/models/tiny").json()["aliases"]


@pytest.mark.parametrize("size", [None, "auto"])
def test_a_size_that_is_not_said_is_the_default_and_the_answer_says_it(
    server: Running, size: str | None
) -> None:
    answer = server.post(GENERATIONS, prompt="x", steps=2, model="tiny", size=size).json()
    assert answer["size"] == server.client.get("/v1/models/tiny").json()["default_size"]
    edited = {"image": uri_of(speckled(90, 60)), "mask": uri_of(holed(90, 60, (20, 20, 40, 40)))}
    answer = server.post(EDITS, prompt="x", steps=2, model="tiny", size=size, **edited).json()
    assert answer["size"] == "90x60"


def test_a_size_that_is_not_drawn_is_refused_with_those_that_are(server: Running) -> None:
    error = refused(server.post(GENERATIONS, prompt="x", size="1792x1024"))
    assert error["message"].endswith("choose 64x64, 256x256, 512x512, 1024x1024")


def test_ten_pictures_of_one_edit_are_drawn_and_eleven_refused(server: Running) -> None:
    given = {"image": uri_of(speckled(64)), "mask": uri_of(holed(64, 64, (16, 16, 48, 48)))}
    asked = {"prompt": "x", "steps": 1, "model": "tiny", **given}
    entries = server.post(EDITS, **asked, n=10, seed=4).json()["data"]
    assert [(entry["seed"], entry["index"]) for entry in entries] == [(4, index) for index in range(10)]
    assert refused(server.post(EDITS, **asked, n=11))["param"] == "n"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (EDITS, {"image": "http://127.0.0.1:9/a.png"}, "image"),
        (EDITS, {"images": [{"image_url": "https://example.org/a.png"}]}, "image"),
        (EDITS, {"image": uri_of(speckled(64)), "mask": {"image_url": "file:///etc/passwd"}}, "mask"),
        (VARIATIONS, {"image": "https://example.org/a.png"}, "image"),
        (GENERATIONS, {"init": "ftp://example.org/a.png"}, "init"),
        (GENERATIONS, {"start": "/etc/passwd"}, "start"),
    ],
)
def test_no_address_is_fetched_and_no_file_is_opened(
    server: Running, path: str, fields: dict[str, Any], param: str
) -> None:
    prompt = {} if path == VARIATIONS else {"prompt": "x"}
    error = refused(server.post(path, **prompt, **fields))
    assert error["param"] == param
    assert "no address is fetched" in error["message"]


def test_a_stream_says_in_comments_where_it_stands_in_the_queue(server: Running) -> None:
    long = {"verb": "generate", "prompt": "x", "size": "1024x1024", "n": 4, "model": "tiny"}
    job = server.post("/v1/unclip/jobs", **long).json()["id"]
    asked = {"prompt": "x", "size": "64x64", "model": "tiny", "stream": True}
    with server.client.stream("POST", GENERATIONS, json=asked) as answer:
        first = next(answer.iter_lines())
    server.client.post(f"/v1/unclip/jobs/{job}/cancel")
    assert re.fullmatch(r": queued, [0-9]+ ahead, about [0-9]+ s", first)


def test_a_style_that_the_bundle_lists_is_drawn_and_others_are_refused(tmp_path: Path) -> None:
    styles = Styles(("flat", "noto", "3d"), ("flat", "noto"))
    save_bundle(tmp_path / "styled", name="styled", parts=unclip_parts(context=64), card="", styles=styles)
    with running(tmp_path / "styled", tmp_path / "serve") as server:
        assert server.client.get("/v1/models/styled").json()["styles"] == ["flat", "noto", "3d", "any"]
        asked = {"prompt": "a red apple", "size": "64x64", "model": "styled", "seed": 1}
        (expected,) = server.model.generate("a red apple", size=64, seed=1, style="3d")
        (entry,) = server.post(GENERATIONS, **asked, style="3d").json()["data"]
        drawn = picture_in(entry)
        assert same(drawn, expected.image)
        refused(server.post(GENERATIONS, **asked, style="baroque"))


def test_everything_is_answered_with_an_id_that_the_log_has(
    server: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = server.client.get("/v1/models")
    for _ in range(100):
        if answer.headers["x-request-id"] in (said := capfd.readouterr().err):
            return
        time.sleep(0.05)
    raise AssertionError(said)
