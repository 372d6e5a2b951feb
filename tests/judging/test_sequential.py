"""Sequential judging: what a decision is worth, who is drawn, and that a shard stops there whatever happens to it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import product
from math import exp, prod, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation import betting
from modpo_hpc.evaluation.betting import StoppingRule, bounds, decide, log_capital, settled, weighted_shares
from modpo_hpc.evaluation.sequential_design import drawn_personas, question_order
from modpo_hpc.judging.inspect import inspect
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.study import parse_study
from tests.judging import worlds
from tests.judging.servers import REPOSITORY, counting_server
from tests.waiting import wait_until

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12)
SEQUENTIAL: dict[str, Any] = {"stop": "sequential", "judging": {"personas_per_question": 4}}


QUESTIONS = 12


def capital(shares: list[float], mean: float, level: float) -> float:
    """As the definition has it: of 30 gamblers who bet fixed fractions, and 70 who bet towards the last question."""
    gamblers = [prod(1 + one * (share / mean - 1) for share in shares) for one in betting.FRACTIONS.tolist()]
    rest, aim, normal = 0.7, 2 / level * 1.05, NormalDist()
    for place, share in enumerate(shares):
        before = shares[:place]
        middle = sum(before) / place if place else 0.0
        squares = sum((one - middle) ** 2 for one in before) + 10 * 0.25**2
        spread = sqrt(squares / (place + 10)) / mean
        chance = min(rest / aim, exp(-1e-9))
        density = normal.pdf(normal.inv_cdf(chance)) / chance
        rest *= 1 + min(0.95, density / spread / sqrt(QUESTIONS - place)) * (share / mean - 1)
    return 0.3 * sum(gamblers) / len(gamblers) + rest


@pytest.mark.parametrize(
    ("chances", "mean"),
    [
        ({0.0: Fraction(1, 2), 1.0: Fraction(1, 2)}, Fraction(1, 2)),
        ({0.0: Fraction(1, 3), 0.5: Fraction(1, 3), 1.0: Fraction(1, 3)}, Fraction(1, 2)),
        ({0.25: Fraction(4, 5), 1.0: Fraction(1, 5)}, Fraction(2, 5)),
    ],
)
def test_nobody_grows_rich_on_average_if_the_mean_is_what_is_said(
    chances: dict[float, Fraction], mean: Fraction
) -> None:
    """Every sequence of up to six questions, with its probability: the expected capital is one."""
    assert sum(Fraction(share) * chance for share, chance in chances.items()) == mean
    for length in range(1, 7):
        expected = sum(
            float(prod(chances[share] for share in heard))
            * np.exp(log_capital(np.array(heard), float(mean), StoppingRule(0.2, 6))[0, -1])
            for heard in product(chances, repeat=length)
        )
        assert expected == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.3, 0.1])
def test_a_decision_on_what_is_equal_is_rarer_than_the_level(level: float) -> None:
    """By all 3^7 outcomes of seven questions, two personas each, who vote for either side as often."""
    every = [*product((0.0, 0.5, 1.0), repeat=7)]
    probability = [prod({0.0: 0.25, 0.5: 0.5, 1.0: 0.25}[share] for share in heard) for heard in every]
    decisions = betting.decide_all(np.array(every), StoppingRule(level, 7))
    wrong = sum(p for p, one in zip(probability, decisions, strict=True) if one.outcome != "open")
    assert wrong <= level
    assert wrong > 0 or level < 0.2  # else this test could not fail


@given(SHARES, st.integers(1, 19))
@settings(deadline=None)
def test_the_capital_is_that_of_the_definition(shares: list[float], twentieths: int) -> None:
    ours = log_capital(np.array(shares), twentieths / 20, StoppingRule(0.05, QUESTIONS))[0]
    theirs = [capital(shares[: n + 1], twentieths / 20, 0.05) for n in range(len(shares))]
    np.testing.assert_allclose(np.exp(ours), theirs, rtol=1e-6)


@given(SHARES, st.sampled_from([0.05, 0.3]))
@settings(max_examples=25, deadline=None)
def test_the_interval_holds_what_was_never_ruled_out(shares: list[float], level: float) -> None:
    low, high = bounds(np.array(shares), StoppingRule(level, QUESTIONS))
    other = [1 - share for share in shares]
    for mean in (one / 20 for one in range(1, 20)):
        above, below = (
            max(capital(side[: n + 1], at, level) for n in range(len(shares))) >= 2 / level
            for side, at in ((shares, mean), (other, 1 - mean))
        )
        if min(abs(mean - low), abs(mean - high)) > 1e-4:
            assert (above or below) == (not low < mean < high)
    # a decision is what the interval says, and stays
    rule = StoppingRule(level, QUESTIONS, 0.1)
    said = {"A": low >= 0.5, "B": high <= 0.5, "equivalent": low >= 0.4 and high <= 0.6}
    found = decide(np.array(shares), rule)
    assert found.outcome == "open" if not any(said.values()) else said[found.outcome]
    if found.outcome != "open":
        before = shares[: found.questions - 1]
        assert decide(np.array(before), rule).outcome == "open"


def test_a_vote_that_could_not_be_read_is_none_and_groups_weigh_what_they_are() -> None:
    votes = np.array([[1, 1, -1], [1, 0, -1], [1, 0, 0], [0, 0, 0]], dtype=np.int8)
    cast = np.array([[True, True, True], [True, False, True], [True, True, False], [False] * 3])
    # two groups of one and two personas that stand for three quarters and a quarter of all
    found = weighted_shares(votes, cast, np.array([0, 1, 1]), np.array([0.75, 0.25]))
    np.testing.assert_allclose(found, [0.75 * 1 + 0.25 * 0.5, 0.75, 0.75 * 1 + 0.25 * 0.5, np.nan])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_each_question_hears_every_group(sizes: list[int], data: st.DataObject) -> None:
    groups = [[f"g{group}.{one}" for one in range(size)] for group, size in enumerate(sizes)]
    wanted = data.draw(st.integers(len(sizes), sum(sizes)))
    found = drawn_personas("q1", groups, wanted, 3)
    count = Counter(one.partition(".")[0] for one in found)
    assert len(found) == wanted
    assert len(count) == len(sizes)
    assert found <= {one for members in groups for one in members}


def test_personas_are_drawn_anew_and_all_alike() -> None:
    groups = [[f"a{one}" for one in range(8)], [f"b{one}" for one in range(12)]]
    heard = Counter(one for question in range(2000) for one in drawn_personas(f"q{question}", groups, 5, 3))
    assert sum(heard.values()) == 10_000
    # 500 each is expected, with a standard deviation of 19
    assert all(abs(count - 500) < 100 for count in heard.values())
    with pytest.raises(ValueError, match="1 personas a question of 2 groups"):
        drawn_personas("q", groups, 1, 3)


LONGER = """
import json
from modpo_hpc.judging.kinds import LocalJudge


