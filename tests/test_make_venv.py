"""The promise of `make draw` on a fresh machine: it installs quietly, and names the log where that fails."""

from __future__ import annotations

import importlib.util
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "tools" / "make_venv.py"
TALKS = "import sys; print('Collecting torch'); print('Downloading', file=sys.stderr); sys.exit({code})"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_venv", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("code", [0, 3])
def test_what_an_installation_says_goes_into_the_log_alone(
    code: int, script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "install.log"
    assert script.logged([sys.executable, "-c", TALKS.format(code=code)], log) == code
    assert sorted(log.read_text().splitlines()) == ["Collecting torch", "Downloading"]
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_one_line_of_progress_that_goes_away(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import make_venv; from pathlib import Path;"
        f"make_venv.logged([sys.executable, '-c', {TALKS.format(code=0)!r}], Path({str(tmp_path / 'log')!r}))"
    )
    leader, follower = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=follower) as running:
        os.close(follower)
        assert running.wait(timeout=60) == 0
    said = os.read(leader, 10_000).decode()
    os.close(leader)
    assert "Collecting torch" in said
    assert "\n" not in said
    assert said.endswith("\r\033[K")


def test_an_installation_that_fails_names_its_log_and_shows_its_end(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    pip = environment / "bin" / "python"
    pip.write_text(
        "#!/bin/sh\n[ \"$3\" = --version ] && exit 0\necho 'ERROR: No space left on device'\nexit 1\n"
    )
    pip.chmod(0o755)
    assert script.main([str(environment)]) == 1
    out, error = capfd.readouterr()
    assert out.count("\n") == 1
    assert error == (
        "ERROR: No space left on device\n"
        f"unclip could not be installed: all that pip said is in {environment / 'install.log'}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["generate", "--out", "PICTURES", "--", "a red apple"]),
        (["빨간 사과", "--n", "4"], ["generate", "--out", "PICTURES", "--n", "4", "--", "빨간 사과"]),
        (["-x", "--out=a.png"], ["generate", "--out=a.png", "--", "-x"]),
    ],
)
def test_a_script_draws_where_there_is_no_make(
    arguments: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import draw

    ran: list[list[str]] = []

    def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
        ran.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(draw, "REPOSITORY", tmp_path)
    monkeypatch.setattr(draw, "main", lambda folders: Path(folders[0]).mkdir() or 0)
    monkeypatch.setattr(subprocess, "run", run)
    assert draw.draw(arguments) == 7
    pictures = str(tmp_path / "pictures")
    words = [pictures if word == "PICTURES" else word for word in expected]
    assert ran == [[str(tmp_path / ".venv" / "bin" / "python"), "-m", "unclip", *words]]
    monkeypatch.setattr(draw, "main", lambda folders: pytest.fail("it is installed"))
    assert draw.draw(arguments) == 7


def test_an_installation_that_succeeds_says_one_line(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = tmp_path / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").write_text("#!/bin/sh\necho 'Collecting torch'\n")
    (environment / "bin" / "python").chmod(0o755)
    assert script.main([str(environment)]) == 0
    out, error = capfd.readouterr()
    assert (out.count("\n"), error) == (1, "")
