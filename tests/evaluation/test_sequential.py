"""Verdicts of which a part was never asked for: each reader of them says what is so, or refuses with words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.evaluation.sequential_design import drawn_personas, question_order
from modpo_hpc.human.sample import PolicyPair, llm_shares
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report.cases import MatrixCell, read_cases
from modpo_hpc.report.results import read_results
from modpo_hpc.run import Run
from tests.every_number import assert_traced
from tests.synthetic_verdicts import STRENGTH, judged, judged_run, persona_rows, small_run, small_study

QUESTIONS, DRAWN, SEED = 60, 6, 7
KEYS = ["phase", "criterion", "policy_a", "policy_b"]


def asked_of(pair: int) -> int:
    """Questions asked of a pair: all of the first, fewer of the next."""
    return (60, 20, 40)[pair % 3]


def stopped(verdicts: pa.Table, groups: list[list[str]], questions: list[str]) -> pa.Table:
    """What sequential judging leaves of full ``verdicts``: drawn personas, and no votes after a pair has stopped."""
    frame = verdicts.to_pandas()
    drawn = {question: drawn_personas(question, groups, DRAWN, SEED) for question in questions}
    of_panel = [who in drawn[what] for what, who in zip(frame["question_id"], frame["persona_id"], strict=True)]
    frame = frame[of_panel].copy()
    place = {question: number for number, question in enumerate(question_order(questions, SEED))}
    number = frame["question_id"].astype(str).map(place)
    pair = frame.groupby(["policy_a", "policy_b"], observed=True, sort=False).ngroup()
    left_out = (number >= pair.map(asked_of)).to_numpy()
    frame["winner"] = np.where(left_out, "not_asked", frame["winner"].astype(str))
    frame["key"] = np.where(left_out, None, frame["key"])
    return pa.Table.from_pandas(frame, preserve_index=False).cast(verdicts.schema)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two phases that was judged sequentially, as far as its report."""
    full = small_study()
    judging = {**full.judging.model_dump(), "stop": "sequential", "personas_per_question": DRAWN}
    statistics = {"draws": 200, "max_missing": 0.05}
    study = small_study(judging={**judging, "sequential": {"margin": 0.1}}, statistics=statistics)
    questions, people = [f"q{number:03d}" for number in range(QUESTIONS)], persona_rows(20)
    names = [row["persona_id"] for row in people]
    populations = dict.fromkeys(row["population"] for row in people)
    groups = [[row["persona_id"] for row in people if row["population"] == one] for one in populations]
    verdicts = {}
    for number, (phase, one) in enumerate(study.judging.phases.items()):
        everything = judged(STRENGTH, phase, one.policies, one.criteria, questions, names, seed=number, unparsed=0.004)
        verdicts[phase] = stopped(everything, groups, questions)
    made = judged_run(tmp_path_factory.mktemp("sequential") / "run", study, verdicts, questions, people)
    run_shard(str(made.root), "statistics", "all")
    for words in (["sample", "--questions", "12"], ["forms", "--raters", "3"], ["simulate"], ["analyze"]):
        assert main(["human", words[0], str(made.root), *words[1:]]) == 0
    run_shard(str(made.root), "report", "all")
    return made


def test_shares_are_means_over_the_questions_that_were_judged(run: Run) -> None:
    people = run.table("personas").to_pandas().query("split == 'test'").set_index("persona_id")["population"]
    size = people.value_counts()
    verdicts = run.table("verdicts").to_pandas()
    verdicts["worth"] = verdicts["winner"].astype(str).map({"A": 1.0, "tie": 0.5, "B": 0.0})
    verdicts["population"] = verdicts["persona_id"].astype(str).map(people)
    ours = pq.read_table(run.folder("statistics") / "shares.parquet", partitioning=None).to_pandas()
    assert len(ours) == 2 * 6 + 2 * 3
    outcomes = set()
    for row in ours.to_dict("records"):
        mine = verdicts[np.logical_and.reduce([verdicts[key] == row[key] for key in KEYS])].dropna(subset="worth")
        by_group = mine.groupby(["question_id", "population"], observed=True)["worth"].mean().unstack()
        weight = by_group.notna() * size[by_group.columns]
        share = (by_group.fillna(0) * weight).sum(axis=1) / weight.sum(axis=1)
        assert row["share"] == pytest.approx(share.mean())
        assert row["questions"] == len(share) < QUESTIONS or row["questions"] == QUESTIONS
        assert row["votes"] == len(mine)
        votes = mine.groupby("question_id", observed=True)["worth"].agg(lambda one: (one - 0.5).sum())
        assert (row["wins_a"], row["wins_b"], row["ties"]) == (
            (votes > 0).sum(), (votes < 0).sum(), (votes == 0).sum()
        )  # fmt: skip
        assert row["majority_a"] == pytest.approx((votes > 0).mean())
        assert row["low"] < row["share"] < row["high"]
        if row["decision"] == "better":
            assert row["low"] > 0.5 if row["better"] == row["policy_a"] else row["high"] < 0.5
            assert 0 < row["decided_after"] <= row["questions"]
        outcomes.add(row["decision"])
    assert {"better", "open"} <= outcomes


