"""Promises of fetching: resumes, checks hashes, leaves nothing false behind, and says what to do by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from support.file_server import REVISION, FileServer
from unclip.catalogue import Ability, HubFiles, Published, WebFile
from unclip.checkpoints import download
from unclip.errors import DownloadError

WEIGHTS = bytes(range(256)) * 20_000  # 5 MB
REPOSITORY = "kakaobrain/tiny"
LISTED = {
    "model_index.json": b"{}",
    "prior/config.json": b'{"a": 1}',
    "prior/diffusion_pytorch_model.bin": b"pickle",
    "prior/diffusion_pytorch_model.safetensors": WEIGHTS,
    "prior/diffusion_pytorch_model.fp16.safetensors": b"half",
    "text_encoder/pytorch_model.bin": b"only a pickle",
    "README.md": b"# tiny",
}
PATTERNS = ("model_index.json", "*/*.json", "*/*model.*")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 5)
    huggingface_hub.close_session()  # the session of another test knows other proxies
    yield
    huggingface_hub.close_session()


def published(*sources: WebFile | HubFiles, opens: str = "") -> Published:
    return Published(
        name="tiny",
        family="clip",
        format="clip-openai",
        abilities=(Ability.COMPARE,),
        parameters={"clip": 1},
        licence="MIT",
        sources=sources,
        page="https://example.org",
        opens=opens,
    )


def web(server: FileServer, sha256: str | None = None) -> Published:
    server.files["/models/tiny.pt"] = WEIGHTS
    return published(WebFile(f"{server.url}/models/tiny.pt", "tiny.pt", sha256), opens="tiny.pt")


def hub(server: FileServer) -> Published:
    server.add_repository(REPOSITORY, LISTED)
    return published(HubFiles(REPOSITORY, PATTERNS))


def fetch(model: Published) -> list[download.Transfer]:
    return list(download.fetch(model))


def left(model: Published) -> list[str]:
    folder = model.download_folder
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_with_progress_up_to_its_last_byte(server: FileServer) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    events = fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS
    assert events[-1] == download.Transfer("tiny.pt", len(WEIGHTS), len(WEIGHTS))
    assert [event.done for event in events] == sorted({event.done for event in events})
    assert left(model) == ["tiny.pt"]


def test_what_is_there_is_not_fetched_again(server: FileServer) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    model.download_folder.mkdir(parents=True)
    download.opened(model).write_bytes(WEIGHTS)  # by hand
    assert fetch(model) == []
    assert server.requests == []


def test_a_connection_that_breaks_is_resumed_at_once(server: FileServer) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    server.breaks["/models/tiny.pt"] = 3_000_000
    fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS
    first, second = server.ranges("/models/tiny.pt")
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 3_000_000


@pytest.mark.parametrize("version", ["", '"v1"'])
def test_an_interrupted_download_goes_on_where_it_was(server: FileServer, version: str) -> None:
    """With a hash or with the server's word that it is still the same file."""
    model = web(server, None if version else hashlib.sha256(WEIGHTS).hexdigest())
    if version:
        server.versions["/models/tiny.pt"] = version
    events = download.fetch(model)
    next(events)
    events.close()  # Ctrl-C
    assert "tiny.pt.part" in left(model)
    assert "1.0 MB" in download.kept(model)
    resumed = fetch(model)
    assert resumed[0].done > 2**20
    assert server.ranges("/models/tiny.pt")[1] == f"bytes={2**20}-"
    assert download.opened(model).read_bytes() == WEIGHTS
    assert left(model) == ["tiny.pt"]


def test_another_version_of_the_file_is_fetched_from_its_start(server: FileServer) -> None:
    model = web(server)
    server.versions["/models/tiny.pt"] = '"v1"'
    events = download.fetch(model)
    next(events)
    events.close()
    server.versions["/models/tiny.pt"] = '"v2"'
    server.files["/models/tiny.pt"] = WEIGHTS[::-1]
    fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS[::-1]


def test_without_hash_and_version_nothing_is_glued_together(server: FileServer) -> None:
    model = web(server)
    events = download.fetch(model)
    next(events)
    events.close()
    server.files["/models/tiny.pt"] = WEIGHTS[::-1]
    fetch(model)
    assert server.ranges("/models/tiny.pt") == ["", ""]
    assert download.opened(model).read_bytes() == WEIGHTS[::-1]


def test_a_part_that_is_already_whole_is_taken(server: FileServer) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    model.download_folder.mkdir(parents=True)
    (model.download_folder / "tiny.pt.part").write_bytes(WEIGHTS)
    fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS


def test_a_part_that_is_too_long_is_thrown_away(server: FileServer) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    model.download_folder.mkdir(parents=True)
    (model.download_folder / "tiny.pt.part").write_bytes(WEIGHTS + b"more")
    with pytest.raises(DownloadError, match="416"):
        fetch(model)
    fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS


def test_a_wrong_hash_is_refused_and_the_file_removed(server: FileServer) -> None:
    model = web(server, "0" * 64)
    with pytest.raises(DownloadError, match=f"SHA-256 {hashlib.sha256(WEIGHTS).hexdigest()}.*0000.*removed"):
        fetch(model)
    assert left(model) == []


def test_a_missing_file_says_what_to_fetch_by_hand(server: FileServer) -> None:
    model = web(server)
    server.status["/models/tiny.pt"] = 404
    with pytest.raises(DownloadError, match="answered 404") as raised:
        fetch(model)
    said = str(raised.value)
    assert f"{server.url}/models/tiny.pt as {download.opened(model)}" in said
    assert f"`unclip convert {download.opened(model)} {model.bundle_folder} --name tiny`" in said
    assert left(model) == []


