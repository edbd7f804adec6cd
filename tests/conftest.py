"""Fixtures that several test files share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.file_server import FileServer
from support.styled_corpus import build_styled
from support.tiny_bundles import ar_prior_part, parts_of, unclip_parts
from unclip.bundle import Bundle, save_bundle

# a machine that does other work beside the tests is no failure
settings.register_profile("unclip", deadline=None)
settings.load_profile("unclip")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle of untrained networks, up to 1024 px in well under a second. Do not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    parts = unclip_parts()
    save_bundle(folder, name="tiny", parts=parts, card="# tiny\n", licence="Apache-2.0", data="nothing")
    return folder


@pytest.fixture
def tiny_bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle to be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.fixture(scope="session")
def two_priors_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an untrained autoregressive prior as well. Do not change it."""
    parts = parts_of(Bundle.load(tiny_bundle)) | {"ar-prior": ar_prior_part()}
    folder = tmp_path_factory.mktemp("bundles") / "two-priors"
    save_bundle(folder, name="two-priors", parts=parts, card="# two priors\n")
    return folder


@pytest.fixture(scope="session")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes in styles that are learned from, and in two that only tests have. Do not change it."""
    return build_styled(tmp_path_factory.mktemp("corpus") / "styled")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that stands for the Hub."""
    with FileServer() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
