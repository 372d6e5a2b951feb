"""``modpo tend``: what it mends by itself and how often, what it leaves to a person, and what it outlives."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from modpo_hpc.launch.attempts import slurm_log_of
from modpo_hpc.launch.batch_scripts import BEGINS
from modpo_hpc.launch.submissions import read_journal
from tests.launch.fake_slurm import install
from tests.launch.test_transactions import PROFILE, Desk, fail_with, with_a_failure

OUT_OF_MEMORY = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0. Out Of Memory"
ENDED_IN_TIME = "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-02T03:04:05 DUE TO TIME LIMIT ***"

PREEMPTED = "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-01-02T03:04:05 DUE TO PREEMPTION ***"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, install(monkeypatch), capsys)


def fail_again(desk: Desk, words: str) -> None:
    """The job of responses 1 ends badly, and Slurm's log says so."""
    job = desk.job("responses", "1")
    folder = next(Path(one.folder) for one in read_journal(desk.run).submissions if one.job == job.partition("_")[0])
    slurm_log_of(folder, job).write_text(words + "\n")
    desk.slurm.end(job, "FAILED")


@pytest.mark.parametrize(
    ("words", "field", "factor", "times"), [(OUT_OF_MEMORY, "memory_gb", 1.5, 4), (ENDED_IN_TIME, "minutes", 2, 3)]
)
def test_more_memory_or_time_until_the_bound_and_then_a_person(
    desk: Desk, words: str, field: str, factor: float, times: int
) -> None:
    with_a_failure(desk)
    asked = getattr(read_journal(desk.run).latest("responses")["1"][0], field)
    for number in range(1, times + 1):
        fail_again(desk, words)
        code, output = desk("tend", "--once")
        assert code == 3, output
        assert f"responses: 1 again ({'oom' if field == 'memory_gb' else 'time'})" in output
        given = getattr(read_journal(desk.run).latest("responses")["1"][0], field)
        assert given == pytest.approx(asked * factor**number, rel=0.01)
        assert set(desk.held_by().values()) == {1}
        assert ("rankings", "0") in desk.held_by()
    fail_again(desk, words)
    code, output = desk("tend", "--once")
    assert code == 1
    assert "needs you" in output
    assert "triage" in output


def test_more_time_ends_at_the_limit_of_the_partition_that_the_jobs_go_to(desk: Desk) -> None:
    desk.slurm.partitions = "cpu|infinite\ngpu|50:00\n"
    gpus = "gpu_partition: gpu\nstages: {responses: {gpus: 1, minutes: 40}}\n"
    (desk.folder / "profile.yaml").write_text(PROFILE + gpus)
    with_a_failure(desk)
    fail_again(desk, ENDED_IN_TIME)
    code, output = desk("tend", "--once")
    assert code == 3, output
    assert read_journal(desk.run).latest("responses")["1"][0].minutes == 50


def test_a_defect_of_the_code_and_what_a_person_cancelled_wait_for_a_person(desk: Desk) -> None:
    with_a_failure(desk)
    fail_with(desk, "responses", "1", "ValueError: shape")
    before = len(desk.slurm.arrays)
    assert desk("tend", "--once")[0] == 1
    desk("cancel", "rankings")
    assert desk("tend", "--once")[0] == 1
    desk("cancel")
    assert "nothing is asked for" in desk("tend", "--once")[1]
    assert len(desk.slurm.arrays) == before


def test_how_an_earlier_life_of_a_requeued_job_ended_is_not_why_it_failed(desk: Desk) -> None:
    with_a_failure(desk)
    fail_again(desk, f"{PREEMPTED}\n{BEGINS}: 1, on n2")
    fail_with(desk, "responses", "1", "ValueError: shape")
    assert json.loads(desk("triage", "--json")[1])["groups"][0]["class"] == "code"
    fail_again(desk, f"{BEGINS}: 0, on n2\n{PREEMPTED}")
    assert json.loads(desk("triage", "--json")[1])["groups"][0]["class"] == "preempted"


