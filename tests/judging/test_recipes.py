"""The recipes rank, vote and judge on a small world, through the one shard entry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from modpo_hpc.core.markers import marker_path, read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.ledger import entries
from modpo_hpc.run import Run
from modpo_hpc.study import parse_study
from tests.judging import worlds
from tests.judging.servers import counting_server


def make(run: Run, stage: str, *only: str) -> None:
    for shard in only or run.shard_ids(stage):
        run_shard(str(run.root), stage, shard)


def forget(run: Run, stage: str) -> None:
    shutil.rmtree(run.folder(stage))


def bytes_of(run: Run, stage: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder(stage).glob("*.parquet")}


def test_rankings_and_pairs(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run", encoder=True)
    forget(run, "rankings")
    forget(run, "pairs")
    make(run, "rankings")
    rankings = run.table("rankings").to_pandas()
    assert len(rankings) == 12 * 3 * 2
    assert (rankings["state"] == "ok").all()
    assert all(sorted(row.order) == sorted(row.shown) for row in rankings.itertuples())
    assert (rankings.groupby(["persona_id", "criterion"], observed=True).size() == 6).all()
    assert len({tuple(one) for one in rankings["shown"]}) > 12
    assert set(rankings["key"]) == {entry.key.hex() for entry in entries(run.root / "ledger")}

    make(run, "pairs")
    pairs = run.table("pairs").to_pandas()
    assert set(pairs["criterion"]) == {"empathy", "safety"}
    for row in pairs.itertuples():
        mine = rankings[(rankings["question_id"] == row.question_id) & (rankings["criterion"] == row.criterion)]
        points = pd.Series(0, index=row.responses)
        for order in mine["order"]:
            points = points.add(pd.Series((10, 5, 0, -5, -10), index=order))
        assert points[row.responses].tolist() == row.votes.tolist()
        assert points[row.chosen] == points.max()
        assert points[row.rejected] == points.min()
    markers = [read_marker(run.folder("pairs"), shard) for shard in run.shard_ids("pairs")]
    for marker in markers:
        assert marker is not None
        assert marker.metrics["pairs"] + marker.metrics["undecided"] + marker.metrics["unvoted"] == 12


@pytest.mark.parametrize(
    ("calls", "first", "later", "again"),
    [
        ("together", 36, "together", 36),
        ("separate", 72, "separate", 36),
        ("together", 36, [["empathy", "safety"], ["quality"]], 36),
    ],
)
def test_one_more_criterion_asks_for_itself_alone_where_it_has_its_own_call(
    tmp_path: Path, calls: str, first: int, later: object, again: int
) -> None:
    def rankings_by(calls: object, *rank: str) -> tuple[pd.DataFrame, int]:
        run = Run.create(tmp_path / "run", parse_study(worlds.study(rank=rank, ranking={"calls": calls}), "test"))
        before = len(list(entries(run.root / "ledger"))) if (run.root / "ledger").exists() else 0
        make(run, "rankings")
        paid = len(list(entries(run.root / "ledger"))) - before
        table = run.table("rankings").to_pandas().astype({"criterion": str})
        return table.set_index(["criterion", "question_id", "persona_id"]).sort_index(), paid

    forget(worlds.world(tmp_path / "run", ranking={"calls": calls}), "rankings")
    before, paid = rankings_by(calls, "empathy", "safety")
    assert paid == first
    after, paid = rankings_by(later, "empathy", "safety", "quality")
    assert paid == again
    assert len(after) == 3 * 36
    kept = after.loc[["empathy", "safety"]]
    if later == "together":
        assert not set(kept["key"]) & set(before["key"]), "asked anew, beside the new one"
    else:
        assert kept.map(str).equals(before.map(str)), "from the ledger: the pairs, and what rests on them, stay"


@pytest.mark.parametrize("calls", [[["empathy"]], [["empathy", "safety"], ["safety"]], [["empathy", "safety"], []]])
def test_a_list_of_calls_names_every_criterion_once(calls: list[list[str]]) -> None:
    with pytest.raises(InputError, match=r"ranking\.calls.*every criterion once: empathy, safety"):
        parse_study(worlds.study(ranking={"calls": calls}), "test")


def test_verdicts_are_balanced_and_turned_back_into_policies(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run")
    make(run, "verdicts")
    verdicts = run.table("verdicts").to_pandas()
    assert len(verdicts) == 3 * 10 * 6 * 2
    one = verdicts[verdicts["criterion"] == "empathy"]
    first = one.astype(str).groupby(["policy_a", "policy_b", "question_id"])["first"].value_counts()
    assert len(first) == 3 * 10 * 2
    assert (first == 3).all()
    assert set(verdicts["winner"]) <= {"A", "B", "tie"}
    # the rule judge hardly minds the order, so a policy that wins must win whoever is shown first
    shares = one[one["winner"] != "tie"].groupby("first", observed=True)["winner"].value_counts(normalize=True)
    assert abs(shares["A", "A"] - shares["B", "A"]) < 0.35


def test_a_rerun_asks_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run")
    make(run, "verdicts")
    before = bytes_of(run, "verdicts")
    ledger = {path: path.stat().st_size for path in (run.root / "ledger").iterdir()}
    forget(run, "verdicts")
    make(run, "verdicts")
    assert bytes_of(run, "verdicts") == before
    assert {path: path.stat().st_size for path in (run.root / "ledger").iterdir()} == ledger
    marker = read_marker(run.folder("verdicts"), "one.Base.DPO.0")
    assert marker is not None
    assert marker.metrics["from_ledger"] == marker.metrics["judged"] == 60


def test_an_exact_stop_changes_no_majority(tmp_path: Path) -> None:
    whole, stopped = worlds.world(tmp_path / "whole"), worlds.world(tmp_path / "stopped", stop="exact")
    make(whole, "verdicts")
    make(stopped, "verdicts")

    def majorities(run: Run) -> pd.Series:
        verdicts = run.table("verdicts").to_pandas()
        cell = ["policy_a", "policy_b", "question_id", "criterion"]
        votes = verdicts.groupby(cell, observed=True)["winner"].agg(lambda one: (one == "A").sum() - (one == "B").sum())
        return votes.clip(-1, 1)

    pd.testing.assert_series_equal(majorities(whole), majorities(stopped))
    winners = stopped.table("verdicts").to_pandas()["winner"].value_counts()
    assert winners["not_asked"] > 0


@pytest.mark.parametrize("stop", ["none", "exact"])
def test_a_call_for_each_criterion_shows_the_judge_no_other(tmp_path: Path, stop: str) -> None:
    run = worlds.world(tmp_path / "run", calls="separate", stop=stop)
    make(run, "verdicts", "one.Base.DPO.0")
    asked = {entry.criteria for entry in entries(run.root / "ledger")}
    assert asked == {("empathy",), ("safety",)}
    verdicts = run.table("verdicts", shard_ids=["one.Base.DPO.0"]).to_pandas()
    assert len(verdicts) == 10 * 6 * 2
    cell = ["question_id", "persona_id", "criterion"]
    assert not verdicts.duplicated(cell).any()
    key_of = {entry.key.hex(): entry.criteria for entry in entries(run.root / "ledger")}
    known = verdicts[verdicts["key"].notna()]
    assert (known["key"].map(key_of).str[0] == known["criterion"].astype(str)).all()
    # the rule judge looks at each criterion by itself, so it says the same as in one call
    whole = worlds.world(tmp_path / "whole")
    make(whole, "verdicts", "one.Base.DPO.0")
    together = whole.table("verdicts", shard_ids=["one.Base.DPO.0"]).to_pandas().set_index(cell)["winner"]
    mine = verdicts[verdicts["winner"] != "not_asked"].set_index(cell)["winner"].astype(str)
    assert len(mine) > 0
    assert (mine == together.astype(str)[mine.index]).all()


def test_a_forced_choice_has_no_ties(tmp_path: Path) -> None:
    free, forced = worlds.world(tmp_path / "free"), worlds.world(tmp_path / "forced", forced_choice=True)
    make(free, "verdicts")
    make(forced, "verdicts")
    assert "tie" in set(free.table("verdicts").to_pandas()["winner"])
    assert set(forced.table("verdicts").to_pandas()["winner"]) == {"A", "B"}


def test_two_studies_share_a_ledger(tmp_path: Path) -> None:
    one = worlds.world(tmp_path / "one", ledger=str(tmp_path / "ledger"))
    two = worlds.world(tmp_path / "two", ledger=str(tmp_path / "ledger"))
    make(one, "verdicts", "one.Base.DPO.0")
    make(two, "verdicts", "one.Base.DPO.0")
    marker = read_marker(two.folder("verdicts"), "one.Base.DPO.0")
    assert marker is not None
    assert marker.metrics["from_ledger"] == 60
    assert one.table_path("verdicts", "one.Base.DPO.0").read_bytes() == (
        two.table_path("verdicts", "one.Base.DPO.0").read_bytes()
    )


def test_a_persona_without_text(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run")
    rows = [worlds.persona_row(run, number) for number in range(12)]
    rows[8]["text"] = " "
    worlds.put(run, "personas", "all", rows)
    for stage in ("rankings", "pairs"):
        for shard in run.shard_ids(stage):
            marker_path(run.folder(stage), shard).unlink()
    with pytest.raises(InputError, match=r"p008.*no text.*modpo rerun"):
        make(run, "verdicts", "one.Base.DPO.0")
    assert not run.folder("verdicts").joinpath("one.Base.DPO.0.parquet").exists()


def test_an_answer_missing_for_one_model(tmp_path: Path) -> None:
    run = worlds.world(tmp_path / "run")
    kept = run.table("answers", shard_ids=["DPO.0"]).to_pylist()
    worlds.put(run, "answers", "DPO.0", kept[1:])
    with pytest.raises(
        InputError, match=f"answers of DPO lack this question.*{kept[0]['question_id']}|{kept[0]['question_id']}"
    ):
        make(run, "verdicts", "one.Base.DPO.0")


def test_without_a_key_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_OF_THE_TEST", raising=False)
    run = worlds.world(tmp_path / "run", kind="openai", model="gpt-5", api_key_env="KEY_OF_THE_TEST")
    with pytest.raises(InputError, match=r"KEY_OF_THE_TEST.*there is no API key.*export KEY_OF_THE_TEST"):
        make(run, "verdicts", "one.Base.DPO.0")
    assert not (run.root / "ledger").exists()


def test_a_wrong_model_name_is_named_with_its_remedy(tmp_path: Path) -> None:
    with counting_server(tmp_path) as (url, calls):
        run = worlds.world(tmp_path / "run", kind="openai", model="unknown", base_url=url)
        with pytest.raises(InputError, match=r"judge\.model.*does not know this model.*Correct judge\.model"):
            make(run, "verdicts", "one.Base.DPO.0")
        assert not calls.read_text()
    assert not run.table_path("verdicts", "one.Base.DPO.0").exists()


def test_a_torn_ledger_costs_the_torn_answers_only(tmp_path: Path) -> None:
    """As a kill leaves it: the end of the last write is missing, and so is the index."""
    with counting_server(tmp_path, latency=0.01) as (url, calls):
        run = worlds.world(tmp_path / "run", kind="openai", model="m", base_url=url, max_tokens=32, window=8)
        make(run, "verdicts", "one.Base.DPO.0")
        before = bytes_of(run, "verdicts")
        (segment,) = (run.root / "ledger").glob("*.zst")
        segment.write_bytes(segment.read_bytes()[:-7])
        for index in (run.root / "ledger").glob("*.index"):
            index.unlink()
        torn = 60 - len(list(entries(run.root / "ledger")))
        assert 0 < torn < 30
        forget(run, "verdicts")
        make(run, "verdicts", "one.Base.DPO.0")
        assert bytes_of(run, "verdicts") == before
        assert len(calls.read_text().splitlines()) == 60 + torn
