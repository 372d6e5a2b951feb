"""An endpoint that puts another model behind a name in mid-run: whoever looks is told, and it is refused on wish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.ledger import entries
from modpo_hpc.pipeline import STAGES
from modpo_hpc.report.results import read_results
from modpo_hpc.report.study import provenance_section, study_section
from modpo_hpc.run import Run
from modpo_hpc.study import parse_study
from tests.judging import worlds
from tests.judging.servers import counting_server
from tests.judging.test_flow import ask, many, settings

SAID = "judge m answered as several models: m-1 (100 of verdicts); m-2 (80 of verdicts)"


def judged(folder: Path, **behaviour: Any) -> Run:
    """Three shards of sixty verdicts."""
    with counting_server(folder, **behaviour) as (url, _):
        run = worlds.world(folder / "run", kind="openai", model="m", base_url=url, max_tokens=32, window=1)
        for shard in run.shard_ids("verdicts"):
            run_shard(str(run.root), "verdicts", shard)
    return run


def follow(run: Run, **changes: Any) -> Run:
    """``run``, whose study has other values in the fields ``changes`` of its sections from now on."""
    raw = run.study.model_dump(mode="json")
    for section, values in changes.items():
        raw[section] |= values
    return Run.create(run.root, parse_study(raw, source="test"))


def test_statistics_refuse_a_drift_unless_told_otherwise_and_status_results_and_report_tell_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = judged(tmp_path, drift_after=100)
    main(["status", str(run.root)])
    assert SAID in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match=r"statistics\.mixed_judges.*m-1 \(100 of verdicts\).*judge\.snapshot.*true"):
        run_shard(str(run.root), "statistics", "all")
    assert not [*run.folder("statistics").glob("*.parquet")]

    run = follow(run, statistics={"mixed_judges": True})
    assert run.missing("verdicts") == []
    run_shard(str(run.root), "statistics", "all")
    main(["results", str(run.root)])
    shown = capsys.readouterr()
    assert SAID in shown.err
    assert "counted together" in shown.out
    assert SAID in " ".join(provenance_section(run).findings)
    for command in ("status", "results"):
        main([command, str(run.root), "--json"])
        (told,) = json.loads(capsys.readouterr().out)["drift"]
        assert told.startswith(SAID)


def test_nothing_is_told_of_a_judge_that_stays_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judged(tmp_path)
    run_shard(str(run.root), "statistics", "all")
    made = (run.folder("statistics") / "statistics.json").read_bytes()
    assert b"mixed_judges" not in made
    for command in ("status", "results"):
        main([command, str(run.root)])
        said = capsys.readouterr()
        assert "several models" not in said.out + said.err
    assert provenance_section(run).findings == []
    before = {stage.name: run.missing(stage.name) for stage in STAGES}
    run = follow(run, statistics={"mixed_judges": True})
    now = {stage.name: run.missing(stage.name) for stage in STAGES}
    assert now == before | {"statistics": ["all"]}
    run_shard(str(run.root), "statistics", "all")
    assert (run.folder("statistics") / "statistics.json").read_bytes() == made


def test_verdicts_of_a_former_judge_are_asked_anew_unless_they_are_to_be_counted_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting_server(tmp_path) as (url, _):
        run = worlds.world(tmp_path / "run", kind="openai", model="m", base_url=url, max_tokens=32, window=1)
        shards = run.shard_ids("verdicts")
        for shard in shards:
            run_shard(str(run.root), "verdicts", shard)
        run = follow(run, judge={"model": "n"})
        assert run.missing("verdicts") == [*shards]
        with pytest.raises(IncompleteError, match="needs verdicts"):
            run_shard(str(run.root), "statistics", "all")

        run = follow(run, statistics={"mixed_judges": True})
        assert run.missing("verdicts") == []
        run_shard(str(run.root), "verdicts", shards[0], again=True)
    assert main(["explain", str(run.root), "verdicts", shards[1]]) == 0
    run_shard(str(run.root), "statistics", "all")
    capsys.readouterr()
    main(["results", str(run.root), "--json"])
    told = json.loads(capsys.readouterr().out)["mixed_judges"]
    assert told[0] == "verdicts are of different judges: model n (120); model m (240)."
    main(["results", str(run.root)])
    assert "model n (120); model m (240)" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "model n (120); model m (240)" in study_section(run, read_results(run)).facts["Verdicts counted together"]

    run = follow(run, statistics={"mixed_judges": False})
    assert run.missing("verdicts") == [*shards[1:]], "what the present judge gave is its own"
    changed = follow(run, judging={"forced_choice": True}, statistics={"mixed_judges": True})
    assert changed.missing("verdicts") == [*shards], "another question is no other judge"


def test_answers_of_another_snapshot_are_refused_on_wish(tmp_path: Path) -> None:
    with counting_server(tmp_path, drift_after=20) as (url, _):
        judge = settings(url, window=1, snapshot="m-1")
        for _ in range(2):
            with pytest.raises(InputError, match=r"judge.snapshot.*answers as another model \('m-2'\)"):
                ask(tmp_path, many(40), judge)
            kept = list(entries(tmp_path / "ledger"))
            assert {entry.judge for entry in kept} == {"m-1"}
            assert len(kept) == 20
