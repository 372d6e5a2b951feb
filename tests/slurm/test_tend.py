"""A hostile run on a real Slurm: what modpo tend brings to its end with no other command typed; and shared jobs."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modpo_hpc.launch.attempts import attempts_at
from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run
from tests.conftest import REPOSITORY
from tests.slurm.conftest import Cluster, clustered, start_bed, stop_bed

pytestmark = pytest.mark.slow
LIMIT = 10


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cluster]:
    """A cluster that lets a user have ten jobs in the queue, and gives up a silent node and its jobs after a minute."""
    bed = start_bed("e", enforce_accounts=True)
    bed.conf.write_text(bed.conf.read_text().replace("SlurmdTimeout=300", "SlurmdTimeout=60"))
    subprocess.run(["scontrol", "reconfigure"], env=bed.environment, check=True)
    me = getpass.getuser()
    for words in (
        ("add", "account", "lab"),
        ("add", "user", me, "account=lab", "defaultaccount=lab"),
        ("modify", "user", me, "where", "account=lab", "set", f"maxsubmitjobs={LIMIT}"),
    ):
        subprocess.run(["sacctmgr", "-i", *words], env=bed.environment, check=False, capture_output=True)
    yield from clustered(bed, tmp_path, monkeypatch, capsys)
    stop_bed(bed)


def test_out_of_memory_a_lost_node_an_outage_a_limit_and_a_preemption_end_complete(narrow: Cluster) -> None:
    bed = narrow.bed
    narrow.fate("responses", "0", "memory")
    for shard in "1234567":
        narrow.fate("responses", shard, "hold")
    narrow.profile({"partition": "spare", "account": "lab", "cpus": 2, "limits": {"throttle": 8}})
    job = ("--hold", "--account=lab", "--partition=cpu", "--exclusive", "--nodes=2", "--output=/dev/null")
    urgent = narrow.slurm("sbatch", "--parsable", *job, "--wrap=sleep 3").strip()
    narrow.submit("--until", "rankings", "--set", "shards.responses=16", expect=3)
    assert len(narrow.slurm("squeue", "-h", "-r").splitlines()) <= LIMIT
    out = narrow.folder / "tend.out"
    log = open(out, "w")  # noqa: SIM115 - lives as long as the process
    words = [sys.executable, "-m", "modpo_hpc", "tend", str(narrow.run_dir), "--every", "2"]
    tend = narrow.tended_by = subprocess.Popen(words, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        narrow.wait(lambda: sum(one["state"] == "running" for one in narrow.shards("responses").values()) >= 5)
        narrow.slurm("scontrol", "release", urgent)
        narrow.wait(lambda: preempted(narrow) or "(preempted)" in out.read_text())
        bed._end("slurmctld")
        narrow.wait(lambda: "Slurm is away" in out.read_text())
        bed._spawn("slurmctld", "-D", "-f", str(bed.conf))
        narrow.wait(lambda: narrow.status()["responses"]["running"] >= 3)
        lost = next(one["node"] for one in narrow.shards("responses").values() if one["state"] == "running")
        bed._end(f"slurmd-{lost}")
        narrow.wait(lambda: "again (oom)" in out.read_text())
        for shard in "1234567":
            (narrow.fates / f"responses.{shard}").unlink()
        narrow.wait(lambda: tend.poll() is not None)
    finally:
        tend.kill()
        log.close()
    assert tend.returncode == 0, out.read_text()
    assert "complete" in out.read_text()
    done = {stage: one["done"] for stage, one in narrow.status().items()}
    assert (done["responses"], done["rankings"]) == (16, 2)


def preempted(cluster: Cluster) -> bool:
    """Whether a shard has gone back into the queue because of a more urgent job, by itself or by Slurm's doing."""
    if "1" in cluster.slurm("squeue", "-h", "-r", "-O", "RestartCnt").split():
        return True
    logs = Run.open(cluster.run_dir).logs
    found = (one for shard in cluster.shards("responses") for one in attempts_at(logs, "responses", shard))
    return any(one.cause == "preemption" for one in found)


@pytest.fixture
def fastidious(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cluster]:
    """A cluster whose nodes look at themselves before each job, and start none where they do not like what they see."""
    bed = start_bed("f")
    prolog = bed.folder / "etc" / "prolog"
    prolog.write_text(f"#!/bin/sh\n[ ! -e {bed.folder}/etc/unfit ]\n")
    prolog.chmod(0o755)
    bed.conf.write_text(bed.conf.read_text() + f"Prolog={prolog}\n")
    subprocess.run(["scontrol", "reconfigure"], env=bed.environment, check=True)
    yield from clustered(bed, tmp_path, monkeypatch, capsys)
    stop_bed(bed)


def test_a_job_that_a_node_could_not_start_is_let_go_to_another_node(fastidious: Cluster) -> None:
    unfit = fastidious.bed.folder / "etc" / "unfit"
    unfit.touch()
    fastidious.submit("--until", "questions")
    fastidious.wait(lambda: "requeued held" in fastidious.slurm("squeue", "-h", "-o", "%r"))
    fastidious.wait(lambda: "held after a" in fastidious("status", fastidious.run_dir)[1])
    fastidious.wait_until_still()
    assert "expected in" not in fastidious("status", fastidious.run_dir)[1], "nobody knows when"
    unfit.unlink()
    code, output = fastidious("tend", fastidious.run_dir, "--once")
    assert code == 3, output
    assert "which a node could not start" in output
    fastidious.wait(lambda: fastidious.status()["questions"]["done"] == 1)


def test_several_shards_share_a_job_and_one_that_dies_takes_no_other_with_it(cluster: Cluster) -> None:
    cluster.fate("responses", "1", "kill")
    cluster.profile({"partition": "cpu", "stages": {"responses": {"pack": 3}}})
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    found = cluster.shards("responses")
    assert {shard for shard, one in found.items() if one["state"] == "failed"} == {"1"}
    assert len({one["job"] for one in found.values()}) == 3
    assert cluster.triage() == {"killed": [["responses", "1"]]}
    cluster.mercy()
    assert cluster("rerun", cluster.run_dir, "--failed")[0] == 0
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    run = Run.open(cluster.run_dir)
    assert [len(attempts_at(run.logs, "responses", shard)) for shard in "012"] == [1, 2, 1]
    (first, *_) = (one for one in read_journal(run).submissions if one.stage == "responses")
    assert (first.pack, first.elements) == (3, 3)


def test_efficiency_asks_less_after_it_wrote_a_profile(cluster: Cluster) -> None:
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    written = cluster.folder / "measured.yaml"
    before = json.loads(cluster("efficiency", cluster.run_dir, "--json", "--write-profile", written)[1])
    first, cluster.run_dir = cluster.run_dir, cluster.folder / "again"
    (cluster.folder / "profile.yaml").write_text(written.read_text())
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    after = json.loads(cluster("efficiency", cluster.run_dir, "--json")[1])
    asked = [{row["stage"]: row["asked_gb"] for row in one["stages"]} for one in (before, after)]
    assert all(asked[1][stage] < asked[0][stage] for stage in asked[0])
    assert first != cluster.run_dir
    print(json.dumps({"gb_hours": [before["total"]["gb_hours"], after["total"]["gb_hours"]]}))
