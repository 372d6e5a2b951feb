"""Changes of the queue: what each leaves, also where the command dies, Slurm falls silent or the disk is full."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.core.journal import Journal
from modpo_hpc.core.markers import Marker, Output, marker_path, write_marker
from modpo_hpc.launch import commands, slurm, task
from modpo_hpc.launch.attempts import Attempt, claim_attempt
from modpo_hpc.launch.fields import array_of
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.launch.fake_slurm import FakeSlurm, Killed, install

STUDY = (str(REPOSITORY / "configs" / "demo.yaml"), "--set", "shards={responses: 3, rankings: 2}")
PROFILE = "partition: cpu\nlimits: {signal_seconds: 30}\n"


class Desk:
    """A run, its Slurm, and a person's commands."""

    def __init__(self, folder: Path, slurm: FakeSlurm, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self.slurm, self._capture = folder, slurm, capture
        self.root = folder / "run"
        (folder / "profile.yaml").write_text(PROFILE)

    def __call__(self, command: str, *words: object) -> tuple[int, str]:
        self._capture.readouterr()
        code = main([command, str(self.root), *map(str, words)])
        captured = self._capture.readouterr()
        return code, captured.out + captured.err

    def submit(self, *words: object) -> tuple[int, str]:
        self._capture.readouterr()
        profile = ("--profile", str(self.folder / "profile.yaml"))
        code = main(["submit", *STUDY, "--run", str(self.root), *profile, *map(str, words)])
        captured = self._capture.readouterr()
        return code, captured.out + captured.err

    @property
    def run(self) -> Run:
        return Run.open(self.root)

    def job(self, stage: str, shard: str) -> str:
        return read_journal(self.run).latest(stage)[shard][1]

    def finish(self, stage: str, *names: str) -> None:
        """The shards end well: marker and Slurm's word."""
        run = self.run
        for shard in names or run.shard_ids(stage):
            output = {f"{shard}.x": Output(1, shard)}
            marker = Marker(stage, shard, run.inputs(stage, shard), output, 0.0, 1.0, "n1", None, 1)
            write_marker(run.folder(stage), marker)
            self.slurm.end(self.job(stage, shard), "COMPLETED")

    def held_by(self) -> dict[tuple[str, str], int]:
        """(stage, shard) -> in how many jobs of the queue it is that can come to something."""
        alive = set(self.slurm.alive())
        found: Counter[tuple[str, str]] = Counter()
        for array, one in self.slurm.arrays.items():
            folder = Path(one.options["output"]).parent
            if not (folder / "tasks.json").exists():
                continue
            tasks = json.loads((folder / "tasks.json").read_text())
            for index, group in enumerate(tasks["tasks"]):
                job = f"{array}_{index}" if len(tasks["tasks"]) > 1 else array
                found.update((tasks["stage"], shard) for shard in group if job in alive)
        return dict(found)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, install(monkeypatch), capsys)


def with_a_failure(desk: Desk) -> None:
    """Questions to responses are done but for responses 1, which has failed; rankings and pairs wait for ever."""
    assert desk.submit("--until", "pairs")[0] == 0
    for stage in ("questions", "personas", "models"):
        desk.finish(stage)
    desk.finish("responses", "0", "2")
    desk.slurm.end(desk.job("responses", "1"), "FAILED")
    stranger = desk.slurm._sbatch("#SBATCH --comment=mine\n", False).strip()
    desk.slurm.arrays[stranger].options["output"] = "/nowhere/x"


def fail_with(desk: Desk, stage: str, shard: str, error: str) -> None:
    """The newest job of the shard ends badly, and its attempt says so."""
    number, log = claim_attempt(desk.run.logs, stage, shard)
    log.write_text(error)
    attempt = Attempt(stage, shard, number, desk.job(stage, shard), 0, "n1", 1, 0.0, 1.0, "failed", None, error)
    log.with_suffix(".json").write_text(json.dumps(asdict(attempt)))
    desk.slurm.end(desk.job(stage, shard), "FAILED")


EXPECTED = {("responses", "1"), ("rankings", "0"), ("rankings", "1")} | {
    ("pairs", one) for one in load_study(STUDY[0]).criteria.rank
}


