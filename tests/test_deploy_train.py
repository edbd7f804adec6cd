"""Promises of the files in deploy/ that train on many machines: what they start exists and starts rightly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from unclip import recipes
from unclip.cli import app

DEPLOY = Path(__file__).parent.parent / "deploy"
SCRIPT, MANIFEST = DEPLOY / "train.slurm", DEPLOY / "train-kubernetes.yaml"
STUBS = {  # of Slurm's commands: the machines of a job, and the command line that a machine gets
    "scontrol": 'test "$*" = "show hostnames m[3-4]" && printf "m3\\nm4\\n"',
    "srun": 'printf "%s\\n" "$@"; printenv OMP_NUM_THREADS',
}
GIVEN = {"RECIPE": "dalle1-12b", "DATA": "/shared/my corpus", "RUN": "/shared/run"}
SLURM = {
    "SLURM_JOB_NODELIST": "m[3-4]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_ID": "77",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_CPUS_PER_TASK": "64",
}


def submitted(folder: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script as Slurm runs it, with stubs for Slurm's own commands."""
    for name, line in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def train_options() -> set[str]:
    verb = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    return {option for parameter in verb.params for option in parameter.opts}


def check_training(words: list[str]) -> None:
    """The part of a command line behind `-m unclip` is one that `unclip train` understands."""
    assert words[:2] == ["unclip", "train"]
    assert words[2] in recipes.names()
    options = {word.partition("=")[0] for word in words[3:] if word.startswith("--")}
    assert {"--data", "--out"} <= options <= train_options()


def test_bash_reads_the_slurm_script() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0


def test_shellcheck_finds_nothing_in_the_slurm_script() -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("`make test-cluster` has it")
    found = subprocess.run([checker, SCRIPT], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_slurm_script_starts_a_torchrun_on_every_machine(tmp_path: Path) -> None:
    found = submitted(tmp_path, GIVEN | SLURM, "--only", "dalle1")
    assert found.returncode == 0, found.stderr
    *words, threads = found.stdout.splitlines()
    assert threads == "8"
    for option, value in {
        "--nnodes": "2",
        "--nproc-per-node": "8",
        "--rdzv-id": "77",
        "--rdzv-endpoint": "m3:29400",
    }.items():
        assert words[words.index(option) + 1] == value
    behind = words[words.index("-m", words.index("--max-restarts")) + 1 :]
    check_training(behind)
    assert behind[-2:] == ["--only", "dalle1"]
    assert "/shared/my corpus" in behind


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_the_slurm_script_says_what_is_missing(tmp_path: Path, missing: str) -> None:
    given = {key: value for key, value in GIVEN.items() if key != missing}
    found = submitted(tmp_path, given | SLURM)
    assert found.returncode != 0
    assert missing in found.stderr


def test_slurm_asks_for_one_task_a_machine_and_gives_time_for_a_checkpoint() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.M))
    assert asked["ntasks-per-node"] == "1"
    signal, seconds = asked["signal"].split("@")
    assert signal == "TERM"  # `unclip train` ends by it, with a checkpoint
    assert int(seconds) >= 60
    assert "requeue" in asked


def manifests() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text()) if one}


def test_the_job_starts_as_many_machines_as_it_waits_for() -> None:
    job = manifests()["Job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    options = dict(word.split("=", 1) for word in container["args"] if "=" in word)
    assert job["completionMode"] == "Indexed"
    assert options["--nnodes"] == str(job["completions"]) == str(job["parallelism"])
    assert options["--nproc-per-node"] == container["resources"]["limits"]["nvidia.com/gpu"]
    service, name = manifests()["Service"]["metadata"]["name"], manifests()["Job"]["metadata"]["name"]
    assert options["--rdzv-endpoint"] == f"{name}-0.{service}:29400"
    assert job["template"]["spec"]["subdomain"] == service
    assert manifests()["Service"]["spec"]["selector"] == {"job-name": name}
    check_training(container["args"][container["args"].index("--module") + 1 :])


def test_no_process_of_the_job_is_privileged() -> None:
    pod = manifests()["Job"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_manifest_of_the_job_is_valid() -> None:
    pytest.importorskip("kubernetes_validate", reason="`make test-cluster` has it")
    checker = Path(sys.executable).with_name("kubernetes-validate")
    command = [checker, "--strict", MANIFEST]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
