"""Preemption, time limits and dead nodes: the shard saves its state, comes back, and resumes."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from modpo_hpc.launch.attempts import Attempt, attempts_at
from modpo_hpc.run import Run
from tests.slurm.conftest import Cluster
from tests.slurm.fates import STEPS


def attempts(cluster: Cluster, stage: str = "responses", shard: str = "0") -> list[Attempt]:
    return attempts_at(Run.open(cluster.run_dir).logs, stage, shard)


def wait_until_it_works(cluster: Cluster, shard: str = "0") -> None:
    beats = cluster.run_dir / "responses" / ".work" / shard / "rows.jsonl"
    cluster.wait(lambda: beats.exists() and beats.stat().st_size)


def check_whole(cluster: Cluster) -> None:
    rows = pq.read_table(cluster.run_dir / "responses" / "0.parquet").to_pylist()
    assert [row["step"] for row in rows] == list(range(STEPS))


@pytest.mark.parametrize("partition", ["spare", pytest.param("spot", marks=pytest.mark.slow)])
def test_a_preempted_shard_is_requeued_and_resumes(cluster: Cluster, partition: str) -> None:
    """``spare`` requeues what it preempts, ``spot`` cancels it; both give a grace time."""
    cluster.profile({"partition": partition})
    cluster.fate("responses", "0", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=1")
    wait_until_it_works(cluster)
    node = cluster.shards("responses")["0"]["node"]
    whole_node = f"--partition=cpu --nodelist={node} --cpus-per-task=4 --mem=100 --output=/dev/null --wrap=true"
    hog = cluster.slurm("sbatch", "--parsable", *whole_node.split()).strip()
    cluster.wait(lambda: len(attempts(cluster)) == 2)
    cluster.mercy()
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 1)
    first, second = attempts(cluster)
    assert (first.outcome, first.cause) == ("interrupted", "preemption")
    assert (second.outcome, second.restarts, second.job) == ("done", 1, first.job)
    check_whole(cluster)
    cluster.wait_for_slurm(lambda: "COMPLETED" in cluster.slurm("sacct", "-nX", "-j", hog, "-o", "state"))


def test_a_shard_at_its_time_limit_comes_back_a_bounded_number_of_times(cluster: Cluster) -> None:
    cluster.profile({"partition": "cpu", "limits": {"timeouts": 1}})
    cluster.fate("responses", "0", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=1")
    for number in (1, 2):
        cluster.wait(lambda: len(attempts(cluster)) == number)  # noqa: B023
        wait_until_it_works(cluster)
        cluster.slurm("scontrol", "update", f"JobId={attempts(cluster)[0].job}", "TimeLimit=1")
        cluster.wait(lambda: attempts(cluster)[number - 1].ended)  # noqa: B023
    cluster.wait(lambda: cluster.status()["responses"]["failed"] == 1)
    cluster.wait_until_still()
    first, second = attempts(cluster)
    assert (first.cause, second.cause) == ("timeout", "timeout, too often")
    assert cluster.triage() == {"time": [["responses", "0"]]}

    cluster.mercy()
    code, output = cluster("rerun", cluster.run_dir, "--class", "time", "--time", "x2", "--mem", "x1.5")
    assert code == 0, output
    job = cluster.shards("responses")["0"]["job"]
    shown = cluster.slurm("scontrol", "show", "job", job)
    assert "TimeLimit=01:00:00" in shown
    assert "MinMemoryNode=614M" in shown
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 1)
    check_whole(cluster)


def test_a_dead_node_is_named_and_kept_away_from(cluster: Cluster) -> None:
    cluster.profile({"partition": "cpu", "sbatch": {"nodelist": "n4", "requeue": False}})
    cluster.fate("responses", "0", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=1")
    wait_until_it_works(cluster)
    try:
        cluster.slurm("scontrol", "update", "NodeName=n4", "State=DOWN", "Reason=test")
        cluster.wait(lambda: cluster.shards("responses")["0"]["slurm"] == "NODE_FAIL")
        assert cluster.triage() == {"node": [["responses", "0"]]}
        cluster.profile({"partition": "cpu"})
        cluster.mercy()
        profile = cluster.folder / "profile.yaml"
        code, output = cluster("rerun", cluster.run_dir, "--failed", "--exclude-suspects", "--profile", profile)
        assert code == 0, output
        assert "ExcNodeList=n4" in cluster.slurm("scontrol", "show", "job", cluster.shards("responses")["0"]["job"])
    finally:
        cluster.slurm("scontrol", "update", "NodeName=n4", "State=IDLE")
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 1)
    check_whole(cluster)


def test_a_node_that_dies_under_a_requeueable_shard_costs_nothing_but_time(cluster: Cluster) -> None:
    cluster.profile({"partition": "cpu"})
    cluster.fate("responses", "0", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=1")
    wait_until_it_works(cluster)
    node = cluster.shards("responses")["0"]["node"]
    cluster.mercy()
    try:
        cluster.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        cluster.wait(lambda: cluster.status()["responses"]["done"] == 1)
    finally:
        cluster.slurm("scontrol", "update", f"NodeName={node}", "State=IDLE")
    check_whole(cluster)
