"""Promises that let a worker be elsewhere: what goes there, what comes back, what is counted and settled."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import typer.main

from support.serving import running
from unclip.cli import app
from unclip.errors import InputError
from unclip.ray_cluster import HERE
from unclip.serve.admission import Admission
from unclip.serve.cluster import Size
from unclip.serve.errors import ApiError


def test_a_job_without_a_seed_is_given_one_when_it_is_let_in(tiny_bundle: Path, tmp_path: Path) -> None:
    """So whoever draws it again, after a death or a restart, draws the same picture."""
    with running(tiny_bundle, tmp_path) as server:
        asked = {"verb": "generate", "prompt": "a red apple", "size": "64x64", "steps": 900}
        assert server.post("/v1/unclip/jobs", **asked, model="tiny").status_code == 202
        (live,) = server.service.live.values()
        (kept,) = server.service.store.unfinished()
        assert kept.request["settings"]["seed"] == live.asked.settings["seed"]
        pickle.dumps((live.task.begin, live.task.prompt) if live.task is not None else None)


def test_an_error_of_the_api_comes_whole_from_another_process() -> None:
    error = ApiError(400, "too large", param="size", code="x", headers={"a": "b"}, more={"left": 3})
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.headers, again.document) == (error.status, error.headers, error.document)


def test_admission_lets_in_and_estimates_for_all_workers() -> None:
    admission = Admission(most_jobs=2, most_work=100, most_each=2, rate=10, workers=3)
    for _ in range(6):
        admission.enter("anna", 10)
    assert admission.wait == pytest.approx(60 / 10 / 3)
    assert admission.seconds(60) == pytest.approx(6)
    with pytest.raises(ApiError, match="6 jobs wait"):
        admission.enter("anna", 10)
    with pytest.raises(ApiError, match="even alone|at once"):
        admission.enter("bob", 101)


def test_ray_takes_an_address_or_none() -> None:
    verb = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    for arguments, address in (
        ([], None),
        (["--ray"], HERE),
        (["--ray", "--port", "1"], HERE),
        (["--ray", "10.0.0.1:6379"], "10.0.0.1:6379"),
        (["--ray=auto"], "auto"),
    ):
        assert verb.make_context("serve", list(arguments)).params["ray"] == address


def test_replicas_have_a_size_that_can_be() -> None:
    for size in ({"replicas": 0}, {"cores": 0}, {"gpus": -1}, {"gpus": float("nan")}):
        with pytest.raises(InputError, match="give"):
            Size(**size)