def check_all_is_there(desk: Desk) -> None:
    held = desk.held_by()
    assert set(held) == EXPECTED, "no lost dependent"
    assert set(held.values()) == {1}, "no double"
    stranger = next(one for one in desk.slurm.arrays.values() if one.options.get("comment") == "mine")
    assert stranger.states == {"": "PENDING"}, "a job of somebody else was touched"


def test_a_rerun_of_what_failed_replaces_what_waited_in_vain(desk: Desk) -> None:
    with_a_failure(desk)
    code, output = desk("rerun", "--failed", "--dry-run")
    assert code == 0
    assert output.count("#!/bin/bash") == 3
    assert "then out of the queue" in output
    before = dict(desk.slurm.arrays)
    assert dict(desk.slurm.arrays) == before
    code, output = desk("rerun", "--failed")
    assert code == 0, output
    check_all_is_there(desk)
    assert "nothing to rerun" in desk("rerun", "--failed")[1]


def steps_of_a_rerun(desk: Desk) -> list[int]:
    """The calls of Slurm by which one undisturbed rerun changes the queue, and the first after each: where it can die.

    The calls between them only look."""
    before = len(desk.slurm.calls)
    assert desk("rerun", "--failed")[0] == 0
    changing = [number for number, call in enumerate(desk.slurm.calls[before:], 1) if call[0] in ("sbatch", "scancel")]
    real = [number for number in changing if "--test-only" not in desk.slurm.calls[before + number - 1]]
    assert len(real) >= 4
    return [real[0] - 1, *real]