def test_a_job_that_a_node_could_not_start_is_released_until_the_bound_and_then_a_person(desk: Desk) -> None:
    assert desk.submit("--until", "questions")[0] == 0
    job = desk.job("questions", "all")
    for _ in range(3):
        desk.slurm.arrays[job].reasons[""] = "launch failed requeued held"
        assert "which a node could not start" in desk("tend", "--dry-run")[1]
        assert desk.slurm.arrays[job].reasons, "a dry run lets nothing go"
        assert "held after a failed start" in desk("status")[1]
        code, output = desk("tend", "--once")
        assert code == 3, output
        assert f"released: {job}" in output
        assert not desk.slurm.arrays[job].reasons
        assert desk("tend", "--once")[0] == 3
    desk.slurm.arrays[job].reasons[""] = "launch failed requeued held"
    code, output = desk("tend", "--once")
    assert code == 1
    assert "needs you" in output
    assert f"Held, since nodes could not start them: {job}" in output


def test_arrays_are_fed_under_a_limit_of_submitted_jobs(desk: Desk) -> None:
    """A limit of four jobs: rounds hand in the rest as jobs end, nothing twice, until all is done."""
    desk.slurm.limit = 4
    assert desk.submit("--until", "rankings")[0] == 3
    made: set[tuple[str, str]] = set()
    for _ in range(20):
        held = desk.held_by()
        assert set(held.values()) == {1}
        assert len(desk.slurm.alive()) <= 4
        for stage in ("questions", "personas", "models", "responses", "rankings"):
            for shard in [name for where, name in held if where == stage]:
                if all((need, one) in made for need in _needs(stage) for one in desk.run.shard_ids(need)):
                    desk.finish(stage, shard)
                    made.add((stage, shard))
        code, output = desk("tend", "--once")
        if code == 0:
            break
        assert code == 3, output
    assert code == 0
    assert "complete" in output
    assert "modpo results" in output
    assert len(made) == 1 + 1 + 2 + 3 + 2


def _needs(stage: str) -> tuple[str, ...]:
    from modpo_hpc.pipeline import stage_named

    return stage_named(stage).needs


def test_a_second_one_ends_at_once_and_an_outage_is_outlived(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.submit("--until", "questions")[0] == 0
    rounds: list[int] = []

    def pause(_: float, __: list[int]) -> bool:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            assert "another modpo tend" in desk("tend")[1]
            desk.slurm.fault = (len(desk.slurm.calls) + 1, "away", "before")
        if len(rounds) == 3:
            desk.slurm.fault = None
            desk.finish("questions")
        return False

    monkeypatch.setattr("modpo_hpc.cli.tend._pause", pause)
    code, output = desk("tend")
    assert code == 0, output
    assert len(rounds) == 3


def test_a_change_of_state_is_told_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mails = desk.folder / "mails"
    sendmail = desk.folder / "bin" / "sendmail"
    sendmail.parent.mkdir()
    sendmail.write_text(f"#!/bin/sh\ncat >> {mails}\n")
    sendmail.chmod(0o755)
    monkeypatch.setenv("PATH", str(sendmail.parent), prepend=":")
    monkeypatch.setenv("MODPO_WEBHOOK", f"http://127.0.0.1:{server.server_port}/secret")
    with_a_failure(desk)
    fail_with(desk, "responses", "1", "ValueError: shape")
    for _ in range(2):
        output = desk("tend", "--once", "--mail", "me@example.org")[1]
    server.shutdown()
    assert [one["state"] for one in told] == ["needs you"]
    assert "ValueError: shape" in told[0]["text"]
    assert mails.read_text().count("Subject: modpo run: needs you") == 1
    assert "secret" not in output


def test_as_a_job_it_is_handed_in_once(desk: Desk) -> None:
    assert desk.submit("--until", "questions")[0] == 0
    assert "tends" in desk("tend", "--slurm")[1]
    before = len(desk.slurm.arrays)
    assert "tends" in desk("tend", "--slurm")[1]
    assert len(desk.slurm.arrays) == before


def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    with_a_failure(desk)
    fail_again(desk, OUT_OF_MEMORY)
    before, journal = len(desk.slurm.arrays), (desk.root / "slurm" / "submissions.jsonl").read_bytes()
    code, output = desk("tend", "--dry-run")
    assert code == 0
    assert "responses: 1 again (oom)" in output
    assert len(desk.slurm.arrays) == before
    assert (desk.root / "slurm" / "submissions.jsonl").read_bytes() == journal
