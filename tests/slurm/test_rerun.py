"""Reruns on a real Slurm: one class at a time, what is stale, away from a bad node; and what a cluster refuses."""

from __future__ import annotations

import json
import subprocess
import sys

from modpo_hpc.core.markers import marker_path
from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run
from tests.conftest import REPOSITORY
from tests.slurm.conftest import Cluster


def job_of(cluster: Cluster, stage: str, shard: str) -> str:
    """What Slurm knows of the job that holds a shard now."""
    return cluster.slurm("scontrol", "show", "job", cluster.shards(stage)[shard]["job"])


def test_a_node_that_fails_every_shard_is_named_and_kept_away_from(cluster: Cluster) -> None:
    """The node fails fast, so it draws one shard after the other while the good ones work."""
    for shard in "01234567":
        cluster.fate("responses", shard, "raise-twice-on n2")
    cluster.profile({"partition": "cpu", "cpus": 4})
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    cluster.wait_until_still()
    failed = {shard: one for shard, one in cluster.shards("responses").items() if one["state"] == "failed"}
    assert len(failed) >= 2
    assert {one["node"] for one in failed.values()} == {"n2"}
    assert "n2" in cluster("triage", cluster.run_dir)[1]
    code, output = cluster("rerun", cluster.run_dir, "--failed", "--exclude-suspects")
    assert code == 0, output
    assert all("ExcNodeList=n2" in job_of(cluster, "responses", shard) for shard in failed)
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)


def test_what_waits_for_a_shard_that_was_mended_in_the_foreground_is_handed_in_again(cluster: Cluster) -> None:
    cluster.fate("responses", "1", "raise")
    cluster.submit("--until", "rankings", "--set", "shards.responses=2")
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    cluster.mercy()
    assert cluster("rerun", cluster.run_dir, "responses", "1", "--here")[0] == 0
    _, output = cluster("status", cluster.run_dir)
    assert "responses: done, although Slurm says FAILED" in output
    code, output = cluster("rerun", cluster.run_dir, "--failed")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["rankings", "taken"]
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    assert "nothing to rerun" in cluster("rerun", cluster.run_dir, "--failed")[1]


def test_what_is_stale_is_handed_in_again_in_its_order(cluster: Cluster) -> None:
    cluster.submit("--until", "responses", "--set", "shards.responses=2")
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 2)
    cluster.fate("questions", "all", "otherwise")
    assert cluster("rerun", cluster.run_dir, "questions", "all")[0] == 0
    cluster.wait(lambda: [cluster.status()[stage]["stale"] for stage in ("models", "responses")] == [2, 2])
    code, output = cluster("rerun", cluster.run_dir, "--stale")
    assert code == 0, output
    line = next(line for line in output.splitlines() if line.startswith("responses"))
    waits = line.partition("  after ")[2].split(", ")
    models = {one["job"].partition("_")[0] for one in cluster.shards("models").values()}
    assert models <= set(waits), "beside them perhaps a job that Slurm has not quite ended"
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 2)
    assert len([one for one in read_journal(Run.open(cluster.run_dir)).submissions if one.stage == "questions"]) == 2


def test_a_finished_shard_is_made_anew_once_while_what_reads_it_runs_and_what_it_asked_is_remembered(
    cluster: Cluster,
) -> None:
    """Two terminals ask for it at once."""
    for shard in "01":
        cluster.fate("rankings", shard, "hold")
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["running"] == 2)
    marker = marker_path(Run.open(cluster.run_dir).folder("responses"), "5")
    before, reading = marker.read_text(), [one["job"] for one in cluster.shards("rankings").values()]
    words = [sys.executable, "-m", "modpo_hpc", "rerun", str(cluster.run_dir), "responses", "5", "--mem", "x1.5"]
    terminals = [subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = [one.communicate()[0] for one in terminals]
    assert 0 in [one.returncode for one in terminals], outputs
    again = [one for one in read_journal(Run.open(cluster.run_dir)).submissions if one.shards == ("5",)]
    assert len(again) == 1, outputs
    assert marker.read_text() == before
    assert [one["job"] for one in cluster.shards("rankings").values()] == reading
    assert cluster.status()["rankings"]["running"] == 2
    assert "MinMemoryNode=614M" in cluster.slurm("scontrol", "show", "job", again[0].job)
    cluster.mercy()
    cluster.wait(lambda: marker.read_text() != before)
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    assert cluster("rerun", cluster.run_dir, "responses", "6")[0] == 0
    assert "MinMemoryNode=614M" in job_of(cluster, "responses", "6")


def test_a_rerun_or_a_submit_elsewhere_is_refused_and_the_queue_left_alone(cluster: Cluster) -> None:
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "responses")
    before = sorted(cluster.slurm("squeue", "-h", "-r", "-o", "%i").split())
    profile = cluster.folder / "other.yaml"
    profile.write_text("partition: gpuu\n")
    code, output = cluster("rerun", cluster.run_dir, "responses", "0", "--profile", profile)
    assert code == 2
    assert "is queued as job" in output
    code, output = cluster("rerun", cluster.run_dir, "personas", "all", "--profile", profile)
    assert code == 2
    assert "no such partition" in output
    other = cluster.submit("--set", "name=other", "--set", "seed=3", expect=2)
    assert "present study" in other
    assert f"modpo cancel {cluster.run_dir}" in other
    assert sorted(cluster.slurm("squeue", "-h", "-r", "-o", "%i").split()) == before


def test_doctor_looks_around_from_here_and_from_a_job(cluster: Cluster) -> None:
    code, output = cluster("doctor", "--profile", "testbed", "--folder", cluster.folder, "--json")
    found = {one["name"]: one for one in json.loads(output)}
    assert code == 0, output
    assert "cpu" in found["partitions"]["message"]
    assert found["partitions of the profile"]["message"] == "all of the profile are here"
    assert found["MaxArraySize"]["message"].startswith("1001")
    assert found["JobRequeue"]["message"] == "on"
    assert found["PreemptMode"]["message"] == "REQUEUE"
    assert found["sacct"]["verdict"] == "good"
    for where in ("", "in a job: "):
        assert found[f"{where}filesystem"]["verdict"] == "good"
        assert {f"{where}GPU", f"{where}internet", f"{where}model cache", f"{where}DeepSpeed"} <= found.keys()
    assert found["in a job: host"]["verdict"] == "good"

    wrong = cluster.folder / "wrong.yaml"
    wrong.write_text("partition: cpu\nstages: {policies: {partition: gpu}}\n")
    code, output = cluster("doctor", "--profile", wrong, "--folder", cluster.folder)
    assert code == 1
    assert "not here: gpu" in output
    assert "in a job" not in output
