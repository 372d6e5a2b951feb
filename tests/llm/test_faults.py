"""The fault matrix: whatever an endpoint does, the table is the same, and extra calls and dollars are bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.judging.judges import keys_of
from modpo_hpc.llm.budget import Budget, RateLimits, SpendingLimit
from modpo_hpc.llm.ledger import entries
from modpo_hpc.study.judging import Judge
from tests.judging.test_flow import ask, expected, many
from tests.llm.faulty import SLOW_DOWN, UNUSABLE, USABLE, Endpoint, ok, running

COUNT, WINDOW = 24, 8
PRICE = {"input": 100.0, "output": 1000.0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.02)


def judged(folder: Path, endpoint: Endpoint, **settings: Any) -> tuple[int, float, float]:
    """Extra calls, dollars spent, the most that a call may cost; the table is that of an endpoint that is well."""
    judge = Judge(
        kind="openai",
        model="m",
        base_url=endpoint.url,
        max_tokens=32,
        window=WINDOW,
        price=PRICE,
        max_usd=1e6,
        **settings,
    )
    requests = many(COUNT)
    judgments, tally = ask(folder, requests, judge)
    assert [one.opinions for one in judgments if one] == [expected(one, judge) for one in requests]
    assert not tally.unparsed
    kept = list(entries(folder / "ledger"))
    assert len({entry.key for entry in kept}) == len(kept) == COUNT
    budget = Budget(folder / "ledger", RateLimits())
    spent = budget.spent
    budget.close()
    longest = max(len(keys_of(judge).prompt(one)) for one in requests)
    reserve = (longest / 3.5 * PRICE["input"] + 32 * PRICE["output"]) / 1e6
    return endpoint.calls - COUNT, spent, reserve


REAL = (300 * PRICE["input"] + 12 * PRICE["output"]) / 1e6
"""Dollars of one answer, where the endpoint says what it took."""


@pytest.mark.parametrize("fault", UNUSABLE)
def test_a_reply_of_which_nothing_can_be_made(tmp_path: Path, fault: str) -> None:
    with running(Endpoint(first=UNUSABLE[fault])) as endpoint:
        extra, spent, reserve = judged(tmp_path, endpoint)
    assert extra == COUNT
    assert COUNT * REAL - 1e-9 <= spent <= COUNT * (REAL + reserve) + 1e-9


@pytest.mark.parametrize("fault", USABLE)
def test_an_odd_reply_that_holds_an_answer(tmp_path: Path, fault: str) -> None:
    with running(Endpoint(odd=USABLE[fault])) as endpoint:
        extra, spent, reserve = judged(tmp_path, endpoint)
    assert extra == 0
    told = not fault.startswith(("tokens", "usage"))
    if told:
        assert spent == pytest.approx(COUNT * REAL)
    else:
        assert COUNT * 0.5 * reserve < spent <= COUNT * reserve + 1e-9


def test_calls_that_hang_are_charged_and_made_again(tmp_path: Path) -> None:
    with running(Endpoint(hang=True)) as endpoint:
        extra, spent, reserve = judged(tmp_path, endpoint, timeout_seconds=3.0)
    assert extra == COUNT
    assert COUNT * (REAL + 0.5 * reserve) < spent <= COUNT * (REAL + reserve) + 1e-9


@pytest.mark.parametrize("header", SLOW_DOWN)
def test_asked_to_slow_down(tmp_path: Path, header: str) -> None:
    """Half a second of 429, with each form of the header: at most a window and a few more calls, and no dollar."""
    with running(Endpoint(down=(0.5, SLOW_DOWN[header]))) as endpoint:
        extra, spent, _ = judged(tmp_path, endpoint)
    assert extra <= 4 * WINDOW
    assert spent == pytest.approx(COUNT * REAL)
    if header in ("seconds", "milliseconds", "a date"):
        # what comes after the first burst keeps to what was asked for; a date is told in whole seconds
        later = [moment for moment in endpoint.moments[2 * WINDOW :]]
        assert min(later) > (0.2 if header != "a date" else 0.0)


@pytest.mark.parametrize("fault", ["503", "closed", "no HTTP"])
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_an_outage(tmp_path: Path, fault: str, seconds: float) -> None:
    reply = {"503": ok(b"down", 503), "closed": b"", "no HTTP": UNUSABLE["no HTTP"]}[fault]
    with running(Endpoint(down=(seconds, lambda: reply))) as endpoint:
        extra, spent, reserve = judged(tmp_path, endpoint)
    assert extra <= 4 * WINDOW
    charged = 0 if fault == "503" else extra
    assert spent <= COUNT * REAL + charged * reserve + 1e-9


@pytest.mark.parametrize("usage", ["told", *USABLE])
def test_the_bill_comes_within_a_hundredth_of_the_limit_whatever_usage_is_told(tmp_path: Path, usage: str) -> None:
    with running(Endpoint(odd=USABLE.get(usage))) as endpoint:
        judge = Judge(
            kind="openai", model="m", base_url=endpoint.url, max_tokens=32, window=WINDOW, price=PRICE, max_usd=10.0
        )
        with pytest.raises(SpendingLimit, match=r"spending limit of \$10.00"):
            ask(tmp_path, many(400), judge)
    budget = Budget(tmp_path / "ledger", RateLimits())
    assert 9.9 <= budget.spent <= 10.0
    budget.close()
    assert endpoint.calls == endpoint.answered == len(list(entries(tmp_path / "ledger")))
