"""Verdicts that are asked again: what is asked, once; what is said of it; what does not become stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from modpo_hpc.cli.main import main
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.launch.estimate import plan_stages
from modpo_hpc.launch.profile import load_profile
from modpo_hpc.pipeline import STAGES
from modpo_hpc.report.repeats import repeats_section
from modpo_hpc.run import Run
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import parse_study
from tests.every_number import assert_section_traced
from tests.judging import worlds
from tests.judging.servers import counting_server

PLACE = ["policy_a", "policy_b", "question_id", "persona_id", "criterion"]
CHAT = {"kind": "openai", "model": "m", "max_tokens": 32}


def repeats(comparisons: int = 8, samples: int = 2, swapped: bool = True, **judging: Any) -> dict[str, Any]:
    return {"repeats": {"comparisons": comparisons, "samples": samples, "swapped": swapped}, **judging}


def make(run: Run, *stages: str) -> None:
    for stage in stages:
        for shard in run.shard_ids(stage):
            run_shard(str(run.root), stage, shard)


def asked(calls: Path) -> int:
    return len(calls.read_text().splitlines())


def follow(run: Run, **settings: Any) -> Run:
    return Run.create(run.root, parse_study(worlds.study(**settings), source="test"))


def test_a_finished_run_is_asked_again_and_nothing_else_becomes_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting_server(tmp_path, noise=0.4) as (url, calls):
        judge = {**CHAT, "base_url": url}
        run = worlds.world(tmp_path / "run", **judge)
        make(run, "verdicts", "statistics")
        before = asked(calls)
        run = follow(run, judging=repeats(), **judge)
        assert not run.missing("verdicts")
        assert not run.missing("statistics")
        (row,) = [
            row
            for row in plan_stages(
                run.study, load_profile("gpu"), Counts(12, 10), {one.name: ("all",) for one in STAGES}, {}
            )
            if row.stage == "repeats"
        ]
        make(run, "repeats")
        assert asked(calls) - before == row.workload.calls == 3 * 8 * (2 + 1), "the first answers are in the ledger"
        make(run, "repeats")
        assert asked(calls) - before == 3 * 8 * 3

        found = run.table("repeats").to_pandas()
        verdicts = run.table("verdicts").to_pandas().set_index(PLACE)
        first = found[(found["sample"] == 0) & ~found["swapped"]].set_index(PLACE)
        assert first["key"].equals(verdicts["key"].reindex(first.index))
        assert first["winner"].astype(str).equals(verdicts["winner"].astype(str).reindex(first.index))
        turned = found[found["swapped"]].set_index(PLACE)
        assert (turned["first"].astype(str) != first["first"].astype(str).reindex(turned.index)).all()
        drawn = {(*one[:4],) for one in first.index}
        assert len(drawn) == 3 * 8

        run = follow(run, judging=repeats(comparisons=10, samples=3), **judge)
        make(run, "repeats")
        assert asked(calls) - before == 3 * 10 * (3 + 1), "a larger sample holds the smaller"
        more = run.table("repeats").to_pandas()
        assert drawn < {*more[PLACE[:4]].itertuples(index=False, name=None)}
    make(run, "statistics")
    capsys.readouterr()
    assert main(["results", str(run.root), "--json"]) == 0
    (row, other) = json.loads(capsys.readouterr().out)["repeats"]["self_agreement"]
    assert (row["judge"], row["phase"], row["criterion"], other["criterion"]) == ("m", "one", "empathy", "safety")
    assert (row["answers"], row["unparsed"], row["comparisons"]) == (3 * 10 * 5, 0, 3 * 10)
    mine = more[more["criterion"] == "empathy"]
    same = mine[~mine["swapped"]].pivot(index=PLACE[:4], columns="sample", values=["winner", "first"])
    said = same["winner"].mask(same["winner"].isin(["A", "B"]), (same["winner"] == same["first"]).replace({True: "1"}))
    assert row["kappa"] == pytest.approx(fleiss_kappa(aggregate_raters(said.astype(str).to_numpy())[0]))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    flips = pd.concat([same["winner"][i] != same["winner"][j] for i, j in pairs]).mean()
    assert row["flips"] == pytest.approx(flips)
    assert 0.1 < row["flips_low"] < flips < row["flips_high"] < 0.8
    swapped = mine[mine["swapped"]].set_index(PLACE[:4])["winner"].reindex(same.index)
    against = pd.concat([same["winner"][i] != swapped for i in range(4)]).mean()
    assert row["order_flips"] == pytest.approx(against)
    assert row["excess"] == pytest.approx(against - flips)
    section = repeats_section(run)
    assert section is not None
    assert_section_traced(run, section)
    assert main(["results", str(run.root)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"one, empathy: asked the same again, the judge says something else in {100 * flips:.1f}%" in shown


def test_a_judge_that_is_sure_agrees_with_itself_and_says_so_with_an_interval(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run", judging=repeats(swapped=False))
    make(run, "verdicts", "repeats")
    for row in pd.read_parquet(run.folder("repeats") / "self_agreement.parquet").to_dict("records"):
        assert (row["flips"], row["kappa"], row["noise"]) == (0.0, 1.0, 0.0)
        assert row["flips_high"] == pytest.approx(3.8414588 / (24 + 3.8414588)), "24 comparisons rule out little"
        assert row["order_flips"] != row["order_flips"]


def test_a_seed_that_is_sent_moves_with_each_time(tmp_path: Path) -> None:
    """With one seed an honest endpoint would draw the same again."""
    with counting_server(tmp_path, noise=1.0) as (url, _):
        run = worlds.world(tmp_path / "run", judging=repeats(), base_url=url, sampling_seed=7, **CHAT)
        make(run, "verdicts", "repeats")
    found = run.table("repeats").to_pandas()
    said = found[~found["swapped"]].groupby(PLACE, observed=True)["winner"].nunique()
    assert said.max() > 1


@pytest.mark.parametrize("stop", ["exact", "sequential"])
def test_after_a_stop_only_what_was_asked_is_asked_again(tmp_path: Path, stop: str) -> None:
    settings: dict[str, Any] = {"stop": stop, "judging": repeats(comparisons=1000, samples=1)}
    if stop == "sequential":
        settings["judging"] |= {"personas_per_question": 4, "sequential": {"questions_per_round": 2}}
        settings |= {"alpha": 0.5, "test": 40}
    run = worlds.world(tmp_path / "run", **settings)
    make(run, "verdicts", "repeats")
    verdicts = run.table("verdicts").to_pandas()
    heard = verdicts[verdicts["winner"] != "not_asked"]
    assert 0 < len(heard) < len(verdicts)
    found = run.table("repeats").to_pandas()
    first = found[(found["sample"] == 0) & ~found["swapped"]]
    told = {*first[PLACE].astype(str).itertuples(index=False, name=None)}
    assert {*heard[PLACE].astype(str).itertuples(index=False, name=None)} <= told


def test_every_judge_of_a_panel_is_asked_again_and_stands_alone(tmp_path: Path) -> None:
    with counting_server(tmp_path, noise=0.5) as (url, _):
        judges = [{**CHAT, "base_url": url}, {"kind": "rules"}]
        run = worlds.world(tmp_path / "run", judges=judges, judging=repeats())
        make(run, "verdicts", "repeats")
    rows = pd.read_parquet(run.folder("repeats") / "self_agreement_pairs.parquet")
    flips = rows.groupby("judge")["flips"].mean()
    assert flips["rules"] == 0.0 < flips["m"]
    assert len(rows) == 2 * 3 * 2
