"""The whole study in its smallest size, once, through the command that people type; then killed and compared."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.every_number import assert_traced
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole study")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # One run for all workers: nothing else here takes as long.
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    folder.mkdir(exist_ok=True)
    run = folder / "run"
    command = [sys.executable, "-m", "modpo_hpc", "run", "configs/demo-smallest.yaml", "--run", str(run)]
    for questions in ("teach_questions", "test_questions"):
        command += ["--set", f"personalization.{questions}=10"]
    with FileLock(folder / "lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODPO_LOGS", str(folder / "logs"))
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    return run


def test_every_stage_is_done(finished: Path, modpo) -> None:
    status = modpo("status", finished, "--json")
    assert status.returncode == 0, status.stdout
    for stage in json.loads(status.stdout)["stages"]:
        assert stage["done"] == stage["total"], stage


def test_votes_sum_to_zero_and_chosen_beats_rejected(finished: Path) -> None:
    for criterion in load_study(finished / "study.yaml").criteria.rank:
        pairs = pd.read_parquet(finished / "pairs" / f"{criterion}.parquet")
        assert len(pairs) > 0
        assert pairs["votes"].map(sum).eq(0).all()
        votes = [dict(zip(row.responses, row.votes, strict=True)) for row in pairs.itertuples()]
        for row, vote in zip(pairs.itertuples(), votes, strict=True):
            assert vote[row.chosen] == max(vote.values())
            assert vote[row.rejected] == min(vote.values())
            assert row.margin == vote[row.chosen] - vote[row.rejected] > 0


def test_every_pair_is_judged_by_every_persona_with_balanced_order(finished: Path) -> None:
    verdicts = pd.concat(pd.read_parquet(path) for path in (finished / "verdicts").glob("*.parquet"))
    pairs = verdicts.groupby("phase", observed=True)[["policy_a", "policy_b"]].apply(
        lambda rows: len(rows.drop_duplicates())
    )
    phases = load_study(finished / "study.yaml").judging.phases
    assert pairs.to_dict() == {name: math.comb(len(phase.policies), 2) for name, phase in phases.items()}
    assert set(verdicts["winner"].unique()) <= {"A", "B", "tie", "unparsed"}
    cells = verdicts.groupby(["phase", "policy_a", "policy_b", "question_id", "criterion"], observed=True)
    assert (cells["persona_id"].nunique() == 10).all()
    assert (cells.size() == 10).all()
    assert (cells["first"].agg(lambda first: (first == "A").sum()) == 5).all()


def test_the_table_of_mcnemar_tests_is_filled(finished: Path, modpo) -> None:
    result = modpo("results", finished)
    assert result.returncode == 0, result.stderr
    assert "sandbox: simulated judge and models" in result.stdout
    assert "MODPO_Empathy" in result.stdout


def test_the_lines_of_every_number_of_the_report_give_it(finished: Path) -> None:
    """All of text, tables and LaTeX: some thousands of numbers, by the lines that ``modpo trace`` prints."""
    assert_traced(Run.open(finished), "personalization", "personal_effects", "toxicity", "provenance", "cost")


def test_nothing_in_a_run_is_open_to_others(finished: Path) -> None:
    assert finished.stat().st_mode & 0o077 == 0
    assert not [path for path in finished.rglob("*") if path.name.endswith(".tmp")]


def test_logs_show_no_text_of_posts_or_answers(finished: Path) -> None:
    texts = pd.read_parquet(finished / "questions" / "questions.parquet")["text"].tolist()
    texts += pd.read_parquet(finished / "personas" / "personas.parquet")["text"].tolist()
    logs = "\n".join(path.read_text(errors="replace") for path in (finished.parent / "logs").rglob("attempt_*.out"))
    assert logs
    assert not [text for text in texts if text in logs]


def test_the_tutorials_local_part_does_what_it_says(finished: Path, tmp_path: Path) -> None:
    """Each command block of part 1 after the set-up, in its order, on a run of the smallest size."""
    page = (REPOSITORY / "docs" / "tutorial.md").read_text()
    local = page[page.index("```\nsource .venv") : page.index("## 2.")]
    blocks = re.findall(r"^```(yaml)?\n(.*?)^```$", local, re.MULTILINE | re.DOTALL)
    mine = next(text for kind, text in blocks if kind)
    for name in ("configs", "jobs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copytree(finished, tmp_path / "runs" / "demo")
    (tmp_path / "mine.yaml").write_text(mine)
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, module in (("modpo", "-m modpo_hpc"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (commands / name).chmod(0o755)
    (commands / "activate").write_text(f"PATH={commands}:$PATH\n")
    smaller = (
        ("configs/demo.yaml --run runs/gentle", "configs/demo-smallest.yaml --until questions --run runs/gentle"),
        ("configs/demo.yaml", "configs/demo-smallest.yaml"),
        ("markers/2.json", "markers/1.json"),
        ("--shard 2", "--shard 1"),
        ("modpo results runs/gentle", "modpo status runs/gentle"),
    )
    script = "".join(text for kind, text in blocks if not kind)
    for large, small in smaller:
        assert large in script
        script = script.replace(large, small)
    typed = [line.partition("#")[0].strip() for line in script.splitlines()]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MODPO_LOGS": str(tmp_path / "logs")}
    done = subprocess.run(
        ["bash", "-c", "\n".join(f"{line}; printf '\\n=%s\\n' $?" for line in typed)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    ends = re.findall(r"^=(\d+)$", done.stdout, re.MULTILINE)
    incomplete = {number for number, end in enumerate(ends) if end == "3"}
    assert len(ends) == len(typed) > 10
    assert set(ends) == {"0", "3"}, done.stdout + done.stderr
    assert all(typed[number].startswith("modpo status") for number in incomplete), "a look at an unfinished run"
    assert "1: done, " in done.stdout, "the shard is made again in the foreground"
    assert f"report: {(tmp_path / 'runs/demo/report/report.html').resolve()}" in done.stdout


def test_runs_killed_at_random_instants_end_with_the_same_bytes() -> None:
    command = [sys.executable, "tests/bench/kill.py", "--kills", "2", "--seed", "7"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["kills"] == 2
