"""The stage from verdicts on disk to tables on disk, and the commands that show them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import IncompleteError
from modpo_hpc.evaluation.tables import SCHEMAS
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.study.evaluation import SANDBOX_MARK
from tests.synthetic_verdicts import VERDICTS, fill, small_run, small_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = small_run(tmp_path_factory.mktemp("stats") / "run")
    run_shard(str(run.root), "statistics", "all")
    return run


def test_every_table_is_there_as_parquet_and_csv_with_the_mark(finished: Run) -> None:
    folder = finished.folder("statistics")
    for name, schema in SCHEMAS.items():
        table = pq.read_table(folder / f"{name}.parquet", partitioning=None)
        assert table.schema.names == schema.names
        csv = pd.read_csv(folder / f"{name}.csv")
        assert len(csv) == table.num_rows > 0
        assert set(csv["note"]) == {SANDBOX_MARK}
    assert json.loads((folder / "statistics.json").read_text())["sandbox"] == SANDBOX_MARK


def test_statistics_name_the_judge_that_was_asked_and_not_the_one_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODPO_JUDGE_MODEL", "really-asked")
    study = small_study(judge={"kind": "openai", "model": "of-the-study", "base_url": "http://127.0.0.1:9/v1"})
    run = small_run(tmp_path / "run", study, questions=4)
    run_shard(str(run.root), "statistics", "all")
    assert json.loads((run.folder("statistics") / "statistics.json").read_text())["judge"] == "really-asked"
    monkeypatch.delenv("MODPO_JUDGE_MODEL")
    assert run.missing("statistics") == ["all"], "made from verdicts of another judge than that of the study"


def test_tables_agree_with_pandas_on_the_verdicts(finished: Run) -> None:
    verdicts = finished.table("verdicts").to_pandas()
    verdicts["vote"] = verdicts["winner"].astype(str).map({"A": 1, "B": -1}).fillna(0)
    keys = ["phase", "criterion", "policy_a", "policy_b"]
    margin = verdicts.groupby([*keys, "question_id"], observed=True)["vote"].sum().reset_index()
    expected = margin.groupby(keys, observed=True)["vote"].agg(
        wins_a=lambda one: (one > 0).sum(), wins_b=lambda one: (one < 0).sum(), ties=lambda one: (one == 0).sum()
    )
    ours = pq.read_table(finished.folder("statistics") / "win_rates.parquet", partitioning=None).to_pandas()
    for row in ours.to_dict("records"):
        theirs = expected.loc[tuple(row[key] for key in keys)]
        assert (row["wins_a"], row["wins_b"], row["ties"]) == tuple(theirs)
        assert row["win_rate_a"] == row["wins_a"] / 40
        assert row["a_low"] <= row["win_rate_a"] <= row["a_high"]


def test_the_same_verdicts_give_the_same_bytes(finished: Run, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(finished.root, copy)
    shutil.rmtree(copy / "statistics")
    run_shard(str(copy), "statistics", "all")
    before, after = (read_marker(root / "statistics", "all") for root in (finished.root, copy))
    assert before is not None
    assert after is not None
    assert before.outputs == after.outputs


def test_too_many_unparsed_verdicts_leave_only_the_count_of_them(tmp_path: Path, modpo: Callable[..., Any]) -> None:
    run = small_run(tmp_path / "run", unparsed=0.05)
    with pytest.raises(IncompleteError, match=r"lack more than 1\.0% of their verdicts"):
        run_shard(str(run.root), "statistics", "all")
    assert not (run.folder("statistics") / "mcnemar.parquet").exists()
    shown = modpo("results", run.root)
    assert shown.returncode == 3
    assert "unparsed" in shown.stderr
    assert shown.stdout == ""


def test_a_higher_bound_lets_them_pass(tmp_path: Path) -> None:
    study = small_study(statistics={"draws": 100, "max_missing": 0.2})
    run = small_run(tmp_path / "run", study, unparsed=0.05)
    run_shard(str(run.root), "statistics", "all")
    completeness = pq.read_table(run.folder("statistics") / "completeness.parquet", partitioning=None).to_pandas()
    assert completeness["unparsed"].sum() > 0


def test_results_in_100_columns_with_mark_and_every_pair(finished: Run, modpo: Callable[..., Any]) -> None:
    shown = modpo("results", finished.root)
    assert shown.returncode == 0, shown.stderr
    assert SANDBOX_MARK in shown.stdout
    assert [line for line in shown.stdout.splitlines() if len(line) > 100] == []
    assert "McNemar" in shown.stdout
    for policy in finished.study.alignment.policies:
        assert policy in shown.stdout


def test_results_as_json_are_json_alone(finished: Run, modpo: Callable[..., Any]) -> None:
    shown = modpo("results", finished.root, "--json")
    tables = json.loads(shown.stdout)["tables"]
    assert set(tables) == set(SCHEMAS)


def test_results_before_statistics_are_incomplete(tmp_path: Path, modpo: Callable[..., Any]) -> None:
    run = small_run(tmp_path / "run")
    shown = modpo("results", run.root)
    assert shown.returncode == 3
    assert "modpo rerun" in shown.stderr


def test_verdicts_of_another_study_are_refused_before_anything_is_written(
    tmp_path: Path, modpo: Callable[..., Any]
) -> None:
    run = small_run(tmp_path / "run")
    shard = run.shard_ids("verdicts")[0]
    table = run.table("verdicts", shard_ids=[shard]).to_pylist()
    table[0]["question_id"] = "q999"
    fill(run, "verdicts", {shard: (table, VERDICTS)})
    shown = modpo("rerun", run.root, "statistics")
    assert shown.returncode != 0
    assert "'q999'" in shown.stdout + shown.stderr
    assert "question_id" in shown.stdout + shown.stderr
    assert not (run.folder("statistics") / "mcnemar.parquet").exists()