@pytest.mark.parametrize("kind", ["killed", "silent"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_rerun_that_dies_at_any_call_of_slurm_loses_and_doubles_nothing(
    kind: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "count").mkdir()
    first = Desk(tmp_path / "count", install(monkeypatch), capsys)
    with_a_failure(first)
    for step in steps_of_a_rerun(first):
        (tmp_path / str(step)).mkdir()
        desk = Desk(tmp_path / str(step), install(monkeypatch), capsys)
        with_a_failure(desk)
        desk.slurm.fault = (len(desk.slurm.calls) + step, kind, when)
        with suppress(Killed):
            code, output = desk("rerun", "--failed")
            assert (code, kind) == (4, "silent"), output
        desk.slurm.fault = None
        assert set(desk.held_by().values()) <= {1}, f"doubled when it died at call {step}"
        for _ in range(2):
            code, output = desk("rerun", "--failed")
            assert code == 0, output
        check_all_is_there(desk)


@contextmanager
def disk_full_at(number: int) -> Iterator[list[int]]:
    """The write of that number, and all after it, find no room."""
    count = [0]
    patch = pytest.MonkeyPatch()

    def limited(write: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            count[0] += 1
            if number and count[0] >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(*arguments, **options)

        return call

    patch.setattr(Journal, "append", limited(Journal.append))
    patch.setattr(slurm, "write_text", limited(slurm.write_text))
    try:
        yield count
    finally:
        patch.undo()


def test_a_rerun_on_a_full_disk_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, step = 1, 0
    while step <= steps:
        (tmp_path / str(step)).mkdir()
        desk = Desk(tmp_path / str(step), install(monkeypatch), capsys)
        with_a_failure(desk)
        with disk_full_at(step) as writes:
            code, output = desk("rerun", "--failed")
        if step:
            assert code == 1
            assert "no room to write" in output
            assert "Traceback" not in output
            assert desk("rerun", "--failed")[0] == 0
        else:
            steps = writes[0]
        check_all_is_there(desk)
        step += 1


def test_a_finished_shard_keeps_its_result_while_it_is_made_anew_and_others_wait_for_it(desk: Desk) -> None:
    assert desk.submit("--until", "pairs")[0] == 0
    for stage in ("questions", "personas", "models", "responses"):
        desk.finish(stage)
    marker = marker_path(desk.run.folder("responses"), "1")
    before = marker.read_text()
    rankings = {desk.job("rankings", shard) for shard in "01"}
    code, output = desk("rerun", "responses", "1")
    assert code == 0, output
    assert "it is made anew when they have ended" in output
    assert marker.read_text() == before
    again = desk.slurm.arrays[array_of(desk.job("responses", "1"))]
    assert again.options["dependency"].startswith("afterany:")
    assert {array_of(job) for job in rankings} <= set(again.options["dependency"].partition(":")[2].split(":"))
    assert rankings <= set(desk.slurm.alive()), "what waited for the old result still gets it"
    tasks = json.loads((Path(read_journal(desk.run).submissions[-1].folder) / "tasks.json").read_text())
    assert tasks["again"] == ["1"]


def test_a_stranger_with_the_number_of_a_job_is_known_by_its_comment(desk: Desk) -> None:
    assert desk.submit("--until", "questions")[0] == 0
    job = desk.job("questions", "all")
    desk.slurm.arrays[job].options["comment"] = "modpo:somebody-else:questions:x"
    assert take_snapshot(desk.run).shards["questions"]["all"].state == "unknown"
    desk("cancel")
    assert desk.slurm.arrays[job].states == {"": "PENDING"}


def test_a_limit_on_submitted_jobs_is_called_so_and_what_can_never_run_makes_room(desk: Desk) -> None:
    with_a_failure(desk)
    desk.slurm.limit = len(EXPECTED)  # the jobs that wait in vain fill it, with the stranger's
    code, output = desk("rerun", "--failed")
    assert code == 3
    assert "AssocMaxSubmitJobLimit" in output
    assert "account of yours" not in output
    assert "modpo tend" in output
    held = desk.held_by()
    assert held[("responses", "1")] == 1
    assert held[("rankings", "0")] == held[("rankings", "1")] == 1
    assert len(desk.slurm.alive()) <= len(EXPECTED)
    desk.slurm.limit = 100
    assert desk("rerun", "--failed")[0] == 0
    check_all_is_there(desk)


def test_an_array_larger_than_the_limit_is_halved_until_it_fits(desk: Desk) -> None:
    desk.slurm.limit = 5
    code, output = desk.submit("--until", "responses")
    assert code == 3, output
    assert sorted(desk.held_by()) == [
        ("models", "base"),
        ("models", "reward"),
        ("questions", "all"),
        ("responses", "0"),
        ("responses", "1"),
    ]
    desk.finish("questions")
    assert desk.submit("--until", "responses")[0] == 0
    assert sorted(shard for stage, shard in desk.held_by() if stage == "responses") == ["0", "1", "2"]
    assert set(desk.held_by().values()) == {1}


def test_a_garbage_line_in_the_journal_is_named_and_nothing_is_changed(desk: Desk) -> None:
    with_a_failure(desk)
    path = desk.root / "slurm" / "submissions.jsonl"
    path.write_text(path.read_text() + "garbage\n")
    before = path.read_text()
    for words in (("status",), ("rerun", "--failed"), ("cancel",)):
        code, output = desk(*words)
        assert code == 2
        assert "submissions.jsonl" in output
        assert "line" in output
    assert path.read_text() == before


def test_status_and_watch_outlive_a_controller_that_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status tells what markers and attempts know; watching goes on until the controller is back."""
    assert desk.submit("--until", "questions")[0] == 0
    desk.slurm.fault = (len(desk.slurm.calls) + 1, "silent", "before")
    code, output = desk("status")
    assert code == 4
    assert "From the markers alone" in output
    looks: list[int] = []

    def pause(_: float) -> None:
        looks.append(1)
        if len(looks) == 2:
            desk.slurm.fault = None
        if len(looks) == 3:
            desk.finish("questions")

    monkeypatch.setattr("modpo_hpc.cli.status.time.sleep", pause)
    code, output = desk("status", "--watch")
    assert code == 3
    assert len(looks) == 3


def test_submit_waits_for_a_controller_that_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was away for 75 s: longer than any single call is patient."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if sum(pauses) > 75:
            desk.slurm.fault = None

    monkeypatch.setattr(commands, "WAIT_SECONDS", 300.0)
    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=pause))
    desk.slurm.fault = (1, "away", "before")
    code, output = desk.submit("--until", "questions")
    assert code == 0, output
    assert "asked again" in output
    assert sum(pauses) < 100


def test_tasks_that_were_withdrawn_or_that_another_job_makes_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(task, "STOPS", ())
    made: list[str] = []

    def make_shard(*words: str) -> int:
        made.append(words[2])
        return 0

    monkeypatch.setattr(task, "make_shard", make_shard)
    (tmp_path / "tasks.json").write_text(json.dumps({"run": "r", "stage": "s", "tasks": [["0"]], "again": []}))
    assert task.main(tmp_path) == 0
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert task.main(tmp_path) == 0
    (tmp_path / "job").unlink()
    (tmp_path / "withdrawn").touch()
    assert task.main(tmp_path) == 0
    assert made == ["0"]
