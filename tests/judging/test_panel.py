"""A panel of judges: every one answers every item, votes count alike, agreement is shown, all calls are planned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sklearn.metrics import cohen_kappa_score

from modpo_hpc.cli.main import main
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.ledger import entries
from modpo_hpc.report.results import read_results
from modpo_hpc.report.robustness import certainty_section
from modpo_hpc.run import Run
from modpo_hpc.study import parse_study
from tests.every_number import assert_section_traced
from tests.judging import worlds
from tests.judging.servers import counting_server

CELL = ["policy_a", "policy_b", "question_id", "criterion"]


def panel_of(run_dir: Path, url: str, **settings: object) -> Run:
    chat = {"kind": "openai", "base_url": url, "max_tokens": 32}
    judges = [{**chat, "model": "m"}, {**chat, "model": "m", "name": "warm", "temperature": 1.0}, {"kind": "rules"}]
    return worlds.world(run_dir, judges=judges, **settings)


def make(run: Run, stage: str) -> None:
    for shard in run.shard_ids(stage):
        run_shard(str(run.root), stage, shard)


def majorities(verdicts: pd.DataFrame) -> pd.Series:
    lead = (verdicts["winner"] == "A").astype(int) - (verdicts["winner"] == "B").astype(int)
    return lead.groupby([verdicts[name] for name in CELL], observed=True).sum().clip(-1, 1)


def test_every_judge_answers_everything_and_the_majority_is_that_of_all_votes(tmp_path: Path) -> None:
    with counting_server(tmp_path) as (url, calls):
        run = panel_of(tmp_path / "run", url)
        make(run, "verdicts")
        asked = len(calls.read_text().splitlines())
        make(run, "verdicts")
        assert len(calls.read_text().splitlines()) == asked == 2 * 3 * 10 * 6
        stopped = panel_of(tmp_path / "stopped", url, stop="exact", ledger=str(run.root / "ledger"))
        make(stopped, "verdicts")
    verdicts = run.table("verdicts").to_pandas()
    assert verdicts["judge"].value_counts().to_dict() == dict.fromkeys(("m", "warm", "rules"), 3 * 10 * 6 * 2)
    assert {entry.key.hex() for entry in entries(run.root / "ledger")} == set(verdicts["key"])
    early = stopped.table("verdicts").to_pandas()
    assert (early["winner"] == "not_asked").sum() > 40
    pd.testing.assert_series_equal(majorities(early), majorities(verdicts))

    make(run, "statistics")
    folder = run.folder("statistics")
    rates = pd.read_parquet(folder / "win_rates.parquet").set_index(["policy_a", "policy_b", "criterion"])
    for key, won in majorities(verdicts).groupby(["policy_a", "policy_b", "criterion"], observed=True):
        assert rates.loc[key, "wins_a"] == (won == 1).sum()
        assert rates.loc[key, "wins_b"] == (won == -1).sum()
    agreement = pd.read_parquet(folder / "judge_agreement.parquet")
    assert len(agreement) == 3 * 2
    for row in agreement.itertuples():
        mine = verdicts[verdicts["criterion"] == row.criterion].set_index([*CELL, "persona_id"])
        one, other = (mine[mine["judge"] == name]["winner"].astype(str) for name in (row.judge, row.other_judge))
        assert row.kappa == pytest.approx(cohen_kappa_score(one, other.reindex(one.index)))
    alone = pd.read_parquet(folder / "judge_rates.parquet")
    only = majorities(verdicts[verdicts["judge"] == "rules"])
    assert alone[alone["judge"] == "rules"]["wins_a"].sum() == (only == 1).sum()
    section = certainty_section(read_results(run))
    assert_section_traced(run, section)
    shown = {table.file: table for table in section.tables}
    assert len(shown["judge_agreement"].rows) == 6
    assert len(shown["judge_rates"].rows) == 3 * 3 * 2
    together = pd.read_parquet(folder / "persona_agreement.parquet")
    assert set(together["votes"]) == {10 * 6}, "a persona votes once, by the mean of its judges"
    persons = pd.read_parquet(folder / "persona_rates.parquet")
    assert not persons.duplicated(["phase", "criterion", "policy", "persona_id"]).any()


def test_the_ledgers_of_all_judges_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judges = [{"kind": "rules"}, {"kind": "rules", "name": "again", "ledger": str(tmp_path / "shared")}]
    run = worlds.world(tmp_path / "run", judges=judges)
    make(run, "verdicts")
    capsys.readouterr()
    assert main(["ledger", str(run.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["ledgers"]
    assert [one["folder"] for one in told] == [str(run.root / "ledger"), str(tmp_path / "shared")]
    assert [one["keys"] for one in told] == [3 * 10 * 6] * 2
    assert main(["ledger", str(run.root)]) == 0
    assert capsys.readouterr().out.count(" answers in ") == 2


def test_rankings_of_a_panel_are_all_votes(tmp_path: Path) -> None:
    judges = [{"kind": "rules", "name": name, "ledger": str(tmp_path / name)} for name in ("one", "two")]
    votes = []
    for name, more in (("single", {}), ("double", {"judges": judges})):
        run = worlds.world(tmp_path / name, encoder=True, **more)
        for stage in ("rankings", "pairs"):
            shutil.rmtree(run.folder(stage))
            make(run, stage)
        votes.append(run.table("pairs").to_pandas().set_index(["criterion", "question_id"]))
    single, double = votes
    assert len(single) > 10
    for key, row in single.iterrows():
        assert double.loc[key, "votes"].tolist() == (2 * row["votes"]).tolist()
    rankings = run.table("rankings").to_pandas()
    assert rankings.groupby("judge", observed=True).size().to_dict() == {"one": 72, "two": 72}
    assert {entry.key for entry in entries(tmp_path / "one")} == {entry.key for entry in entries(tmp_path / "two")}


def test_the_plan_counts_the_calls_of_all_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = {}
    paid = {"kind": "openai", "model": "gpt-5", "price": {"input": 1.0, "output": 1.0}}
    for name, judge in (("one", paid), ("two", [paid, {**paid, "name": "again"}])):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**worlds.study(), "judge": judge}))
        assert main(["plan", str(path), "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        calls[name] = {row["stage"]: (row["calls_left"], row["price"]) for row in rows["stages"]}
    for stage in ("rankings", "verdicts"):
        assert calls["two"][stage][0] == 2 * calls["one"][stage][0] > 0
        assert calls["two"][stage][1] == pytest.approx(2 * calls["one"][stage][1])


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ([{"kind": "rules"}, {"kind": "rules"}], "two judges called 'rules'; give each a name"),
        ([], "empty list"),
        ([{"kind": "rules"}, {"kind": "openai", "widow": 3}], r"judge\.1\.widow.*not known.*window"),
    ],
)
def test_a_panel_that_is_none(judge: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_study({**worlds.study(), "judge": judge}, "study.yaml")


def test_the_environment_does_not_make_a_panel_one_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = worlds.world(tmp_path / "run", judges=[{"kind": "rules"}, {"kind": "rules", "name": "b"}])
    monkeypatch.setenv("MODPO_JUDGE_MODEL", "other")
    with pytest.raises(InputError, match=r"MODPO_JUDGE_MODEL.*several judges.*Unset it"):
        run_shard(str(run.root), "verdicts", run.shard_ids("verdicts")[0])


@pytest.mark.parametrize("path", sorted(Path("configs/judges").glob("*.yaml")), ids=lambda path: path.stem)
def test_worked_examples_are_settings_of_a_judge(path: Path) -> None:
    study = parse_study({**worlds.study(), **yaml.safe_load(path.read_text())}, path)
    assert all(judge.kind in ("openai", "server") for judge in study.judges)
