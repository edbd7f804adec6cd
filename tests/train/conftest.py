from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # tiny_task, also for the processes that tests start


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums in the same order everywhere: what bit equality is about is the loop, not the machine."""
    torch.set_num_threads(1)
