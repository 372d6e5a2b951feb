"""An endpoint that puts another model behind a name in mid-run: whoever looks is told, and it is refused on wish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.ledger import entries
from modpo_hpc.report.study import provenance_section
from modpo_hpc.run import Run
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
    run_shard(str(run.root), "statistics", "all")
    return run


def test_status_results_and_report_tell_of_a_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judged(tmp_path, drift_after=100)
    main(["status", str(run.root)])
    assert SAID in " ".join(capsys.readouterr().out.split())
    main(["results", str(run.root)])
    assert SAID in capsys.readouterr().err
    assert SAID in " ".join(provenance_section(run).findings)
    for command in ("status", "results"):
        main([command, str(run.root), "--json"])
        (told,) = json.loads(capsys.readouterr().out)["drift"]
        assert told.startswith(SAID)


def test_nothing_is_told_of_a_judge_that_stays_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judged(tmp_path)
    for command in ("status", "results"):
        main([command, str(run.root)])
        said = capsys.readouterr()
        assert "several models" not in said.out + said.err
    assert provenance_section(run).findings == []


def test_answers_of_another_snapshot_are_refused_on_wish(tmp_path: Path) -> None:
    with counting_server(tmp_path, drift_after=20) as (url, _):
        judge = settings(url, window=1, snapshot="m-1")
        for _ in range(2):
            with pytest.raises(InputError, match=r"judge.snapshot.*answers as another model \('m-2'\)"):
                ask(tmp_path, many(40), judge)
            kept = list(entries(tmp_path / "ledger"))
            assert {entry.judge for entry in kept} == {"m-1"}
            assert len(kept) == 20
