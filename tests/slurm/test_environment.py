"""Jobs that fail before or beside their shards: what cannot begin, a run that was moved, a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run
from tests.conftest import REPOSITORY
from tests.slurm.conftest import Cluster
from tests.waiting import PATIENCE

ODD = "Übung mit Leerzeichen"
WRONG: tuple[tuple[str, dict[str, Any]], ...] = (
    ("cuda/99", {"modules": ["cuda/99"]}),
    ("/nowhere/env.sh", {"setup": ["source /nowhere/env.sh || exit 1"]}),
    ("/nowhere/python", {"python": "/nowhere/python"}),
)


def profile_file(cluster: Cluster, name: str, **fields: object) -> Path:
    path = cluster.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"partition": "cpu", "limits": {"signal_seconds": 30}, **fields}))
    return path


def test_a_job_that_cannot_begin_is_the_environments_fault_which_doctor_and_logs_show(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module, a line of set-up and a Python that are not there, then a run that was renamed while it was queued."""
    monkeypatch.setenv("COLUMNS", "80")
    cluster.run_dir = cluster.folder / ODD
    for number, (word, fields) in enumerate(WRONG):
        profile = profile_file(cluster, "wrong", **fields)
        typed: tuple[object, ...] = ("rerun", cluster.run_dir, "--failed")
        if not number:
            typed = ("submit", cluster.study, "--run", cluster.run_dir, "--until", "questions")
        code, output = cluster(*typed, "--profile", profile)
        assert code == 0, output
        cluster.wait_for_slurm(lambda: cluster.status()["questions"]["failed"])
        (found,) = json.loads(cluster("triage", cluster.run_dir, "--json")[1])["groups"]
        assert (found["class"], word in found["message"]) == ("environment", True), found
        assert word in cluster("logs", cluster.run_dir, "questions", "all")[1]
    assert "questions all: FAILED on n" in cluster("status", cluster.run_dir)[1]

    profile = profile_file(cluster, "wrong", **WRONG[0][1], **WRONG[1][1])
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "modpo_hpc", "doctor", "--profile", profile, "--folder", cluster.run_dir]
    looked = subprocess.run(words, env={**os.environ, **poor}, capture_output=True, timeout=PATIENCE, check=False)
    assert looked.returncode == 1, looked
    assert b"Traceback" not in looked.stderr
    for word, _ in WRONG[:2]:
        assert word.encode() in looked.stdout

    profile = profile_file(cluster, "gpu", environment={"CUDA_VISIBLE_DEVICES": ""})
    code, output = cluster("doctor", "--gpu", cluster.study, "--profile", profile, "--write", "--json")
    found = {one["name"]: one for one in json.loads(output.strip().splitlines()[-1])}
    assert code == 1
    assert "none is seen: torch" in found["in a job: GPU"]["message"], found
    assert found["profile"]["verdict"] == "note"
    assert "training_tokens" not in profile.read_text()

    profile = profile_file(cluster, "held", sbatch={"hold": True})
    assert cluster("rerun", cluster.run_dir, "--failed", "--profile", profile)[0] == 0
    held = cluster.shards("questions")["all"]["job"]
    cluster.run_dir = cluster.run_dir.rename(cluster.folder / f"{ODD} 2")
    cluster.slurm("scontrol", "release", held)
    cluster.wait_for_slurm(lambda: cluster.status()["questions"]["failed"])
    (found,) = json.loads(cluster("triage", cluster.run_dir, "--json")[1])["groups"]
    assert found["class"] == "environment", found
    well = profile_file(cluster, "well")
    mended = subprocess.run(["bash", "-c", f"{found['command']} --profile '{well}'"], capture_output=True, check=False)
    assert mended.returncode == 0, mended
    cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root who may mount a tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room on ``disk``."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return ballast


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_makes_no_node_a_suspect_and_two_terminals_hand_in_once(
    small_disk: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk holds the run and its logs: it is full for a rerun of what failed, and later under two shards."""
    monkeypatch.setenv("MODPO_LOGS", str(small_disk / "logs"))
    cluster.run_dir = small_disk / "study"
    for shard in "12":
        cluster.fate("responses", shard, "raise")
    cluster.submit("--until", "rankings", "--set", "shards.responses=3")
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    cluster.wait_until_still()

    def queue() -> list[str]:
        return sorted(cluster.slurm("squeue", "-h", "-r", "-o", "%i").split())

    before = queue()
    assert len(before) == 2
    code, output = cluster("rerun", cluster.run_dir, "--failed", "--dry-run")
    assert (code, output.count("#!/bin/bash"), "then out of the queue" in output) == (0, 2, True), output
    assert queue() == before
    ballast = fill(small_disk)
    code, output = cluster("rerun", cluster.run_dir, "--failed")
    assert code == 1
    assert "no room to write" in output
    assert "Traceback" not in output
    assert queue() == before
    ballast.unlink()

    for shard in "12":
        cluster.fate("responses", shard, "hold")
    words = [sys.executable, "-m", "modpo_hpc", "rerun", str(cluster.run_dir), "--failed"]
    terminals = [subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = [one.communicate(timeout=PATIENCE)[0] for one in terminals]
    assert 0 in [one.returncode for one in terminals], outputs
    assert len(queue()) == 4, "two of responses and two of rankings"
    assert not set(before) & set(queue())
    handed_in = [(one.stage, one.shards) for one in read_journal(Run.open(cluster.run_dir)).submissions]
    assert handed_in.count(("responses", ("1", "2"))) == 1
    assert handed_in.count(("rankings", ("0", "1"))) == 2, "at first, and by one of the terminals"

    beats = [cluster.run_dir / "responses" / ".work" / shard / "rows.jsonl" for shard in "12"]
    cluster.wait(lambda: all(one.exists() and one.stat().st_size for one in beats))
    ballast = fill(small_disk)
    cluster.mercy()
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    cluster.wait_until_still()
    ballast.unlink()
    found = json.loads(cluster("triage", cluster.run_dir, "--json")[1])
    shards = [["responses", "1"], ["responses", "2"]]
    assert [(one["class"], one["shards"]) for one in found["groups"]] == [("disk", shards)]
    assert found["suspects"] == []
    assert cluster("rerun", cluster.run_dir, "--class", "disk")[0] == 0
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
