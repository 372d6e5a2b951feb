"""The flow of calls against an endpoint that counts and misbehaves: nothing lost, nothing asked twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.errors import InputError, Interrupted
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.kinds.chat import ask_over_http
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.tasks import JudgeRequest, Unparsed, parse_answer
from modpo_hpc.llm.budget import SpendingLimit
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.client import EndpointFailed
from modpo_hpc.llm.endpoints import FixedAddress
from modpo_hpc.llm.ledger import Ledger, entries
from modpo_hpc.llm.store import Store
from modpo_hpc.study.judging import Judge
from tests.judging.servers import counting_server, oracle
from tests.judging.worlds import request


def settings(url: str, **more: Any) -> Judge:
    return Judge(kind="openai", model="m", base_url=url, max_tokens=32, **more)


def ask(folder: Path, requests: list[JudgeRequest], judge: Judge, **more: Any) -> tuple[list[Judgment | None], Tally]:
    with Store(Ledger(folder / "ledger"), Claims(folder / "ledger")) as store:
        job = JudgingJob(requests, judge, keys_of(judge), store, **more)
        return ask_over_http(job, lambda: FixedAddress(judge.base_url), judge.model)


def many(count: int, text: str = "Two.") -> list[JudgeRequest]:
    return [request(texts=(f"Reply {number}.", text)) for number in range(count)]


def expected(one: JudgeRequest, judge: Judge) -> tuple[object, ...]:
    return parse_answer(oracle(keys_of(judge).prompt(one)), "judge", ("empathy", "safety"), 2)


def asked(calls: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in calls.read_text().splitlines())


def test_every_request_is_answered_once_whatever_goes_wrong(tmp_path: Path) -> None:
    requests = many(300)
    with counting_server(tmp_path, latency=0.01, limit=24, rate_limits=0.1, errors=0.1) as (url, calls):
        judge = settings(url, window=64)
        judgments, tally = ask(tmp_path, requests, judge)
        assert [one.opinions for one in judgments if one] == [expected(one, judge) for one in requests]
        assert set(asked(calls).values()) == {1}
        assert tally.failures["rate"] >= 20
        assert tally.failures["server"] >= 15
        # again, in another process as it were: from the ledger alone
        again, tally = ask(tmp_path, requests, judge)
        assert again == judgments
        assert tally.from_ledger == 300
        assert sum(asked(calls).values()) == 300
    assert len({entry.key for entry in entries(tmp_path / "ledger")}) == 300
    assert sum(entry.usage.written for entry in entries(tmp_path / "ledger")) == 300 * 12


def test_the_same_request_twice_is_one_call(tmp_path: Path) -> None:
    with counting_server(tmp_path, latency=0.05) as (url, calls):
        judgments, _ = ask(tmp_path, many(5) * 4, settings(url))
        assert sum(asked(calls).values()) == 5
        assert judgments[:5] * 4 == judgments


def test_a_second_attempt_mends_what_could_not_be_read(tmp_path: Path) -> None:
    requests = many(60)
    with counting_server(tmp_path, babble=0.5) as (url, calls):
        judge = settings(url)
        without, tally = ask(tmp_path, requests, settings(url, repair_rounds=0))
        unread = [one for one in without if one and isinstance(one.opinions[0], Unparsed)]
        assert 15 < len(unread) < 45
        assert tally.unparsed == {"no JSON object with a criterion in it": 2 * len(unread)}
        mended, tally = ask(tmp_path, requests, judge)
        assert [one.opinions for one in mended if one] == [expected(one, judge) for one in requests]
        assert tally.from_ledger == 60
        assert tally.repairs == len(unread)
        assert sum(asked(calls).values()) == 60 + len(unread)
        again, _ = ask(tmp_path, requests, judge)
        assert again == mended
        assert sum(asked(calls).values()) == 60 + len(unread)


def test_an_endpoint_that_refuses_the_form_is_asked_without_it(tmp_path: Path) -> None:
    with counting_server(tmp_path, refuse_format=True) as (url, _):
        judge = settings(url)
        judgments, _ = ask(tmp_path, many(40), judge)
        assert [one.opinions for one in judgments if one] == [expected(one, judge) for one in many(40)]


def test_a_model_that_refuses_a_sampling_parameter_is_said_so(tmp_path: Path) -> None:
    with counting_server(tmp_path, refuse_temperature=True) as (url, _):
        with pytest.raises(InputError, match=r"judge.temperature.*does not take the parameter.*null"):
            ask(tmp_path, many(40), settings(url))
        judgments, _ = ask(tmp_path, many(4), settings(url, temperature=None))
        assert all(judgments)


@pytest.mark.parametrize(
    ("model", "key", "words"), [("unknown", "right", "does not know this model"), ("m", "wrong", "refuses the key")]
)
def test_wrong_model_and_wrong_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, key: str, words: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with counting_server(tmp_path, key="right") as (url, _):
        judge = Judge(kind="openai", model=model, base_url=url)
        with pytest.raises(InputError, match=words) as raised:
            ask(tmp_path, many(3), judge)
    assert key not in str(raised.value)


def test_one_poisoned_request_stops_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.001)
    requests = [*many(40), request(texts=("arsenic", "x")), request(texts=("y" * 30_000, "x")), *many(80)[40:]]
    with counting_server(tmp_path, poison="arsenic", too_long=20_000, latency=0.01) as (url, _):
        judge = settings(url, window=2, unanswered="unparsed")
        judgments, tally = ask(tmp_path, requests, judge)
        poisoned, too_long = judgments[40], judgments[41]
        assert poisoned is not None
        assert poisoned.opinions[0] == Unparsed("given up after 6 tries: http 500: poisoned")
        assert too_long is not None
        assert "too long for the model" in too_long.opinions[0].reason  # type: ignore[union-attr]
        assert sum(tally.unparsed.values()) == 4
        # unless that is wished, the shard is not done, and says so at its end
        with pytest.raises(EndpointFailed, match=r"1 calls got no answer.*poisoned.*MODPO_JUDGE_UNANSWERED"):
            ask(tmp_path / "strict", requests, settings(url, window=2))
    assert len(list(entries(tmp_path / "strict" / "ledger"))) == 81


def test_an_endpoint_that_is_down_ends_the_work_and_keeps_what_there_is(tmp_path: Path) -> None:
    requests = [*many(40), *[request(texts=("arsenic", str(number))) for number in range(60)]]
    with counting_server(tmp_path, poison="arsenic", latency=0.02) as (url, _):
        with pytest.raises(EndpointFailed, match=r"no answer for 0.02 minutes.*Every answer so far is kept"):
            ask(tmp_path, requests, settings(url, window=8, outage_minutes=0.02))
    assert len(list(entries(tmp_path / "ledger"))) == 40


def test_the_spending_limit_stops_cleanly_and_is_never_passed(tmp_path: Path) -> None:
    with counting_server(tmp_path, latency=0.01) as (url, calls):
        priced = settings(url, price={"input": 1.0, "output": 100.0}, max_usd=0.2)
        with pytest.raises(SpendingLimit, match=r"spending limit of \$0.20.*not made"):
            ask(tmp_path, many(400), priced)
        spent = sum(entry.usage.usd for entry in entries(tmp_path / "ledger"))
        assert 0.15 < spent <= 0.2
        before = sum(asked(calls).values())
        assert before == len(list(entries(tmp_path / "ledger")))
        judgments, _ = ask(tmp_path, many(400), priced.model_copy(update={"max_usd": 5.0}))
        assert all(judgments)
        assert set(asked(calls).values()) == {1}


def test_a_stop_brings_home_what_is_out(tmp_path: Path) -> None:
    checks = iter([None, Interrupted("stop")])

    def check() -> None:
        if (what := next(checks, None)) is not None:
            raise what

    with counting_server(tmp_path, latency=0.3) as (url, calls):
        with pytest.raises(Interrupted):
            ask(tmp_path, many(2000), settings(url, window=8), check=check)
        taken = asked(calls)
        kept = list(entries(tmp_path / "ledger"))
        assert sum(taken.values()) == len(kept) > 0
