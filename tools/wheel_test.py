"""Builds the wheel, installs it into an empty environment, and uses it there: `tools/wheel_test.py [FOLDER]`.

The source distribution and the wheel that is built from it are left in FOLDER, by default dist/. The
environment and all that is drawn lie outside of the checkout, so that nothing of it is taken for the wheel's.
`make test-wheel` and `tools/release.py` call it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environments import REPOSITORY, environment
from served import served

BUILD = "build==1.6.*"
BUNDLES = ("pictograms", "pictograms-dalle1")
PROMPT = "a red apple"
SECONDS = 600.0
PAGE = "src/unclip/serve/studio/index.html"


class Installed:
    """The wheel in an environment of its own.

    Args:
        python: of the environment.
        folder: everything is drawn into.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self.program = python.parent / "unclip"
        self.python, self.folder = python, folder
        # nothing of whoever calls this
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "UNCLIP", "XDG"))
        }

    def run(self, *arguments: str | Path) -> str:
        """The stdout of `unclip`. Raises CalledProcessError where it fails."""
        return self._said([self.program, *arguments])

    def evaluate(self, code: str) -> str:
        """The output of a Python program."""
        return self._said([self.python, "-W", "error", "-c", code])

    def _said(self, command: list[str | Path]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()


def built(target: Path) -> Path:
    """The wheel, built of the source distribution, which lies beside it."""
    python = environment(REPOSITORY / "build" / "packaging", BUILD)
    shutil.rmtree(target, ignore_errors=True)
    command = [python, "-m", "build", "--outdir", target, REPOSITORY]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel


def source() -> set[str]:
    """The files of the package that are committed, or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src"]
    listed = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name.removeprefix("src/") for name in listed.split("\0") if (REPOSITORY / name).is_file()}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path, installed: Installed) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == source(), sorted(held ^ source())
    assert PAGE.removeprefix("src/") in held


def test_it_is_the_installed_one_that_runs_and_it_is_typed(wheel: Path, installed: Installed) -> None:
    said = installed.evaluate("import unclip; print(unclip.__version__, unclip.__file__)")
    version, _, file = said.partition(" ")
    assert version == wheel.name.split("-")[1]
    assert not Path(file).is_relative_to(REPOSITORY)
    assert Path(file).with_name("py.typed").is_file()
    assert installed.run("--version") == f"unclip {version}"


def test_both_bundles_draw(wheel: Path, installed: Installed) -> None:
    for name in BUNDLES:
        drawn = installed.run("generate", PROMPT, "--model", name, "--seed", "1", "--out", f"{name}.png")
        assert drawn.endswith(f"{name}.png")
        shows = f"from PIL import Image; print(len(Image.open('{name}.png').convert('L').getcolors(256)))"
        assert int(installed.evaluate(shows)) > 10  # levels of grey: it is no blank
        assert PROMPT in installed.run("info", f"{name}.png")


def test_the_package_draws_from_python(wheel: Path, installed: Installed) -> None:
    code = "import unclip; print(unclip.load().generate('a fish', seed=1, size=64)[0].image.size)"
    assert installed.evaluate(code) == "(64, 64)"


def test_it_serves_its_page_and_draws_for_clients(wheel: Path, installed: Installed) -> None:
    with served([installed.program, "serve"], installed.folder, installed.environment) as address:
        page = asked(f"{address}/").decode()
        assert "<script" in page
        answer = json.loads(asked(f"{address}/v1/images/generations", {"prompt": PROMPT, "seed": 1}))
        assert asked(answer["data"][0]["url"]).startswith(b"\x89PNG")
        assert asked(f"{address}/health/ready")


def asked(address: str, document: Any = None) -> bytes:
    """The body of an answer; of a POST where there is a document."""
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return bytes(answer.read())


TESTS: tuple[Callable[[Path, Installed], None], ...] = (
    test_the_wheel_holds_every_file_of_the_package_and_no_other,
    test_it_is_the_installed_one_that_runs_and_it_is_typed,
    test_both_bundles_draw,
    test_the_package_draws_from_python,
    test_it_serves_its_page_and_draws_for_clients,
)


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: tools/wheel_test.py [FOLDER]", file=sys.stderr)
        return 2
    wheel = built(Path(arguments[0]) if arguments else REPOSITORY / "dist")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        print(f"Installing {wheel.name} into an empty environment", flush=True)
        constraints = REPOSITORY / "constraints.txt"
        python = environment(scratch / "environment", f"{wheel}[serve]", constraints=constraints)
        (scratch / "work").mkdir()
        installed = Installed(python, scratch / "work")
        failed = 0
        for test in TESTS:
            try:
                test(wheel, installed)
            except (AssertionError, OSError, subprocess.CalledProcessError, SystemExit) as error:
                failed += 1
                print(f"FAILED {test.__name__}: {error}", flush=True)
            else:
                print(f"passed {test.__name__}", flush=True)
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
