"""Promises of `unclip models`, `pull` and `convert`: from a maker's files to a bundle, or one clear line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors import SafetensorError

from support.file_server import REVISION, FileServer
from support.tiny import OPENAI_CLIP
from unclip import catalogue, cli
from unclip.bundle import Bundle
from unclip.catalogue import Ability, HubFiles, Published, WebFile
from unclip.checkpoints import clip_open, clip_openai
from unclip.models.clip import CLIP
from unclip.nn.transformer import Activation

REPOSITORY = "laion/tiny"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights by OpenAI's names."""
    torch.manual_seed(0)
    return clip_openai.TABLE.write(CLIP(OPENAI_CLIP).state_dict())


@pytest.fixture(scope="module")
def archive(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "tiny.pt"
    torch.save(state, path)
    return path


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's data folder, empty, and nothing in the Hub's cache."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    huggingface_hub.close_session()
    yield tmp_path / "data" / "unclip"
    huggingface_hub.close_session()


def publish(
    monkeypatch: pytest.MonkeyPatch, format: str, source: WebFile | HubFiles, opens: str = ""
) -> Published:
    """Puts a tiny model into the catalogue."""
    model = Published(
        name="clip-tiny",
        family="clip",
        format=format,
        abilities=(Ability.COMPARE,),
        parameters={"clip": 1},
        licence="MIT",
        sources=(source,),
        page="https://example.org/tiny",
        opens=opens,
    )
    monkeypatch.setitem(catalogue.PUBLISHED, model.name, model)
    return model


@pytest.fixture
def on_the_web(server: FileServer, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    content = archive.read_bytes()
    server.files["/tiny.pt"] = content
    source = WebFile(f"{server.url}/tiny.pt", "tiny.pt", hashlib.sha256(content).hexdigest())
    return publish(monkeypatch, "clip-openai", source, "tiny.pt")


def test_models_are_a_table_or_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    said = capsys.readouterr()
    lines = {line.split()[0]: line for line in said.out.splitlines()}
    assert lines["NAME"].split()[:3] == ["NAME", "FAMILY", "PARAMETERS"]
    assert "13.7 GB" in lines["karlo"]
    assert "--offload" in said.err
    assert cli.main(["models", "--json"]) == 0
    document = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert document["karlo"]["memory_bytes"]["bfloat16"]["offload"] == 2 * 1_022_030_080
    assert document["pictograms"]["folder"]
    assert list(document) == list(lines)[1:]


def test_a_pulled_model_is_a_bundle_in_the_user_s_folder(
    on_the_web: Published, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pull", "clip-tiny"]) == 0
    said = capsys.readouterr()
    folder = data / "bundles" / "clip-tiny"
    assert said.out == f"{folder}\n"
    assert [line.partition(":")[0] for line in said.err.splitlines() if line.endswith(" s")] == [
        "tiny.pt",
        "recognise",
        "read",
        "write",
    ]
    bundle = Bundle.load("clip-tiny")
    assert (bundle.folder, bundle.manifest.licence) == (folder, "MIT")
    assert "Converted from https://example.org/tiny" in (folder / "README.md").read_text()
    assert not (data / "downloads" / "clip-tiny").exists()


def test_a_model_that_is_there_is_fetched_again_only_by_force(
    on_the_web: Published, server: FileServer, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pull", "clip-tiny", "--keep"]) == 0
    assert (data / "downloads" / "clip-tiny" / "tiny.pt").is_file()
    server.requests.clear()
    assert cli.main(["pull", "clip-tiny"]) == 0
    assert server.requests == []
    assert "--force" in capsys.readouterr().err
    assert cli.main(["pull", "clip-tiny", "--force", "--dtype", "bfloat16"]) == 0
    assert Bundle.load("clip-tiny").model("clip").text.token_embedding.weight.dtype == torch.bfloat16


def test_a_model_of_the_hub_is_pulled(
    server: FileServer, archive: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["convert", str(archive), str(tmp_path / "bundle"), "--format", "clip-openai"]) == 0
    clip_open.export(Bundle.load(tmp_path / "bundle"), tmp_path / "open")
    files = {path.name: path.read_bytes() for path in (tmp_path / "open").iterdir()}
    server.add_repository(REPOSITORY, {**files, "open_clip_pytorch_model.bin": b"a pickle", "README.md": b""})
    publish(monkeypatch, "clip-open", HubFiles(REPOSITORY, ("open_clip_config.json", "open_clip*model.*")))
    assert cli.main(["pull", "clip-tiny"]) == 0
    network = Bundle.load("clip-tiny").model("clip")
    assert isinstance(network, CLIP)
    assert network.config.activation is Activation.QUICK_GELU
    assert f"/{REPOSITORY}/resolve/{REVISION}/open_clip_pytorch_model.bin" not in [
        path for _, path, _ in server.requests
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pull", "kralo"], 2, "no published model is called 'kralo': did you mean karlo"),
        (
            ["generate", "a", "--model", "karlo"],
            1,
            "karlo is not on disk yet: `unclip pull karlo` fetches it",
        ),
        (["generate", "a", "--model", "pictogram"], 1, "did you mean pictograms?"),
        (["convert", "nothing.pt", "out"], 1, "nothing.pt: no such file or folder"),
        (["convert", "nothing.pt", "out", "--format", "gguf"], 2, "unknown format 'gguf': known are"),
        (["convert", "nothing.pt", "out", "--dtype", "int8"], 2, "unknown dtype 'int8'"),
        (["convert", "nothing.pt", "out", "--set", "labels"], 2, "--set labels: give KEY=VALUE"),
        (
            ["convert", "pictograms", "out", "--to", "clip-open", "--dtype", "float32"],
            2,
            "leave it out with --to",
        ),
        (
            ["convert", "pictograms", "out", "--to", "clip-open"],
            1,
            "of the family unclip: clip-open holds clip",
        ),
        (["convert", "pictograms", "out", "--to", "adm"], 2, "the format adm is only read"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unclip: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_without_a_network_the_error_says_what_to_do(
    on_the_web: Published, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it says works: the file put where it says is converted."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli.main(["pull", "clip-tiny"]) == 1
    said = capsys.readouterr().err
    assert "HF_HUB_OFFLINE is set" in said
    where = data / "downloads" / "clip-tiny" / "tiny.pt"
    assert (
        f"/tiny.pt as {where}, then `unclip convert {where} {data}/bundles/clip-tiny --name clip-tiny`"
        in said
    )
    assert not (data / "bundles").exists()


def test_convert_writes_and_reads_back(archive: Path, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    command = ["convert", str(archive), str(tmp_path / "out"), "--name", "mine", "--format", "clip-openai"]
    assert cli.main(command) == 0
    assert cli.main(["convert", str(tmp_path / "out"), str(tmp_path / "back.pt"), "--to", "clip-openai"]) == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())
    assert cli.main(["convert", str(archive), str(tmp_path / "quick"), "--set", "activation=quick-gelu"]) == 0
    assert Bundle.load(tmp_path / "quick").components["clip"].config["activation"] == "quick-gelu"


def test_what_cannot_be_written_whole_leaves_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(tensors: object, path: Path, *rest: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    assert cli.main(["convert", str(archive), str(tmp_path / "out")]) == 0
    monkeypatch.setattr("unclip.checkpoints.clip_open.save_file", full)
    monkeypatch.setattr("unclip.native.save_file", full)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["convert", str(tmp_path / "out"), str(tmp_path / "back"), "--to", "clip-open"]) == 1
    assert cli.main(["convert", str(archive), str(tmp_path / "other")]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "No space left" in line]
    assert len(said) == 2
    assert all("nothing is left of it" in line and "bug" not in line for line in said)
    assert sorted(tmp_path.iterdir()) == before


def test_offload_and_dtype_draw_the_same(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "a red apple", "--model", str(tiny_bundle), "--size", "64", "--seed", "1"]
    command += ["--dtype", "float32"]
    assert cli.main([*command, "--out", str(tmp_path / "all.png")]) == 0
    assert cli.main([*command, "--out", str(tmp_path / "offload.png"), "--offload"]) == 0
    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "offload.png").read_bytes()
    assert cli.main([*command[:-1], "int8"]) == 2
    assert "unknown precision 'int8'" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_what_has_come_and_says_so(tmp_path: Path) -> None:
    """In a process of its own, with the mirror and the folders that the environment names."""
    content = os.urandom(4_000_000)
    with FileServer() as server:
        path = f"/kuprel/min-dalle/resolve/{REVISION}/decoder_mini.pt"
        names = ("encoder_mini.pt", "vocab_mini.json", "merges_mini.txt", "detoker.pt")
        server.add_repository("kuprel/min-dalle", {"decoder_mini.pt": content, **dict.fromkeys(names, b"{}")})
        server.stalls[path] = 2_500_000
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "hf"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "600",  # a busy machine may take long to notice
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "unclip", "pull", "dalle-mini"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        part = tmp_path / "data" / "unclip" / "downloads" / "dalle-mini" / "decoder_mini.pt.part"
        while not (part.is_file() and part.stat().st_size >= 2**21):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("unclip: error: interrupted: 2.1 MB that have come are kept")
    assert part.read_bytes() == content[: part.stat().st_size]
