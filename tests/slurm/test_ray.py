"""A Ray cluster inside an allocation: two on the same nodes keep apart, and nothing is left of one that ended."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from modpo_hpc.launch.attempts import attempts_at
from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.judging.worlds import world
from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slow
COUNT = """\
import sys, time, ray
ray.init(log_to_driver=False)
print("nodes", len([node for node in ray.nodes() if node["Alive"]]), "cpus", ray.cluster_resources()["CPU"], flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


def submit(cluster: Cluster, output: Path, *words: str, environment: str = "ALL") -> str:
    size = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--mem=3000", "--time=10")
    script = str(REPOSITORY / "slurm" / "ray.sh")
    return cluster.slurm(
        "sbatch", "--parsable", f"--export={environment}", *size, "-o", str(output), script, *words
    ).strip()


def left_of(cluster: Cluster, job: str) -> list[str]:
    """Processes of a job's Ray cluster on this test bed, and its scratch folders."""
    mine = {f"SLURM_JOB_ID={job}", f"SLURM_CONF={cluster.bed.conf}"}
    processes = [path.name for path in Path("/proc").glob("[0-9]*") if mine <= set(environment_of(int(path.name)))]
    return [*processes, *map(str, Path("/tmp").glob(f"ray{job}.*"))]


def test_two_clusters_keep_apart_and_leave_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_OBJECT_STORE_MB", "100")
    program = cluster.folder / "count.py"
    program.write_text(COUNT)
    outputs = [cluster.folder / "one.out", cluster.folder / "two.out"]
    failing = submit(cluster, outputs[0], "python", str(program), "1", "7")
    monkeypatch.setenv("MODPO_PYTHON", str(python_that_finds(70000, cluster.folder)))
    cancelled = submit(cluster, outputs[1], "python", str(program), "86400", "0")
    for output in outputs:
        cluster.wait(lambda: output.exists() and "nodes 2 cpus 4.0" in output.read_text())  # noqa: B023
    assert (cluster.folder / "asked").exists()
    cluster.slurm("scancel", cancelled)
    cluster.wait_until_empty()
    assert "7:0" in cluster.slurm("sacct", "-nX", "-j", failing, "-o", "exitcode")
    for job in (failing, cancelled):
        cluster.wait_for_slurm(lambda: not left_of(cluster, job))  # noqa: B023


def python_that_finds(port: int, folder: Path) -> Path:
    """An interpreter whose first look for a free port ends at ``port``, on which nothing can start."""
    script = folder / "python-with-a-port"
    script.write_text(
        f'#!/bin/sh\n[ "$1" != - ] || [ -e {folder}/asked ] || {{ touch {folder}/asked; exec echo {port}; }}\n'
        'exec python "$@"\n'
    )
    script.chmod(0o700)
    return script


def process_of(cluster: Cluster, job: str, pattern: str) -> int:
    """The first process of a job on this test bed whose command line has ``pattern``."""
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False).stdout.split()
    mine = {f"SLURM_JOB_ID={job}", f"SLURM_CONF={cluster.bed.conf}"}
    return min(process for process in map(int, found) if mine <= set(environment_of(process)))


def environment_of(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


def test_judging_over_two_nodes_outlives_a_dead_head_a_preemption_and_a_killed_script(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three shards, two at once on the same nodes. The endpoint is the test's own, and slow enough to be in time."""
    pytest.importorskip("ray")
    monkeypatch.delenv("MODPO_JOBS")  # the real recipes
    with counting_server(tmp_path, latency=2.5) as (url, calls):
        run = world(
            cluster.folder / "judged", kind="openai", model="m", base_url=url, max_tokens=32, executor="ray", actors=2
        )
        cluster.study, cluster.run_dir = run.root / "study.yaml", run.root
        cluster.profile(
            {
                "partition": "cpu",
                "environment": {"RAY_OBJECT_STORE_MB": "100"},
                "stages": {"verdicts": {"nodes": 2, "cpus": 2, "memory_gb": 3, "minutes": 10, "throttle": 2}},
            }
        )
        beheaded, preempted, killed = run.shard_ids("verdicts")
        cluster.submit("--only", "verdicts")
        jobs = {shard: one["job"] for shard, one in cluster.shards("verdicts").items()}

        def raw(shard: str) -> str:
            return cluster.slurm("squeue", "-h", "-j", jobs[shard], "-o", "%A").strip()

        def judges(shard: str) -> bool:
            return (run.folder("verdicts") / ".work" / shard / "progress.json").exists()

        cluster.wait(lambda: judges(beheaded) and judges(preempted))
        # as Slurm sends it before a preemption or the time limit: to the script alone, which passes it on
        cluster.slurm("scancel", "--batch", "--signal=USR2", jobs[preempted])
        first = raw(beheaded)
        assert "NumNodes=2" in cluster.slurm("scontrol", "show", "job", jobs[beheaded])
        os.kill(process_of(cluster, first, "gcs_server"), signal.SIGKILL)
        cluster.wait(lambda: cluster.shards("verdicts")[beheaded]["state"] == "failed")
        assert "the head of Ray has died" in cluster("triage", run.root)[1]

        cluster.wait(lambda: judges(killed))
        third = raw(killed)
        os.kill(process_of(cluster, third, "slurm/ray.sh .*launch.task"), signal.SIGKILL)
        cluster.wait(lambda: cluster.shards("verdicts")[killed]["state"] == "failed")
        cluster.wait(lambda: cluster.shards("verdicts")[preempted]["state"] == "done")
        stopped, resumed = attempts_at(run.logs, "verdicts", preempted)
        assert (stopped.outcome, stopped.cause, resumed.outcome) == ("interrupted", "preemption", "done")
        cluster.wait_until_empty()
        for job in (first, third):
            cluster.wait_for_slurm(lambda: not left_of(cluster, job))  # noqa: B023

        asked = len(calls.read_text().splitlines())
        code, output = cluster("rerun", run.root, "--failed")
        assert code == 0, output
        cluster.wait(lambda: cluster.status()["verdicts"]["done"] == 3)
        assert asked < len(calls.read_text().splitlines()) < 3 * 60 + asked, "what was answered is not asked again"
        assert run.table("verdicts").num_rows == 3 * 2 * 60