def test_no_server_at_all_says_what_to_fetch_by_hand(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nowhere)
    model = published(WebFile(f"{nowhere}/tiny.pt", "tiny.pt"), opens="tiny.pt")
    with pytest.raises(
        DownloadError, match=r"cannot fetch .*; by hand: fetch http://127.0.0.1:9/tiny.pt as "
    ):
        fetch(model)
    with pytest.raises(
        DownloadError, match=r"cannot list .* model_index.json .* of https://huggingface.co/kaka"
    ):
        fetch(published(HubFiles(REPOSITORY, PATTERNS)))


def test_a_server_that_fails_half_way_keeps_what_came(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = web(server, hashlib.sha256(WEIGHTS).hexdigest())
    events = download.fetch(model)
    next(events)
    events.close()
    server.status["/models/tiny.pt"] = 503
    with pytest.raises(DownloadError, match=r"answered 503.*1\.0 MB are kept"):
        fetch(model)
    assert "tiny.pt.part" in left(model)


def test_a_full_disk_is_named_before_anything_is_fetched(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = web(server)

    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    with pytest.raises(DownloadError, match=r"no room for tiny\.pt in .*: make room"):
        fetch(model)


def test_a_repository_is_fetched_as_the_hub_lists_it(server: FileServer) -> None:
    """Safetensors rather than pickles, no halved variants, nothing that was not asked for."""
    model = hub(server)
    fetch(model)
    assert left(model) == [
        "model_index.json",
        "prior/config.json",
        "prior/diffusion_pytorch_model.safetensors",
        "text_encoder/pytorch_model.bin",
    ]
    assert (model.download_folder / "prior/diffusion_pytorch_model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["prior/diffusion_pytorch_model.safetensors", "prior/config.json"])
def test_a_file_of_a_repository_must_have_the_hash_that_the_hub_states(server: FileServer, name: str) -> None:
    model = hub(server)
    path = f"/{REPOSITORY}/resolve/{REVISION}/{name}"
    listing = server.listing(REPOSITORY)
    content = server.files[path]
    server.files[path] = content[:-1] + b"?"
    server.listing = lambda repository: listing
    with pytest.raises(DownloadError, match=r"not the published file .*(SHA-256|git SHA-1)"):
        fetch(model)
    assert name not in left(model)


def test_a_token_goes_to_the_hub_and_to_nobody_else(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(hub(server))
    assert all(headers["authorization"] == "Bearer hf_secret" for _, _, headers in server.requests)
    server.requests.clear()
    fetch(web(server))
    assert all("authorization" not in headers for _, _, headers in server.requests)


def test_an_unknown_repository_is_said_to_be_unknown(server: FileServer) -> None:
    with pytest.raises(DownloadError, match="cannot list kakaobrain/tiny .*answered 404"):
        fetch(published(HubFiles(REPOSITORY, PATTERNS)))


def test_a_repository_that_changed_its_files_is_named(server: FileServer) -> None:
    server.add_repository(REPOSITORY, {"README.md": b"moved"})
    with pytest.raises(DownloadError, match=r"has no model_index\.json: it has README\.md"):
        fetch(published(HubFiles(REPOSITORY, PATTERNS)))


def test_paths_out_of_the_folder_are_not_followed(server: FileServer) -> None:
    with pytest.raises(DownloadError, match="has no"):
        download.chosen(
            ["../../evil.json", "/etc/evil.json", "\x1b[2Jevil.json"], HubFiles(REPOSITORY, ("*.json",))
        )


def test_more_than_was_listed_is_not_kept(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model, listing = hub(server), server.listing(REPOSITORY)
    short = [{**sibling, "size": 1, "lfs": None} for sibling in listing["siblings"]]  # type: ignore[attr-defined]
    monkeypatch.setattr(server, "listing", lambda repository: {**listing, "siblings": short})
    with pytest.raises(DownloadError, match="more comes than the 1 bytes that were to come"):
        fetch(model)
    assert left(model) == []


def test_a_proxy_is_used_as_the_environment_says(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    huggingface_hub.close_session()
    server.files["/models/tiny.pt"] = WEIGHTS
    model = published(WebFile("http://models.invalid/models/tiny.pt", "tiny.pt"), opens="tiny.pt")
    fetch(model)
    assert download.opened(model).read_bytes() == WEIGHTS
    assert server.requests[0][2]["host"] == "models.invalid"


def cache(folder: Path, files: dict[str, bytes]) -> None:
    """Files of the repository as huggingface_hub keeps them."""
    repository = folder / f"models--{REPOSITORY.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    for name, content in files.items():
        path = repository / "snapshots" / REVISION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_offline_what_the_hub_s_cache_holds_is_taken(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub(server)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set.*by hand"):
        fetch(model)
    cache(tmp_path / "hub", {"model_index.json": b"{}"})  # not all of it
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        fetch(model)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        fetch(web(server))
    assert server.requests == []


def test_offline_a_whole_repository_in_the_cache_is_enough(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub(server)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache(tmp_path / "hub", LISTED)
    fetch(model)
    assert (model.download_folder / "prior/diffusion_pytorch_model.safetensors").read_bytes() == WEIGHTS
    assert server.requests == []


def test_online_the_cache_spares_the_transfer(server: FileServer, tmp_path: Path) -> None:
    model = hub(server)
    cache(tmp_path / "hub", LISTED)
    fetch(model)
    assert [path for _, path, _ in server.requests] == [f"/api/models/{REPOSITORY}/revision/main"]
    assert (model.download_folder / "prior/config.json").read_bytes() == LISTED["prior/config.json"]
