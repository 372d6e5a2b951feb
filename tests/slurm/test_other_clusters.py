"""Clusters that are set up otherwise: no accounts, accounts demanded, memory limits by the kernel."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster, clustered, start_bed, stop_bed


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cluster]:
    bed = start_bed("b", accounting=False, min_job_age=5)
    yield from clustered(bed, tmp_path, monkeypatch, capsys)
    stop_bed(bed)


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


def test_with_cgroups_a_shard_over_its_memory_is_called_so(with_cgroups: Cluster) -> None:
    with_cgroups.fate("responses", "0", "memory")
    with_cgroups.submit("--until", "responses", "--set", "shards.responses=1")
    with_cgroups.wait_until_idle()
    with_cgroups.wait_until_still()
    assert with_cgroups.triage() == {"oom": [["responses", "0"]]}
    steps = with_cgroups.slurm("sacct", "-n", "-o", "state%20", "-j", with_cgroups.shards("responses")["0"]["job"])
    assert "OUT_OF_ME" in steps


def test_an_account_that_the_cluster_demands_and_a_wrong_one_are_named_before_anything_is_queued(
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
    strict.submit("--until", "questions")
    strict.wait(lambda: strict.status()["questions"]["done"] == 1)
