"""Promises of the files in deploy/: what they name exists, and their checkers find nothing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from unclip.cli import app

REPOSITORY = Path(__file__).parent.parent
DEPLOY = REPOSITORY / "deploy"


def manifests() -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()) if one]


def pods() -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in manifests() if "template" in one.get("spec", {})]


def commands() -> list[str]:
    """The shell lines of compose and Kubernetes."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    lines = [line for service in services for line in service["command"]]
    return lines + [line for pod in pods() for container in pod["containers"] for line in container["args"]]


@pytest.mark.parametrize("line", commands())
def test_the_options_that_are_given_to_unclip_serve_exist(line: str) -> None:
    verb = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in verb.params for option in parameter.opts}
    for call in re.findall(r"unclip serve (.*)", line.replace("\n", " ")):
        given = {word for word in shlex.split(call) if word.startswith("--")}
        assert given, line
        assert given <= known


def test_no_container_is_privileged_and_none_writes_into_its_image() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
    for service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_a_cluster_has_a_token_and_tells_nobody_of_its_use() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    environments = [service["environment"] for service in services]
    for pod in pods():
        for container in pod["containers"]:
            environments.append({one["name"]: one.get("value", "secret") for one in container["env"]})
    assert environments
    for environment in environments:
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"]
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    for line in commands():
        assert "--include-dashboard false" in line or "--head" not in line


def test_the_image_runs_as_nobody_special_and_gets_all_that_is_installed_from() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert next(line for line in reversed(lines) if line.startswith("USER")) == "USER 10001"
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in lines:
        if line.startswith("COPY"):
            assert all(f"!{name}" in ignored for name in shlex.split(line)[1:-1])
    assert "--constraint constraints.txt" in "".join(lines)
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    assert all(service["build"]["args"] == {"EXTRA": "cluster"} for service in services)


def test_the_server_is_probed_and_has_time_to_finish_what_it_draws() -> None:
    from unclip.serve.server import GRACE_SECONDS

    (pod,) = (pod for pod in pods() if pod["containers"][0]["name"] == "server")
    (server,) = pod["containers"]
    assert server["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert server["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert pod["terminationGracePeriodSeconds"] >= GRACE_SECONDS


def test_the_kubernetes_manifest_is_valid() -> None:
    pytest.importorskip("kubernetes_validate", reason="`make test-cluster` has it")
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(DEPLOY / "kubernetes.yaml")]
    checker = Path(sys.executable).with_name("kubernetes-validate")
    found = subprocess.run([checker, *command[3:]], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
