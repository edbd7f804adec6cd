"""Promises of memory: how much is free is asked of who knows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unclip.serve import memory


def test_a_control_group_bounds_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert memory.free_bytes(cpu) == 4000 * 1024  # no group
    for name, text in (("max", "3000"), ("current", "2500"), ("stat", "anon 5\ninactive_file 200\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes(cpu) == 700
    (tmp_path / "memory.current").write_text("9000")
    assert memory.free_bytes(cpu) == 0
    (tmp_path / "memory.max").write_text("max")
    assert memory.free_bytes(cpu) == 4000 * 1024
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert memory.free_bytes(cpu) is None
