"""Promises of the routes beside drawing: options, prompts, cards, origins, tiles, moving pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from support.serving import Running, file_of, refused, running
from unclip.bundle import Bundle
from unclip.errors import BundleError
from unclip.images import read_source_type
from unclip.manipulate.outpaint import TILES, Margins, outpaint
from unclip.provenance import Proof, Signer, make_key, verify
from unclip.serve.contract import Asked
from unclip.serve.outgoing import Marking
from unclip.xmp import SourceType

CARD = "# tiny\n\nA bundle for tests.\n"


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tiny_bundle, tmp_path_factory.mktemp("serve")) as server:
        yield server


def drawn(server: Running, seed: int, size: int = 64) -> str:
    fields = {"prompt": "a red apple", "size": f"{size}x{size}", "seed": seed, "model": "tiny"}
    keep = {"x-unclip-keep": "1"}
    assert server.client.post("/v1/images/generations", json=fields, headers=keep).is_success
    return str(server.client.get("/v1/unclip/pictures?limit=1").json()["data"][0]["id"])


def test_a_model_says_its_settings_with_ranges_and_how_large_it_is(server: Running) -> None:
    model = server.client.get("/v1/models/tiny").json()
    options = {option["name"]: option for option in model["options"]}
    assert set(options) <= set(model["settings"])
    guidance = options["guidance"]
    assert (guidance["minimum"], guidance["maximum"]) == (0, 50)
    assert guidance["default"] == model["guidance"]
    assert (options["steps"]["whole"], options["steps"]["default"]) == (True, model["steps"]["generate"])
    assert options["prior"]["choices"] == ["diffusion", "ar", "none"]
    assert "ddim" in options["sampler"]["choices"]
    assert model["bytes"] > 0


def test_what_a_value_of_an_option_may_be_the_server_takes_and_beyond_it_refuses(server: Running) -> None:
    for option in server.client.get("/v1/models/tiny").json()["options"]:
        if option["maximum"] is None or option["name"] in ("steps", "rerank"):
            continue
        asked = {"prompt": "a", "size": "64x64", "model": "tiny", option["name"]: option["maximum"] + 1}
        assert refused(server.client.post("/v1/images/generations", json=asked))["param"] == option["name"]


def test_shipped_bundles_say_six_prompts_in_each_of_the_studios_languages() -> None:
    for name in ("pictograms", "pictograms-dalle1"):
        prompts = Bundle.load(name).prompts
        assert {language: len(set(texts)) for language, texts in prompts.items()} == {
            "en": 6,
            "ko": 6,
            "de": 6,
        }


def test_a_bundle_without_prompts_has_none(server: Running) -> None:
    assert server.client.get("/v1/models/tiny").json()["prompts"] == {}


def test_a_card_is_the_bundles_readme(server: Running) -> None:
    folder = server.service.models.bundles["tiny"].folder
    card = folder / "README.md"
    before = card.read_text() if card.is_file() else None
    card.write_text(CARD)
    try:
        assert server.client.get("/v1/unclip/models/tiny/card").text == CARD
    finally:
        card.unlink()
        if before is not None:
            card.write_text(before)
    refused(server.client.get("/v1/unclip/models/another/card"), 404)


def test_what_leaves_a_server_that_marks_and_signs_is_trusted_and_marked(
    server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNCLIP_PROVENANCE", str(tmp_path / "keys"))
    signer, b64 = Signer(make_key("a server")), {"response_format": "b64_json"}
    monkeypatch.setattr(server.service, "marking", Marking(watermark=True, signer=signer))
    answer = server.post("/v1/images/generations", prompt="a red apple", size="1024x1024", **b64).json()
    made = verify(base64.b64decode(answer["data"][0]["b64_json"]))
    assert (made.proof, made.signer, made.parents) == (Proof.TRUSTED, "a server", ())
    assert made.watermark is not None
    assert made.watermark.weights == server.service.models.loaded["tiny"].bundle.identity
    source = {"image": file_of(Image.new("RGB", (64, 64), "red"))}
    form = {"size": "64x64", **b64}
    answer = server.client.post("/v1/images/variations", files=source, data=form).json()
    varied = verify(base64.b64decode(answer["data"][0]["b64_json"]))
    assert (varied.proof, varied.parents) == (Proof.TRUSTED, ("picture 1",))


def test_pictures_on_the_way_say_that_a_model_makes_them() -> None:
    image = Image.new("RGB", (64, 64))
    for verb, made in (("generate", SourceType.GENERATED), ("edit", SourceType.COMPOSITE)):
        asked = Asked(verb, "tiny")
        assert read_source_type(Marking().on_the_way(image, asked)) == made
        assert read_source_type(Marking(provenance=False).on_the_way(image, asked)) is None


def test_an_origin_is_what_the_file_claims_with_its_settings(server: Running) -> None:
    file = server.client.get(f"/v1/unclip/pictures/{drawn(server, 5)}/file").content
    origin = server.client.post("/v1/unclip/verify", files={"image": file}).json()
    assert origin["proof"] == "labelled"
    assert (origin["settings"]["prompt"], origin["settings"]["seed"]) == ("a red apple", "5")
    plain = file_of(Image.new("RGB", (8, 8)))
    assert server.client.post("/v1/unclip/verify", files={"image": plain}).json()["proof"] == "nothing"
    uri = f"data:image/png;base64,{base64.b64encode(file).decode()}"
    assert server.post("/v1/unclip/verify", image=uri).json() == origin
    for broken in (b"no picture", file[:60]):
        error = refused(server.client.post("/v1/unclip/verify", files={"image": broken}))
        assert "/" not in error["message"].replace("PNG, JPEG", "")
    refused(server.post("/v1/unclip/verify", image="https://example.org/a.png"))
    refused(server.post("/v1/unclip/verify"))


def test_tiles_are_told_before_they_are_drawn_as_they_are_drawn(server: Running) -> None:
    asked = {"model": "tiny", "width": 64, "height": 64, "right": 64}
    told = server.post("/v1/unclip/tiles", **asked).json()
    events = outpaint(server.model, Image.new("RGB", (64, 64)), "a red apple", Margins(right=64), steps=1)
    first = next(iter(events))
    assert first.stage == TILES
    assert len(told["corners"]) == first.total
    assert all(0 <= x <= 128 - told["side"] and y == 0 for x, y in told["corners"])
    assert refused(server.post("/v1/unclip/tiles", width=64, height=64))["code"] == "invalid_value"
    huge = {"width": 10**7, "height": 10**7, "left": 4}
    assert refused(server.post("/v1/unclip/tiles", **huge))["param"] == "width"


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_frames_come_as_one_moving_picture(server: Running, kind: str) -> None:
    ids = [drawn(server, seed) for seed in range(3)]
    answer = server.client.get(f"/v1/unclip/animation?ids={','.join(ids)}&format={kind}")
    image = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == f"image/{kind}"
    assert (image.n_frames, image.size) == (3, (64, 64))
    slow = f"/v1/unclip/animation?ids={','.join(ids)}&format={kind}&milliseconds=500&back=true"
    image = Image.open(io.BytesIO(server.client.get(slow).content))
    assert image.n_frames == 4
    assert kind == "webp" or image.info["duration"] == 500
    there_and_back = server.client.get(f"/v1/unclip/animation?ids={','.join(ids)}&format={kind}&back=true")
    assert Image.open(io.BytesIO(there_and_back.content)).n_frames == 4
    refused(server.client.get(f"/v1/unclip/animation?ids={ids[0]}"))
    refused(server.client.get(f"/v1/unclip/animation?ids={ids[0]},pic_0"), 404)
    refused(server.client.get(f"/v1/unclip/animation?ids={ids[0]},{drawn(server, 0, 256)}"))


def test_an_edit_takes_the_masks_own_soft_edge(server: Running) -> None:
    picture, mask = Image.new("RGB", (64, 64), "white"), Image.new("RGBA", (64, 64))
    mask.putalpha(Image.linear_gradient("L").resize((64, 64)).point(lambda level: max(0, level - 8)))
    files = {"image": file_of(picture), "mask": file_of(mask)}
    for feather, status in (("mask", 200), ("8", 200), ("soft", 400)):
        fields = {"prompt": "a red apple", "model": "tiny", "feather": feather, "steps": "1"}
        answer = server.client.post("/v1/images/edits", data=fields, files=files)
        assert answer.status_code == status, answer.text


def test_prompts_of_another_form_are_refused_by_name(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, Bundle.load().manifest)
    for text in ("[", '["a red apple"]', '{"en": 3}'):
        (tmp_path / "prompts.json").write_text(text)
        with pytest.raises(BundleError, match="give lists of texts by language"):
            _ = bundle.prompts
