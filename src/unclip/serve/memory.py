"""Memory: how much is free, and how much a picture takes, reckoned before it is drawn."""

from __future__ import annotations

from pathlib import Path

import torch

from unclip.drawing import Job, Options
from unclip.model import Model
from unclip.stages.painting import Painting

# Of a picture of 1024 px of the shipped bundle 174 MB were seen beside the weights, of one of 256 px 14 MB:
# 14 and 18 times the picture in float32.
PICTURES = 20
FEATURES = 16  # of a network's first features, what it holds of them and of what it makes of them
FLOAT = 4  # bytes
CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def needed_bytes(model: Model, size: int) -> int:
    """Bytes that drawing one picture of a size takes beside the weights, about."""
    most = PICTURES * 3 * size**2 * FLOAT
    for stage in model.family.stages(Options(size=size), [Job("a picture", 0, 0)]):
        if not isinstance(stage, Painting):
            continue
        config = stage.config
        side: int = getattr(config, "high_size", None) or config.image_size
        grid = side // getattr(config, "patch", 1)
        features = FEATURES * getattr(config, "channels", 0) * grid**2 * FLOAT
        most = max(most, features + PICTURES * 3 * side**2 * FLOAT)
    return most


def free_bytes(device: torch.device) -> int | None:
    """Bytes to be had, of the device, the machine or its control group; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu" or not MEMINFO.is_file():
        return None
    lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            held = int((CGROUP / "memory.current").read_text())
            stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
            free = min(free, int(limit) - held + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass  # no control group, or one of another version
    return max(0, free)
