"""What is handed in, to what it is bound, and what is refused before anything is queued."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run
from tests.slurm.conftest import Cluster


def queue(cluster: Cluster) -> str:
    return cluster.slurm("squeue", "-h", "-r", "-o", "%i").strip()


def test_submitting_again_joins_what_is_queued_and_hands_in_the_rest(cluster: Cluster) -> None:
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "questions")
    first = cluster.shards("questions")["all"]["job"]
    output = cluster.submit("--until", "responses", "--json")
    assert cluster.shards("questions")["all"]["job"] == first
    assert '"questions"' not in output
    responses = cluster.shards("responses")
    assert {one["state"] for one in responses.values()} == {"queued"}
    for model in cluster.shards("models").values():
        assert f"afterok:{first}" in cluster.slurm("scontrol", "show", "job", model["job"])
    assert cluster.submit("--until", "responses", "--json").strip() == "[]"


def test_arrays_are_split_and_a_single_shard_has_a_plain_id(cluster: Cluster) -> None:
    cluster.profile({"partition": "cpu", "limits": {"array_size": 3, "throttle": 5}})
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=7")
    journal = read_journal(Run.open(cluster.run_dir))
    arrays = [one for one in journal.submissions if one.stage == "responses"]
    assert [len(one.shards) for one in arrays] == [2, 2, 3]
    assert [shard for one in arrays for shard in one.shards] == list("0123456")
    limits = [cluster.slurm("scontrol", "show", "job", one.job) for one in arrays]
    assert [next(part for part in text.split() if part.startswith("ArrayTaskThrottle")) for text in limits] == [
        "ArrayTaskThrottle=1",
        "ArrayTaskThrottle=2",
        "ArrayTaskThrottle=2",
    ]
    single = next(one for one in journal.submissions if one.stage == "questions")
    assert single.jobs() == {"all": single.job}
    assert cluster.shards("questions")["all"]["job"] == single.job


def test_a_job_does_not_inherit_the_interactive_job_that_it_is_submitted_from(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,mask_cpu:0x000001")
    monkeypatch.setenv("SLURM_CPU_BIND_TYPE", "mask_cpu:")
    monkeypatch.setenv("SLURM_NTASKS", "7")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    cluster.profile({"partition": "cpu", "cpus": 3, "setup": ["env > $MODPO_JOB_FOLDER/environment"]})
    cluster.submit("--until", "questions")
    cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)
    folder = Path(read_journal(Run.open(cluster.run_dir)).submissions[0].folder)
    seen = (folder / "environment").read_text()
    assert "SLURM_CPU_BIND" not in seen
    assert "SLURM_NTASKS=7" not in seen
    assert "SLURM_CPUS_PER_TASK=3" in seen
    assert "--cpus-per-task=3" in next(folder.glob("batch.sh")).read_text()
    assert os.environ["SLURM_NTASKS"] == "7"


def test_a_busy_controller_is_asked_again_and_nothing_is_queued_twice(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call never reaches it; the answer to the second is lost after Slurm has taken the job."""
    shim, real = cluster.folder / "bin", shutil.which("sbatch")
    shim.mkdir()
    sbatch = shim / "sbatch"
    sbatch.write_text(
        f"""#!/bin/bash
[ "$1" = --test-only ] && exec {real} "$@"
count=$(cat {shim}/count 2>/dev/null || echo 0); echo $((count + 1)) > {shim}/count
[ $count = 1 ] && {real} "$@" >/dev/null
[ $count -lt 2 ] && {{ echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1; }}
exec {real} "$@"
"""
    )
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{shim}:{os.environ['PATH']}")
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "questions")
    assert (shim / "count").read_text().strip() == "2"
    assert queue(cluster) == cluster.shards("questions")["all"]["job"]


