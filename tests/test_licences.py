"""Promises of `make licences`: all that unclip installs is listed, and what is not free to use is marked."""

from __future__ import annotations

import licences
import pytest
from packaging.requirements import Requirement


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("GNU Affero General Public License v3", False),
        ("AGPL-3.0", False),
        ("CC-BY-NonCommercial", False),
        ("unknown", False),
        ("as is", False),
    ],
)
def test_what_may_be_used_by_everybody_is_told_from_what_may_not(licence: str, allowed: bool) -> None:
    assert licences.is_allowed(licence) is allowed


def test_every_library_is_listed_with_its_licence_and_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main(["serve", "policy"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "Apache-2.0" in listed["torch"]
    assert listed["fastapi"].endswith("MIT                                          serve")
    assert listed["starlette"].endswith("serve")  # by way of fastapi
    assert "c2pa-python" not in listed
    for line in licences.distribution("unclip").requires or []:
        requirement = Requirement(line)
        if requirement.marker is None:
            assert licences.canonicalize_name(requirement.name) in listed


def test_an_extra_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main(["nothing"]) == 2
    assert "choose" in capsys.readouterr().err
