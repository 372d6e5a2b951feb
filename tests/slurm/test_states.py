"""Each way in which a shard can end, on a real Slurm: its name in status and triage, and how a rerun mends it."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from tests.slurm.conftest import Cluster
from tests.waiting import PATIENCE

FATES = {"1": "raise", "2": "bad-input", "3": "memory", "4": "kill", "5": "deaf", "6": "deaf", "7": "disk"}


def test_every_failure_has_its_name_and_a_rerun_mends_the_graph(cluster: Cluster) -> None:
    for shard, fate in FATES.items():
        cluster.fate("responses", shard, fate)
    cluster.submit("--until", "rankings")
    jobs = {shard: one["job"] for shard, one in cluster.shards("responses").items()}
    cluster.wait(lambda: all(cluster.shards("responses")[shard]["slurm"] == "RUNNING" for shard in "56"))
    raw = cluster.slurm("squeue", "-h", "-j", jobs["5"], "-o", "%A").strip()
    cluster.slurm("scontrol", "update", f"JobId={raw}", "EndTime=now+1")
    cluster.slurm("scancel", jobs["6"])
    cluster.wait(lambda: cluster.status()["responses"]["failed"] == 7)

    cluster.wait_until_still()
    words = {shard: one["slurm"] for shard, one in cluster.shards("responses").items()}
    assert words["0"] == "COMPLETED"
    assert words["5"] == "TIMEOUT"
    assert words["6"] == "CANCELLED"
    assert {words[shard] for shard in "12347"} == {"FAILED"}
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    assert cluster.triage() == {
        "code": [["responses", "1"]],
        "input": [["responses", "2"]],
        "oom": [["responses", "3"]],
        "killed": [["responses", "4"]],
        "time": [["responses", "5"]],
        "cancelled": [["responses", "6"]],
        "disk": [["responses", "7"]],
    }
    assert not list((cluster.run_dir / "responses").glob("half.txt"))
    follow = [sys.executable, "-m", "modpo_hpc", "logs", str(cluster.run_dir), "responses", "4", "-f"]
    assert subprocess.run(follow, timeout=PATIENCE, check=False).returncode == 0, "it was killed: no more is to come"

    cluster.mercy()
    code, output = cluster("rerun", cluster.run_dir, "--class", "oom", "--mem", "x1.5")
    assert code == 0, output
    again = cluster.shards("responses")["3"]["job"]
    assert "MinMemoryNode=614M" in cluster.slurm("scontrol", "show", "job", again)
    assert [line.split()[0] for line in output.splitlines()] == ["responses"], "what lacks other shards too stays"
    assert cluster.status()["rankings"]["blocked"] == 2
    cluster.wait(lambda: cluster.shards("responses")["3"]["state"] == "done")
    code, output = cluster("rerun", cluster.run_dir, "--failed")
    assert code == 0, output
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    assert cluster.status()["responses"]["done"] == 8
    cluster.wait_until_empty()


def test_a_wait_for_a_run_that_has_ended_badly_ends_with_the_words_of_triage(cluster: Cluster) -> None:
    cluster.fate("questions", "all", "raise")
    cluster.submit("--until", "questions")
    with pytest.raises(AssertionError, match="met a wall"):
        cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)


def test_why_a_throttled_stage_waits_and_how_many_waves_are_left_is_said(cluster: Cluster) -> None:
    """Three of twelve shards at once, each on a whole node: two nodes are free at first, then three."""
    throttle, shards = 3, 12
    cluster.profile({"partition": "cpu", "cpus": 4, "limits": {"throttle": throttle}})
    others = "--nodes=2 --cpus-per-task=4 --ntasks-per-node=1 --mem=100 --output=/dev/null"
    hog = cluster.slurm("sbatch", "--parsable", *others.split(), "--wrap=sleep infinity").strip()
    cluster.wait_for_slurm(lambda: "RUNNING" in cluster.slurm("squeue", "-h", "-j", hog, "-o", "%T"))
    for shard in range(2, shards):
        cluster.fate("responses", str(shard), "hold")
    cluster.submit("--until", "responses", "--set", f"shards.responses={shards}")

    def says(*words: str) -> bool:
        told = " ".join(cluster("status", cluster.run_dir)[1].split())
        return all(one in told for one in words)

    cluster.wait(lambda: cluster.status()["responses"]["running"] == 2 and says("Resources: no node is free"))
    cluster.slurm("scontrol", "uhold", cluster.shards("responses")["11"]["job"])
    cluster.slurm("scancel", hog)
    cluster.wait(lambda: cluster.status()["responses"]["running"] == throttle)
    held = "1 wait (JobHeldUser: held: scontrol release JOB)"
    cluster.wait(lambda: says(held, "6 wait (JobArrayTaskLimit: the throttle of the profile"))
    row = cluster.status()["responses"]
    assert (row["done"], row["running"], row["queued"]) == (2, throttle, 7)
    markers = [cluster.run_dir / "responses" / "markers" / f"{shard}.json" for shard in "01"]
    shortest = min(json.loads(one.read_text())["seconds"] for one in markers)
    assert row["seconds_left"] >= math.ceil(7 / throttle) * shortest