def test_cancel_takes_out_a_shard_a_stage_or_all_and_submit_mends_it(cluster: Cluster) -> None:
    for shard in "01234567":
        cluster.fate("responses", shard, "hold")
    cluster.profile({"partition": "cpu", "limits": {"throttle": 3}})
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["responses"]["running"] == 3)
    code, output = cluster("cancel", cluster.run_dir, "responses", "0", "7")
    assert code == 0, output
    cluster.wait(lambda: cluster.status()["responses"]["cancelled"] == 2)
    assert cluster.status()["responses"]["failed"] == 0
    code, output = cluster("cancel", cluster.run_dir, "responses", "7")
    assert code == 2
    assert "no such shard in the queue" in output

    cluster("cancel", cluster.run_dir, "responses")
    cluster.wait(lambda: cluster.status()["responses"]["cancelled"] == 8)
    cluster.wait(lambda: cluster.status()["rankings"]["blocked"] == 2)
    cluster.mercy()
    cluster.submit("--until", "rankings")
    cluster.wait(lambda: cluster.status()["rankings"]["done"] == 2)
    cluster("cancel", cluster.run_dir)
    cluster.wait(lambda: queue(cluster) == "")


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"partition": "gpuu"}, ("no such partition", "gpuu", "spare", "questions")),
        ({"partition": "cpu", "memory_gb": 4000}, ("refuses", "memory", "sinfo")),
        ({"partition": "cpu", "gpus": 9}, ("refuses", "sinfo")),
        ({"partition": "short", "minutes": 600}, ("longer than", "minutes", "600", "10")),
        ({"partition": "cpu", "constraint": "h100"}, ("refuses", "constraint", "h100")),
        ({"partition": "cpu", "minuts": 5}, ("minuts", "not known", "minutes")),
        ({"partition": "cpu", "stages": {"responses": {"memory": 5}}}, ("stages.responses.memory", "memory_gb")),
        ({"partition": "cpu", "stages": {"answerz": {}}}, ("answerz", "no stage")),
        ({"partition": "cpu", "minutes": 2, "limits": {"signal_seconds": 90}}, ("minutes", "signal_seconds")),
        ({"partition": "cpu", "environment": {"OPENAI_API_KEY": "x"}}, ("OPENAI_API_KEY", "secret", "shell")),
    ],
)
def test_a_wrong_profile_is_refused_before_anything_is_queued(
    cluster: Cluster, profile: dict[str, object], said: tuple[str, ...]
) -> None:
    cluster.profile(profile)
    output = cluster.submit(expect=2)
    for words in said:
        assert words in output
    assert queue(cluster) == ""
    assert not cluster.run_dir.exists()


def test_a_study_is_handed_in_while_the_nodes_are_in_maintenance_and_waits_for_them(cluster: Cluster) -> None:
    cluster.slurm("scontrol", "update", "NodeName=n[1-4]", "State=drain", "Reason=cooling")
    try:
        cluster.profile({"partition": "cpu", "memory_gb": 4000})
        assert "No node has this much" in cluster.submit(expect=2)
        cluster.profile({"partition": "cpu"})
        assert "not up now (n1, n2, n3 and 1 more" in cluster.submit("--until", "questions")
        cluster.wait(lambda: "DRAINED" in cluster("status", cluster.run_dir)[1])
    finally:
        cluster.slurm("scontrol", "update", "NodeName=n[1-4]", "State=resume")
    cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)


def test_a_run_follows_another_study_only_when_nothing_of_the_present_one_is_queued(cluster: Cluster) -> None:
    cluster.fate("questions", "all", "hold")
    cluster.submit("--until", "questions")
    queued = queue(cluster)
    output = cluster.submit("--set", "seed=7", expect=2)
    assert "questions" in output
    assert f"modpo cancel {cluster.run_dir}" in output
    assert queue(cluster) == queued
    assert Run.open(cluster.run_dir).study.seed == 42
    cluster.mercy()
    cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)
    cluster.wait_until_empty()
    cluster.submit("--until", "questions", "--set", "seed=7")
    assert Run.open(cluster.run_dir).study.seed == 7
    cluster.wait(lambda: cluster.status()["questions"]["done"] == 1)


def test_a_stage_alone_needs_what_it_rests_on(cluster: Cluster) -> None:
    output = cluster.submit("--only", "rankings", expect=3)
    assert "rankings needs questions" in output
    assert queue(cluster) == ""


def test_dry_run_prints_every_header_and_hands_in_nothing(cluster: Cluster) -> None:
    output = cluster.submit("--dry-run", "--until", "rankings")
    assert output.count("#!/bin/bash") == 5
    assert "#SBATCH --array=0-7%8" in output
    assert "#SBATCH --dependency=" in output
    assert "wckey" not in output
    assert "teardown" not in output
    assert not cluster.run_dir.exists()


def test_logs_are_found_by_name_followed_and_filtered(cluster: Cluster) -> None:
    cluster.fate("responses", "0", "hold")
    cluster.submit("--until", "responses", "--set", "shards.responses=2")
    cluster.wait(lambda: cluster.shards("responses")["0"]["state"] == "running")
    cluster.wait(lambda: cluster("logs", cluster.run_dir, "responses", "0")[0] == 0)
    command = [sys.executable, "-m", "modpo_hpc", "logs", str(cluster.run_dir), "responses", "0", "1"]
    with subprocess.Popen([*command, "-f", "--grep", "done|40 of 40"], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        output = following.stdout.readline()
        assert output.startswith("[1]")
        cluster.mercy()
        output += following.stdout.read()
    assert following.returncode == 0
    assert cluster.status()["responses"]["done"] == 2
    job = cluster.shards("responses")["0"]["job"]
    line = next(line for line in output.splitlines() if line.startswith("[0]") and "40 of 40" in line)
    assert f"responses/0 job {job} | " in line
    assert "39 of 40" not in output
    latest = Run.open(cluster.run_dir).logs / "responses" / "0" / "latest"
    assert latest.resolve().name == "attempt_1.out"
    code, output = cluster("logs", cluster.run_dir, "responses", "0", "--attempt", "2")
    assert code == 3
    assert "no attempt 2" in output
