"""Judging through Ray actors survives kill -9; ``make bench-judge-kill`` is the same at full length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.judge_kill import kill_judging


@pytest.mark.slow
def test_two_kills_cost_no_answer(tmp_path: Path) -> None:
    result = kill_judging(tmp_path, verdicts=3000, kills=2, seed=3)
    assert result["keys"] == 1500
    assert sum(result["kills"].values()) == 2  # type: ignore[attr-defined]
