"""``modpo rerun`` where there is no Slurm: in the foreground, what is stale, and calls that cannot be meant."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.core.markers import marker_path
from modpo_hpc.launch.attempts import attempts_at
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.submissions import keep_profile
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.slurm.fates import write_recipes

DEMO = REPOSITORY / "configs" / "demo.yaml"
Modpo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose shards do what ``fate`` says."""
    write_recipes(tmp_path / "recipes")
    (tmp_path / "fates").mkdir()
    monkeypatch.setenv("MODPO_JOBS", str(tmp_path / "recipes"))
    monkeypatch.setenv("MODPO_TEST_FATES", str(tmp_path / "fates"))
    return Run.create(tmp_path / "run", load_study(DEMO, ["shards.responses=2", "shards.rankings=2"]))


def fate(run: Run, shard: str, what: str) -> None:
    (run.root.parent / "fates" / shard).write_text(what)


def states(run: Run, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, int]]:
    capsys.readouterr()
    main(["status", str(run.root), "--json"])
    return {stage["stage"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}


def test_here_shows_the_whole_traceback_and_makes_a_done_shard_again(run: Run, modpo: Modpo) -> None:
    fate(run, "questions.all", "raise")
    failed = modpo("rerun", run.root, "questions", "all", "--here")
    assert failed.returncode == 1
    assert "Traceback (most recent call last)" in failed.stderr
    assert 'fates.py", line ' in failed.stderr
    assert failed.stderr.rstrip().endswith("ValueError: shard all met a wall at step 17 of /some/file_all.txt")
    fate(run, "questions.all", "bad-input")
    refused = modpo("rerun", run.root, "questions", "all", "--here")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: survey.csv: the survey has no column 'age'. Add the column.")
    fate(run, "questions.all", "")
    for _ in range(2):
        well = modpo("rerun", run.root, "questions", "all", "--here")
        assert well.returncode == 0, well.stderr
        assert "questions all: done, 40 rows" in well.stdout
    assert [one.outcome for one in attempts_at(run.logs, "questions", "all")] == ["failed", "bad input", "done", "done"]


@pytest.mark.parametrize("place", ["--local", "--here"])
def test_named_shards_of_a_submitted_run_are_made_again_on_this_machine_where_that_is_said(
    run: Run, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.root / "slurm").mkdir()
    keep_profile(run, Profile())
    monkeypatch.setenv("PATH", "/nonexistent")  # no Slurm command is asked
    assert main(["rerun", str(run.root), "responses", "1", place]) == 3, "what it needs is not there"
    for _ in range(2):
        assert main(["rerun", str(run.root), "questions", "all", place]) == 0
    assert [one.outcome for one in attempts_at(run.logs, "questions", "all")] == ["done", "done"]
    assert main(["rerun", str(run.root), "models", "reward", place]) == 0
    assert not attempts_at(run.logs, "models", "base"), "not named"


def test_a_run_takes_what_another_of_the_lab_has_made_and_status_tells_of_different_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("questions", "models", "responses"):
        assert main(["rerun", str(run.root), stage, "--here"]) == 0
    other = Run.create(run.root.parent / "mine" / "run", run.study)
    monkeypatch.setenv("MODPO_REUSE", str(run.root.parent))
    for stage in ("questions", "models", "responses"):
        assert main(["rerun", str(other.root), stage, "--local"]) == 0
    assert {marker.source for marker in other.done("responses").values()} == {str(run.root)}
    assert states(other, capsys)["responses"]["notes"] == []
    path = marker_path(other.folder("responses"), "1")
    marker = json.loads(path.read_text())
    path.unlink()  # its place may be a link to that of the other run
    path.write_text(json.dumps({**marker, "code": {"digest": "another"}}))
    (note,) = states(other, capsys)["responses"]["notes"]
    assert "made by different code" in note
    assert "1 by another" in note


def test_stale_shards_and_no_others_are_made_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("questions", "personas", "models", "responses", "rankings"):
        assert main(["rerun", str(run.root), stage, "--here"]) == 0
    assert main(["rerun", str(run.root), "--stale", "--here"]) == 0
    assert "nothing to rerun" in capsys.readouterr().out
    personas = run.folder("personas") / "markers" / "all.json"
    untouched = personas.read_text()

    fate(run, "questions.all", "otherwise")
    assert main(["rerun", str(run.root), "questions", "all", "--here"]) == 0
    found = states(run, capsys)
    assert {stage: row["stale"] for stage, row in found.items() if row["stale"]} == {
        "models": 2,
        "responses": 2,
        "rankings": 2,
    }
    assert main(["rerun", str(run.root), "responses", "--stale", "--here"]) == 3, "what it needs is stale itself"
    assert "responses 0 needs models" in capsys.readouterr().err
    assert main(["rerun", str(run.root), "--stale", "--here"]) == 0
    found = states(run, capsys)
    assert not any(row["stale"] for row in found.values())
    assert found["rankings"]["done"] == 2
    assert personas.read_text() == untouched


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("nothing says which shards", "--failed", "--class", "--stale")),
        (("answerz",), ("answerz", "no such stage", "answers")),
        (("responses", "7"), ("responses has no such shard", "'7'", "0, 1")),
        (("--class", "oomm"), ("'--class'", "oomm", "oom-gpu")),
        (("questions", "all", "--mem", "much"), ("'--mem'", "much", "x1.5")),
        (("questions", "all", "--local", "--mem", "x2"), ("'--mem'", "on this machine", "--profile")),
    ],
)
def test_a_call_that_cannot_be_meant_changes_nothing(
    run: Run, words: tuple[str, ...], said: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("modpo_hpc.cli.rerun.require_slurm", lambda: None)
    keep_profile(run, Profile())
    before = sorted(run.root.rglob("*"))
    assert main(["rerun", str(run.root), *words]) == 2
    error = capsys.readouterr().err
    for word in said:
        assert word in error
    assert sorted(run.root.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        ("submit", str(DEMO), "--run", "{run}", "--profile", "testbed"),
        ("rerun", "{other}", "questions", "all", "--profile", "testbed"),
        ("cancel", "{other}"),
        ("profile", "init", "{run}"),
        ("rehearse", str(DEMO), "--run", "{run}/r", "--profile", "testbed"),
    ],
)
def test_without_slurm_it_is_said_what_is_missing_and_what_to_do(
    run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    target = run.root.parent / "new"
    assert main([word.format(run=target, other=run.root) for word in words]) == 2
    error = capsys.readouterr().err
    assert "no Slurm on this machine" in error
    assert "modpo run" in error
    assert "testbed.py" in error
    assert words[0] == "rehearse" or not target.exists()


def test_doctor_without_slurm_names_it_and_ends_badly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("modpo_hpc.launch.doctor.HUB", "http://127.0.0.1:9")
    assert main(["doctor", "--folder", str(tmp_path), "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["Slurm"]["verdict"] == "bad"
    assert "no Slurm on this machine" in found["Slurm"]["message"]
    assert found["filesystem"]["verdict"] == "good"
    assert found["internet"]["verdict"] == "note"
    assert "modpo doctor --fetch" in found["internet"]["message"]


def test_fetching_without_network_names_the_model_and_what_to_do(
    modpo: Modpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    wanted = ("--set", "models.base=some/model-7B", "--set", "models.reward=some/encoder")
    done = modpo("doctor", "--fetch", DEMO, *wanted)
    assert done.returncode == 2
    assert "value 'some/model-7B'" in done.stderr
    assert "the network" in done.stderr
    assert "Traceback" not in done.stderr
    looked = modpo("doctor", "--cached", DEMO, *wanted)
    assert looked.returncode == 3
    assert looked.stdout.splitlines() == ["some/model-7B: not in the cache", "some/encoder: not in the cache"]
    assert "nothing to fetch" in modpo("doctor", "--fetch", DEMO).stdout
