"""The promises of the machine's corner: named noise, files whole or absent, devices that exist."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from unclip import runtime
from unclip.errors import InputError, TrainingError, UnclipWarning


def test_a_noise_seed_never_changes() -> None:
    # Frozen when the scheme was made: SHA-256 of "unclip-noise-1/SEED/INDEX/STAGE", its first 63 bits.
    assert runtime.noise_seed(0, 0, "prior") == 9112403593450057526
    assert runtime.noise_seed(1, 2, "decoder") == 8607381735737516450


def test_every_picture_and_stage_has_its_own_noise() -> None:
    streams = {
        (seed, index, stage) for seed in range(5) for index in range(5) for stage in ("prior", "decoder")
    }
    draws = {tuple(torch.randn(4, generator=runtime.noise_generator(*stream)).tolist()) for stream in streams}
    assert len(draws) == len(streams)
    again = [torch.randn(4, generator=runtime.noise_generator(7, 1, "prior")) for _ in range(2)]
    assert torch.equal(*again)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model.safetensors"
    with runtime.atomic_path(target) as path:
        assert path.parent == target.parent
        assert path.suffix == target.suffix
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "picture.png"
    target.write_text("old")
    with pytest.raises(error), runtime.atomic_path(target) as path:
        path.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == [target.name]


def test_folders_appear_whole_too(tmp_path: Path) -> None:
    with runtime.atomic_path(tmp_path / "bundle") as path:
        path.mkdir()
        (path / "a").write_text("a")
    assert (tmp_path / "bundle" / "a").read_text() == "a"
    with pytest.raises(RuntimeError), runtime.atomic_path(tmp_path / "other") as path:
        path.mkdir()
        (path / "a").write_text("a")
        raise RuntimeError
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("place", [".", "new", "new/deeper", "link", "link/new"])
def test_a_folder_is_writable_if_it_is_or_can_be_made(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    runtime.check_writable(place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "file is not a folder"),
        ("file/new/deeper", "file is not a folder"),
        ("nowhere", "nowhere is not a folder"),
        ("nowhere/new", "nowhere is not a folder"),
        ("x" * 300, "file name too long"),
    ],
)
def test_a_folder_that_cannot_be_written_into_is_refused(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("nowhere").symlink_to("gone")
    with pytest.raises(InputError, match=f"cannot write into {place}: .*{message}; ask somebody"):
        runtime.check_writable(place, "ask somebody")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "nowhere"]


def test_devices() -> None:
    assert runtime.pick_device("cpu") == torch.device("cpu")
    assert runtime.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="unknown device 'gpu': choose cpu"):
        runtime.pick_device("gpu")
    with pytest.raises(InputError, match="is not there"):
        runtime.pick_device("cuda:99")
    with pytest.raises(InputError, match="not supported"):
        runtime.pick_device("meta")


def test_precision() -> None:
    cpu = torch.device("cpu")
    assert runtime.pick_precision(cpu) in (torch.float32, torch.bfloat16)
    assert runtime.pick_precision(cpu, "bfloat16") == torch.bfloat16
    with pytest.raises(InputError, match="unknown precision 'half': choose float32, bfloat16, float16"):
        runtime.pick_precision(cpu, "half")


def test_autocast_computes_in_the_precision_it_is_told() -> None:
    cpu, matrix = torch.device("cpu"), torch.eye(2)
    with runtime.autocast(cpu, torch.bfloat16):
        assert (matrix @ matrix).dtype == torch.bfloat16
        with runtime.autocast(cpu, torch.float32):
            assert (matrix @ matrix).dtype == torch.float32


def test_peak_memory_counts_bytes() -> None:
    code = "from unclip.runtime import peak_memory_bytes as p; a = p(); b'x' * 100_000_000; print(a, p())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 5e6 < before < 1e8
    assert 0.5e8 < after - before < 1.5e8


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the C library is not glibc",
)
def test_peak_memory_is_0_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, *arguments: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", missing)  # no /proc
    monkeypatch.setitem(sys.modules, "resource", None)
    assert runtime.peak_memory_bytes() == 0


def test_freed_memory_goes_back_to_the_system() -> None:
    # each smaller than what glibc asks the system for alone, and the last one holds the heap's end
    blocks = [b"x" * 100_000 for _ in range(1000)]
    last = b"x" * 100_000
    blocks.clear()
    before = resident_bytes()
    runtime.return_freed_memory()
    assert before - resident_bytes() > 50e6
    assert len(last) == 100_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_the_data_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert runtime.data_folder() == tmp_path / "unclip"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert runtime.data_folder() == Path.home() / ".local" / "share" / "unclip"


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert runtime.sha256(tmp_path / "abc") == expected


@pytest.mark.parametrize(
    "module", ["unclip", "unclip.errors", "unclip.config", "unclip.runtime", "unclip.cli"]
)
def test_light_modules_stay_light(module: str) -> None:
    """`import unclip` and the command line's frame load neither torch nor numpy nor the network."""
    heavy = [
        "torch",
        "numpy",
        "PIL",
        "pyarrow",
        "tokenizers",
        "safetensors",
        "requests",
        "socket",
        "http.client",
    ]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_who_draws_loads_nothing_of_corpora_search_or_servers() -> None:
    code = (
        "import sys, unclip.model, unclip.cli; "
        "print([name for name in ('pyarrow', 'usearch', 'fastapi', 'c2pa') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_arrive_when_they_are_used() -> None:
    import unclip

    assert unclip.InputError is InputError
    assert set(unclip.__all__) <= set(dir(unclip))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = unclip.nothing


def test_spinning_is_limited_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that its end is restored, whatever it was
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    runtime.limit_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    runtime.limit_spinning()
    assert int(os.environ["GOMP_SPINCOUNT"]) > 0
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    runtime.limit_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


HOLDS = """
import sys, time
from pathlib import Path
from unclip.errors import TrainingError
from unclip.runtime import atomic_path, folder_lock
with folder_lock(Path(sys.argv[1]), TrainingError("busy")), atomic_path(Path(sys.argv[1]) / "a.bin") as path:
    path.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_others_out_until_its_process_is_dead(tmp_path: Path) -> None:
    """And what that one had half written is gone then; what is another's stays."""
    (tmp_path / ".mine").write_text("mine")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="wait"), runtime.folder_lock(tmp_path, TrainingError("wait")):
            pass
        process.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path)) == 3
    with runtime.folder_lock(tmp_path, TrainingError("wait")):
        assert sorted(os.listdir(tmp_path)) == [".lock", ".mine"]
        with pytest.raises(TrainingError), runtime.folder_lock(tmp_path, TrainingError("here too")):
            pass
    assert os.listdir(tmp_path) == [".mine"]


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with runtime.folder_lock(tmp_path, None):
            order.append("second")

    with runtime.folder_lock(tmp_path, None):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UnclipWarning, match="without locks"), runtime.folder_lock(tmp_path, TrainingError()):
        pass


def test_a_file_with_holes_gets_all_its_room(tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_bytes(b"head")
    os.truncate(path, 2**20)
    runtime.reserve(path)
    assert path.read_bytes()[:4] == b"head"
    assert path.stat().st_blocks * 512 >= 2**20


def test_a_full_disk_is_said_to_be_full_however_a_library_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime.write_failure(OSError(errno.ENOSPC, "No space left on device"), tmp_path) == (
        "no space left on device"
    )
    vague = OSError("4096 requested and 0 written")
    assert runtime.write_failure(vague, tmp_path) == f"{vague}; the disk may be full"
    later = RuntimeError("unexpected pos 1306112 vs 1306004")
    later.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert runtime.write_failure(later, tmp_path) == "no space left on device"
    usage = runtime.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(runtime.shutil, "disk_usage", lambda _: usage)
    assert runtime.write_failure(vague, tmp_path / "not" / "there") == "no space left on device"


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, runtime.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_importing_the_package_limits_spinning_before_torch_is_loaded(
    own: dict[str, str], expected: str
) -> None:
    code = "import os, unclip, sys; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    unset = {name: text for name, text in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=unset | own, capture_output=True, text=True)
    assert done.stdout.split() == ["False", expected], done.stderr