class LongerIsBetter(LocalJudge):
    name = "longer"

    def answer(self, requests, settings):
        lengths = [[len(text.strip()) for text in request.shown] for request in requests]
        said = ["tie" if a == b else "A" if a > b else "B" for a, b in lengths]
        return [json.dumps({c.name: one for c in r.criteria}) for r, one in zip(requests, said)]
"""


def judge_all(run: Run) -> pd.DataFrame:
    for shard in run.shard_ids("verdicts"):
        run_shard(str(run.root), "verdicts", shard)
    return run.table("verdicts").to_pandas()


@pytest.mark.parametrize("calls", ["together", "separate"])
def test_a_pair_is_judged_in_whole_rounds_until_it_is_decided(tmp_path: Path, calls: str) -> None:
    (tmp_path / "longer.py").write_text(LONGER)
    kind = str(tmp_path / "longer.py")
    run = worlds.world(tmp_path / "run", test=60, kind=kind, model="longer", calls=calls, **SEQUENTIAL)
    verdicts = judge_all(run)
    # of each pair every question is there, with four personas, of whom two saw either first
    cell = ["policy_a", "policy_b", "criterion", "question_id"]
    assert (verdicts.groupby(cell, observed=True).size() == 4).all()
    assert (verdicts.groupby(cell, observed=True)["first"].agg(lambda one: (one == "A").sum()) == 2).all()
    panels = verdicts.groupby(cell, observed=True)["persona_id"].agg(frozenset)
    assert panels.groupby("question_id", observed=True).nunique().eq(1).all()
    assert panels.groupby("question_id", observed=True).first().nunique() > 1
    order = question_order(list(run.table("questions").to_pandas().query("split == 'test'")["question_id"]), 42)
    stopped = 0
    for _, rows in verdicts.groupby(["policy_a", "policy_b", "criterion"], observed=True):
        worth = rows["winner"].astype(str).map({"A": 1.0, "B": 0.0, "tie": 0.5})
        shares = worth.groupby(rows["question_id"].astype(str)).mean()[order]
        asked = int(shares.notna().sum())
        assert shares[:asked].notna().all()
        assert asked % 10 == 0
        # decided in the last round that was asked, not in one before
        rule = StoppingRule(0.05 / 3, 60, futility=3.0)
        if asked < 60:
            stopped += 1
            assert settled(shares[:asked].to_numpy()[None], rule)[0, -1]
        assert asked == 10 or not settled(shares[: asked - 10].to_numpy()[None], rule)[0, -1]
    assert stopped > 0
    row = verdicts[verdicts["winner"] == "A"].iloc[0]
    pair = {name: row[name] for name in ("policy_a", "policy_b")}
    (found, *_) = inspect(run, row["question_id"], row["persona_id"], pair)
    assert any(answer.key == row["key"] for answer in found.answers)


def test_a_shard_that_is_killed_comes_to_the_same_table_and_asks_for_no_round_too_many(tmp_path: Path) -> None:
    shard = "one.Base.DPO.0"
    with counting_server(tmp_path, latency=0.05) as (url, calls):
        # votes by lot: what ends the judging is that they are as many for either side
        judging = {"personas_per_question": 4, "sequential": {"questions_per_round": 5, "margin": 0.25}}
        common: dict[str, Any] = {"stop": "sequential", "judging": judging, "policies": ("Base", "DPO"), "test": 60}
        common |= {"kind": "openai", "model": "m", "base_url": url, "max_tokens": 32, "window": 4}
        calm, rough = (worlds.world(tmp_path / name, **common) for name in ("calm", "rough"))
        judge_all(calm)
        verdicts = calm.table("verdicts").to_pandas()
        asked = verdicts["key"].nunique()
        assert 2 * 20 < asked < 60 * 4
        assert len(calls.read_text().splitlines()) == asked  # none was asked before it was known to be needed

        command = [sys.executable, "jobs/judge.py", str(rough.root), "--shard", shard]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:  # in the second round
            wait_until(lambda: len(calls.read_text().splitlines()) > asked + 25)
        finally:
            process.kill()
            process.wait()
        assert read_marker(rough.folder("verdicts"), shard) is None
        judge_all(rough)
    assert rough.table_path("verdicts", shard).read_bytes() == calm.table_path("verdicts", shard).read_bytes()


def test_the_level_and_the_margin_are_what_verdicts_are_made_from(tmp_path: Path) -> None:
    def inputs(**changes: Any) -> str | None:
        run = worlds.world(tmp_path / str(len(list(tmp_path.iterdir()))), **changes)
        return run.inputs("verdicts", "one.Base.DPO.0")

    judging = {"personas_per_question": 4}
    plain = inputs(**SEQUENTIAL)
    assert inputs(**SEQUENTIAL) == plain
    assert inputs(**SEQUENTIAL, alpha=0.1) != plain
    assert inputs(**SEQUENTIAL, policies=("Base", "DPO")) != plain
    for changed in ({"margin": 0.1}, {"questions_per_round": 5}, {"futility": None}):
        assert inputs(stop="sequential", judging={**judging, "sequential": changed}) != plain
    # where nothing stops so, they are not
    everything = inputs(judging=judging)
    assert everything != plain
    assert inputs(judging={**judging, "sequential": {"margin": 0.1}}, alpha=0.1) == everything
    assert inputs(judging=judging, policies=("Base", "DPO")) == everything


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judges": [{"kind": "rules", "name": "one"}, {"kind": "rules", "name": "two"}]}, "judge is a panel"),
        ({"judging": {"sequential": {"margin": 0.6}}}, r"judging\.sequential\.margin"),
        ({"judging": {"early_stop": True}}, "early_stop"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_study(worlds.study(**{"stop": "sequential", **changes}), source="test")


def test_a_pair_is_one_shard() -> None:
    study = worlds.study(stop="sequential")
    with pytest.raises(InputError, match=r"shards\.verdicts cuts it into 2"):
        parse_study({**study, "shards": {"verdicts": 2}}, source="test")


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=20, max_size=60), st.sampled_from([None, 0.1]))
@settings(max_examples=40, deadline=None)
def test_a_pair_is_left_open_early_only_where_no_decision_could_come(shares: list[float], margin: float | None) -> None:
    rule = StoppingRule(0.05, 60, margin, futility=3.0)
    decided = decide(np.array(shares), rule).outcome != "open"
    assert settled(np.array([shares]), StoppingRule(0.05, 60, margin))[0, -1] == decided
    if decided or not settled(np.array([shares]), rule)[0, -1]:
        return
    # whatever mean within three standard errors the shares to come have, the z-test at the end decides nothing
    heard, left = len(shares), 60 - len(shares)
    middle = sum(shares) / heard
    spread = sqrt((sum((one - middle) ** 2 for one in shares) + 10 * 0.25**2) / (heard + 10))
    reached = NormalDist().inv_cdf(1 - 0.05 / 2) * spread / sqrt(60)
    for errors in np.linspace(-3, 3, 13):
        final = (heard * middle + left * (middle + errors * spread / sqrt(heard))) / 60
        assert abs(final - 0.5) < reached
        assert margin is None or not 0.5 - margin + reached < final < 0.5 + margin - reached


def test_what_is_alike_is_left_open_early_and_what_leads_is_not() -> None:
    alike, leads = np.tile([0.4, 0.6], 50), np.tile([0.5, 0.7], 50)
    assert settled(alike[None], StoppingRule(0.01, 120, futility=3.0))[0, -1]
    assert not settled(alike[None], StoppingRule(0.01, 120))[0, -1]
    before = settled(leads[None], StoppingRule(0.01, 120, futility=3.0))[0]
    decision = decide(leads, StoppingRule(0.01, 120))
    assert decision.outcome == "A"
    assert before.argmax() + 1 == decision.questions  # not earlier


def test_by_the_last_question_a_test_at_a_fixed_number_finds_hardly_more() -> None:
    """2,000 pairs whose truth is about 3.6 standard errors from one half; fixed fractions alone find half of this."""
    rng, rule = np.random.default_rng(7), StoppingRule(0.05 / 28, 200)
    shares = np.clip(0.5 + 0.2 * (rng.standard_normal((2000, 200)) + 3.6 / np.sqrt(200)), 0, 1)
    found = sum(one.outcome == "A" for one in betting.decide_all(shares, rule)) / 2000
    z = (shares.mean(1) - 0.5) / shares.std(1, ddof=1) * np.sqrt(200)
    assert found > 0.8 * (z > NormalDist().inv_cdf(1 - rule.level / 2)).mean()