def test_what_was_not_asked_is_counted_apart(run: Run) -> None:
    cells = pq.read_table(run.folder("statistics") / "completeness.parquet", partitioning=None).to_pandas()
    pairs = cells.drop_duplicates(["phase", "policy_a", "policy_b"])
    for _, phase in pairs.groupby("phase", sort=False):
        assert list(phase["asked"]) == [DRAWN * asked_of(number) for number in range(len(phase))]
    assert (cells["asked"] + cells["decided"] == DRAWN * QUESTIONS).all()
    assert (cells["missing"] == 0).all()


def test_ranks_follow_from_intervals_that_hold_at_once(run: Run) -> None:
    results = read_results(run)
    shares = results.rows("shares", phase="phase1", criterion="empathy")
    ranked = results.rows("share_ranking", phase="phase1", criterion="empathy")
    assert [row["rank"] for row in ranked] == [1, 2, 3, 4]
    for row in ranked:
        ends = [
            (one["low"], one["share"], one["high"])
            if one["policy_a"] == row["policy"]
            else (1 - one["high"], 1 - one["share"], 1 - one["low"])
            for one in shares
            if row["policy"] in (one["policy_a"], one["policy_b"])
        ]
        np.testing.assert_allclose([row["low"], row["share"], row["high"]], np.mean(ends, axis=0))
        better = sum(other["low"] > row["high"] for other in ranked)
        assert row["rank_low"] == 1 + better <= row["rank"] <= row["rank_high"]


def test_results_and_report_say_what_is_estimated_and_what_is_not_made(run: Run, modpo: Callable[..., Any]) -> None:
    shown = " ".join(modpo("results", run.root).stdout.split())
    page = (run.folder("report") / "report.html").read_text()
    for text in (shown, " ".join(page.split())):
        assert "a mean over questions like these and over the personas of the study" in text
        assert "Not made" in text
    assert "Mean share of the votes that A has" in shown
    assert "not the win rate by all personas" in page
    assert "the majority decides" not in page
    document = json.loads(modpo("results", run.root, "--json").stdout)
    assert set(document["tables"]) == {"completeness", "shares", "share_ranking"}
    told = json.loads(modpo("trace", run.root, "phase1_shares.1.4", "--json").stdout)
    assert told["text"].endswith("%")
    assert "shares" in json.dumps(told)


def test_no_case_is_a_question_that_was_not_judged(run: Run) -> None:
    pair = run.study.judging.phases["phase1"].policies[0], run.study.judging.phases["phase1"].policies[2]
    cases = read_cases(run, MatrixCell("phase1", "empathy", *pair))
    assert len(cases) == asked_of(1)
    assert all(case.count["not_asked"] == 0 for case in cases)


def test_people_are_asked_about_questions_that_were_judged(run: Run) -> None:
    shares = llm_shares(run, PolicyPair("phase1", "Base", "DPO_Empathy"))
    assert len(shares) == asked_of(1)
    assert shares.notna().all(axis=None)


def test_who_needs_every_question_refuses(run: Run, modpo: Callable[..., Any], tmp_path: Path) -> None:
    for words in (["audit", run.root], ["compare", run.root, small_run(tmp_path / "other").root]):
        found = modpo(*words)
        assert found.returncode == 2
        assert "judged sequentially" in found.stderr
        assert "Traceback" not in found.stderr


def test_a_plan_says_the_range_and_a_pilot_what_is_likely(tmp_path: Path, modpo: Callable[..., Any]) -> None:
    pilot = small_run(tmp_path / "pilot", questions=40)
    words = ["plan", pilot.root / "study.yaml", "--set", "judging.stop=sequential", "--set", "data.use_test=40"]
    words += ["--set", "judging.personas_per_question=6", "--set", "data.sandbox_test=40", "--json"]

    def sentence(*more: Any) -> str:
        (found,) = (one for one in json.loads(modpo(*words, *more).stdout)["assumptions"] if "stop where pairs" in one)
        return str(found)

    # nine pairs: a round of ten questions, or all 40, by six personas
    assert f"{9 * 60} to {9 * 240:,} calls; finished verdicts of a pilot" in sentence()
    likely = int(sentence("--pilot", pilot.root).partition("calls, ")[2].partition(" (")[0].replace(",", ""))
    assert 9 * 60 <= likely < 9 * 240
    refused = modpo("plan", pilot.root / "study.yaml", "--pilot", pilot.root)
    assert refused.returncode == 2
    assert "does not stop so" in refused.stderr


def test_the_lines_of_every_number_give_the_number(run: Run) -> None:
    assert_traced(run)
