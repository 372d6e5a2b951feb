"""Whoever changes what a stage makes raises its version, so that nothing is mixed and an update makes nothing stale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.core.held_bytes import HELD, fingerprint, made, not_raised, run_tiny

UPDATE = "python -m tests.core.held_bytes --update"


@pytest.mark.xdist_group("tiny")
def test_every_stage_makes_the_bytes_that_its_version_stands_for(tmp_path: Path) -> None:
    held = json.loads(HELD.read_text())
    if held["made_with"] != fingerprint():
        pytest.skip(f"the bytes are held for {held['made_with']}; here are {fingerprint()}")
    now = made(run_tiny(tmp_path))
    assert not_raised(held["stages"], now) == [], "other bytes from the same: raise `version` in modpo_hpc/stages"
    moved = [stage for stage, one in now.items() if held["stages"].get(stage) != one]
    assert moved == [], f"made from something else than what is held; if that is meant: {UPDATE}"


def test_a_stage_that_makes_something_else_under_its_old_version_is_named() -> None:
    held = {
        "pairs": {"version": "1", "from": "a", "bytes": "b"},
        "rankings": {"version": "1", "from": "a", "bytes": "b"},
    }
    now = {
        "pairs": {"version": "1", "from": "a", "bytes": "c"},
        "rankings": {"version": "2", "from": "x", "bytes": "c"},
    }
    assert not_raised(held, now) == ["pairs"]
