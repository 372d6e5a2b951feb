"""The shared budget: what a limit allows, whoever draws on it and however it ends."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.llm.budget import Budget, RateLimits
from modpo_hpc.llm.ledger import Entry, Ledger, Usage
from tests.conftest import REPOSITORY


def test_two_at_once_share_the_rate(tmp_path: Path) -> None:
    clock = [1000.0]
    limits = RateLimits(requests_per_minute=600)
    one, other = (Budget(tmp_path, limits, lambda: clock[0]) for _ in range(2))
    granted = 0
    for tick in range(600):
        clock[0] += 0.1
        granted += sum(budget.reserve(10, 0.0).granted for budget in ((one, other) if tick % 2 else (other, one)))
    assert abs(granted - 600) <= 61
    one.close()
    other.close()


def test_a_call_larger_than_the_burst_goes_into_debt_and_no_further(tmp_path: Path) -> None:
    clock = [1000.0]
    budget = Budget(tmp_path, RateLimits(tokens_per_minute=600), lambda: clock[0])
    granted = 0
    for _ in range(1200):
        clock[0] += 0.5
        granted += budget.reserve(100, 0.0).granted
    assert 58 <= granted <= 61  # ten minutes of 600 tokens a minute
    budget.close()


def test_what_is_not_used_goes_back_and_what_a_dead_process_had_out_is_spent(tmp_path: Path) -> None:
    limits = RateLimits(max_usd=1.0)
    budget = Budget(tmp_path, limits)
    assert budget.reserve(100, 0.6).granted
    assert not budget.reserve(100, 0.6).granted
    budget.settle(100, 0.6, 10, 0.1)
    assert budget.reserve(100, 0.6).granted
    budget.settle(100, 0.6, 0, 0.0)
    budget.close()
    program = (
        "import os, sys; from pathlib import Path; from modpo_hpc.llm.budget import Budget, RateLimits\n"
        "budget = Budget(Path(sys.argv[1]), RateLimits(max_usd=1.0)); assert budget.reserve(1, 0.25).granted\n"
        "budget.sync(force=True); os._exit(9)"
    )
    with Ledger(tmp_path) as ledger:  # what was answered is told by the ledger
        ledger.append([Entry(b"k" * 16, "{}", "judge", (), 2, "m", usage=Usage(1, 1, 0, 0.1))])
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, check=False)
    other = Budget(tmp_path, limits)
    assert other.spent == pytest.approx(0.1 + 0.25)
    assert other.reserve(1, 0.6).granted
    assert not other.reserve(1, 0.1).granted
    other.close()


def test_money_of_calls_without_an_answer_is_remembered_and_that_of_runs_without_a_limit_is_counted(
    tmp_path: Path,
) -> None:
    free = Budget(tmp_path, RateLimits())
    free.reserve(1, 0.3)
    free.settle(1, 0.3, 1, 0.3, answered=False)  # a timeout: it may have been charged
    with Ledger(tmp_path) as ledger:
        ledger.append([Entry(b"k" * 16, "{}", "judge", (), 2, "m", usage=Usage(1, 1, 0, 0.4))])
    free.close()
    limited = Budget(tmp_path, RateLimits(max_usd=1.0))
    assert limited.spent == pytest.approx(0.7)
    assert not limited.reserve(1, 0.31).granted
    assert limited.reserve(1, 0.29).granted
    limited.close()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_several_do_the_limit_is_reached_and_not_passed(tmp_path: Path, seed: int) -> None:
    """Processes in any order reserve, settle, report and leave; what all reserve at once never passes the limit."""
    rng, limits, clock = random.Random(seed), RateLimits(max_usd=10.0), [0.0]
    budgets = [Budget(tmp_path, limits, lambda: clock[0]) for _ in range(4)]
    out: list[tuple[Budget, float]] = []
    spent, ended = 0.0, 0
    while ended < len(budgets):
        clock[0] += rng.choice([0.01, 0.2, 1.1])
        budget = rng.choice(budgets)
        grant = budget.reserve(1, 0.05)
        if grant.granted:
            out.append((budget, 0.05))
        ended = ended + 1 if grant.wait is None else 0
        assert spent + sum(usd for _, usd in out) <= 10.0 + 1e-9
        if out and (rng.random() < 0.6 or not grant.granted):
            whose, usd = out.pop(rng.randrange(len(out)))
            really = rng.choice([0.0, 0.01, usd])
            whose.settle(1, usd, 1, really)
            spent += really
        budget.sync()
    assert spent >= 9.9
    for budget in budgets:
        budget.close()


def test_what_is_held_for_a_batch_outlives_its_process(tmp_path: Path) -> None:
    limits = RateLimits(max_usd=1.0)
    one = Budget(tmp_path, limits)
    assert one.hold("batch", 0.7) == pytest.approx(0.3)
    one.close()
    two = Budget(tmp_path, limits)
    assert two.hold("other", 0.7) is None
    assert not two.reserve(1, 0.4).granted
    two.release("batch", 0.1)
    assert two.hold("other", 0.7) == pytest.approx(0.2)
    two.close()


def test_a_pause_is_everybodys(tmp_path: Path) -> None:
    one, other = Budget(tmp_path, RateLimits(account="a")), Budget(tmp_path, RateLimits(account="a"))
    elsewhere = Budget(tmp_path, RateLimits(account="b"))
    one.pause(2e9)
    for budget in (other, elsewhere):
        budget.sync(force=True)
    assert (other.not_before, elsewhere.not_before) == (2e9, 0.0)
    for budget in (one, other, elsewhere):
        budget.close()


def state_with_money_that_only_the_file_knows(folder: Path) -> Path:
    """Of a dollar, 10 cents answered, 25 charged without an answer, 40 held for a batch."""
    budget = Budget(folder, LIMITS)
    with Ledger(folder) as ledger:
        ledger.append([Entry(b"k" * 16, "{}", "judge", (), 2, "m", usage=Usage(1, 1, 0, 0.1))])
    for usd, answered in ((0.1, True), (0.25, False)):
        assert budget.reserve(1, usd).granted
        budget.settle(1, usd, 1, usd, answered=answered)
    assert budget.hold("batch", 0.4) is not None
    budget.close()
    return folder / "budget.json"


LIMITS = RateLimits(max_usd=1.0)


def still_right(folder: Path) -> bool:
    """Whether a budget in ``folder`` knows of every cent, and lets nobody spend one twice."""
    budget = Budget(folder, LIMITS)
    try:
        return budget.spent == pytest.approx(0.35) and not budget.reserve(1, 0.26).granted
    finally:
        budget.close()


def test_no_flipped_bit_and_no_tear_of_the_file_changes_what_was_spent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = state_with_money_that_only_the_file_knows(tmp_path)
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert still_right(tmp_path), f"bit {place % 8} of byte {place}"
    assert str(file) in caplog.text
    assert "damaged" in caplog.text
    first_copy = whole.index(b"\n")
    for length in [*range(0, len(whole), 7), first_copy - 1, first_copy, first_copy + 1]:
        file.write_bytes(whole[:length])
        if length >= first_copy:
            assert still_right(tmp_path), f"{length} bytes of {len(whole)}"
        else:
            with pytest.raises(InputError, match=r"budget\.json: this file is damaged.*counted anew from the ledger"):
                Budget(tmp_path, LIMITS)
            assert file.read_bytes() == whole[:length], "nobody writes over what may still be mended"


def test_a_file_of_an_earlier_version_counts_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    file = state_with_money_that_only_the_file_knows(tmp_path)
    plain = file.read_bytes().splitlines()[0].partition(b" ")[2]
    file.write_bytes(plain)
    assert still_right(tmp_path)
    file.write_bytes(plain[:-3])
    with pytest.raises(InputError, match="this file is damaged"):
        Budget(tmp_path, LIMITS)
    file.unlink()
    budget = Budget(tmp_path, LIMITS)
    assert budget.spent == pytest.approx(0.1), "what the ledger knows"
    budget.close()
