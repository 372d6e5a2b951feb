"""Clusters that are set up otherwise: no accounts, accounts demanded, memory limits by the kernel."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.conftest import Cluster, clustered, start_bed, stop_bed

STAGES = ("questions", "models", "responses")


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    """Another cluster, without a database, that has seen no job yet."""
    bed = start_bed("b", cluster="elsewhere", accounting=False, min_job_age=5)
    yield bed
    stop_bed(bed)


@pytest.fixture
def forgetful(
    elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cluster]:
    yield from clustered(elsewhere, tmp_path, monkeypatch, capsys)


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cluster]:
    """A cluster that demands an account, of which this user has none."""
    bed = start_bed("d", enforce_accounts=True)
    subprocess.run(["sacctmgr", "-i", "delete", "user", getpass.getuser()], env=bed.environment, check=False)
    yield from clustered(bed, tmp_path, monkeypatch, capsys)
    stop_bed(bed)


@pytest.fixture
def with_cgroups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cluster]:
    if os.getuid() or not os.access("/sys/fs/cgroup/memory", os.W_OK):
        pytest.skip("needs root and cgroup v1 (/sys/fs/cgroup/memory)")
    bed = start_bed("c", cgroups=True)
    yield from clustered(bed, tmp_path, monkeypatch, capsys)
    stop_bed(bed)


@pytest.mark.slow
def test_without_sacct_the_truth_is_told_even_when_squeue_has_forgotten(forgetful: Cluster) -> None:
    forgetful.fate("responses", "1", "raise")
    forgetful.fate("responses", "2", "kill")
    forgetful.submit("--until", "responses", "--set", "shards.responses=3")
    forgetful.wait_until_idle()
    jobs = {one["job"] for one in forgetful.shards("responses").values()}
    forgetful.wait_for_slurm(
        lambda: not any(job in forgetful.slurm("squeue", "-h", "-r", "-t", "all", "-o", "%i") for job in jobs)
    )
    forgetful.wait_until_still()
    assert forgetful.status()["responses"]["failed"] == 2
    assert forgetful.triage() == {"code": [["responses", "1"]], "killed": [["responses", "2"]]}
    assert "No sacct here" in forgetful("status", forgetful.run_dir)[1]
    forgetful.mercy()
    assert forgetful("rerun", forgetful.run_dir, "--failed")[0] == 0
    forgetful.wait(lambda: forgetful.status()["responses"]["done"] == 3)


def test_on_another_cluster_strangers_jobs_of_the_same_numbers_are_left_alone(
    cluster: Cluster, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = "shards.responses=2"
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "responses", "--set", two)
    cluster.wait(lambda: cluster.status()["questions"]["running"] == 1)
    mine = {one["job"].partition("_")[0] for stage in STAGES for one in cluster.shards(stage).values()}
    assert len(mine) == len(STAGES)

    def check_nothing_is_known() -> None:
        code, output = cluster("status", cluster.run_dir, "--json")
        rows = {row["stage"]: row for row in json.loads(output)["stages"]}
        assert code == 4
        assert [(rows[one]["unknown"], rows[one]["failed"]) for one in STAGES] == [(1, 0), (2, 0), (2, 0)]

    stranger = ("--mem=100", "--output=/dev/null", "--wrap=sleep infinity")
    with monkeypatch.context() as there:
        there.setenv("SLURM_CONF", str(elsewhere.conf))
        elsewhere.conf.write_text(f"{elsewhere.conf.read_text()}FirstJobId={min(map(int, mine))}\n")
        elsewhere._end("slurmctld")
        elsewhere._spawn("slurmctld", "-D", "-f", str(elsewhere.conf))
        cluster.wait_for_slurm(lambda: "UP" in cluster.slurm("scontrol", "ping"))
        strangers = sorted(cluster.slurm("sbatch", "--parsable", *stranger).strip() for _ in mine)
        assert strangers == sorted(mine)
        check_nothing_is_known()
        code, output = cluster("cancel", cluster.run_dir)
        assert code == 0, output
        assert "left alone" in output
        assert "nothing to rerun" in cluster("rerun", cluster.run_dir, "--failed")[1]
        cluster.submit("--until", "responses", "--set", two)
        assert sorted(cluster.slurm("squeue", "-h", "-o", "%i").split()) == strangers
        there.setenv("PATH", "/nonexistent")
        check_nothing_is_known()
    assert cluster.status()["questions"]["running"] == 1, "nothing of it was lost"
    cluster.mercy()
    cluster.submit("--until", "responses", "--set", two)
    cluster.wait(lambda: cluster.status()["responses"]["done"] == 2)


def test_with_cgroups_a_shard_over_its_memory_is_called_so(with_cgroups: Cluster) -> None:
    with_cgroups.fate("responses", "0", "memory")
    with_cgroups.submit("--until", "responses", "--set", "shards.responses=1")
    with_cgroups.wait_until_idle()
    with_cgroups.wait_until_still()
    assert with_cgroups.triage() == {"oom": [["responses", "0"]]}
    steps = with_cgroups.slurm("sacct", "-n", "-o", "state%20", "-j", with_cgroups.shards("responses")["0"]["job"])
    assert "OUT_OF_ME" in steps


@pytest.mark.slow
def test_accounts_and_limits_are_named_for_what_they_are_and_what_can_never_run_makes_room(
    strict: Cluster,
) -> None:
    for account in (None, "nobody"):
        strict.profile({"partition": "cpu", **({"account": account} if account else {})})
        output = strict.submit(expect=2)
        for words in ("refuses the jobs of stage questions", "'account'", "profile", "sacctmgr show associations"):
            assert words in output
        assert ("nobody" in output) == bool(account)
    assert not strict.slurm("squeue", "-h").strip()
    assert not strict.run_dir.exists()
    strict.slurm("sacctmgr", "-i", "add", "account", "lab")
    strict.slurm("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=lab")
    strict.profile({"partition": "cpu", "account": "lab"})
    limit(strict, "MaxJobs", 0)
    strict.submit("--until", "questions")
    strict.wait(lambda: "AssocMaxJobsLimit: a limit of your account or qos" in told(strict, "status"))
    limit(strict, "MaxJobs", -1)
    strict.wait(lambda: strict.status()["questions"]["done"] == 1)

    strict.fate("responses", "1", "raise")
    strict.submit("--until", "pairs")
    strict.wait(lambda: strict.status()["pairs"]["blocked"])
    strict.wait(lambda: strict.status()["rankings"]["blocked"])
    strict.wait_until_still()
    in_vain = strict.slurm("squeue", "-h", "-r", "-o", "%i").split()
    limit(strict, "MaxSubmitJobs", len(in_vain))
    code, output = strict("rerun", strict.run_dir, "--failed")
    assert code == 3, output
    assert "AssocMaxSubmitJobLimit" in output
    assert "account of yours" not in output
    assert "modpo tend" in output
    queued = strict.slurm("squeue", "-h", "-r", "-o", "%i").split()
    assert not set(queued) & set(in_vain), "what would never run made room"
    strict.mercy()
    strict.wait(lambda: strict.status()["rankings"]["done"] == 2)
    strict.wait(lambda: strict("tend", strict.run_dir, "--once")[0] == 0)
    assert strict.status()["pairs"]["done"] == strict.status()["pairs"]["total"]


def limit(cluster: Cluster, name: str, count: int) -> None:
    """What the user may have, as soon as the controller knows of it; -1 takes the limit away."""
    me = getpass.getuser()
    cluster.slurm("sacctmgr", "-i", "modify", "user", me, "where", "account=lab", "set", f"{name}={count}")
    known = re.compile(rf"\bUserName={me}\(.*\b{name}={'' if count < 0 else count}(?![0-9])", re.DOTALL)
    cluster.wait_for_slurm(
        lambda: known.search(cluster.slurm("scontrol", "show", "assoc_mgr", "flags=assoc", f"users={me}"))
    )


def told(cluster: Cluster, command: str) -> str:
    return " ".join(cluster(command, cluster.run_dir)[1].split())
