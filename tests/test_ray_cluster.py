"""The promise that a cluster of one's own obeys nobody else, and that nobody is told of it."""

from __future__ import annotations

import os

import pytest

from unclip.errors import InputError
from unclip.ray_cluster import HERE, settle


def test_a_cluster_that_is_made_here_has_a_token_and_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_raylet_start_wait_time_s",
    ):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    settle("10.0.0.1:6379")
    assert "RAY_AUTH_MODE" not in os.environ  # its owner has settled that
    settle(HERE)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    with pytest.raises(InputError, match="client protocol"):
        settle("ray://10.0.0.1:10001")
