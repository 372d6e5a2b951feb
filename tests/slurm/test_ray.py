"""A Ray cluster inside an allocation: two on the same nodes keep apart, and nothing is left of one that ended."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.judging.worlds import world
from tests.slurm.conftest import Cluster

# never beside the whole studies of tests/spine, which take every core while Ray starts
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("whole study")]
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


def processes_of(job: str) -> str:
    return subprocess.run(["pgrep", "-f", f"/tmp/ray{job}/"], capture_output=True, text=True, check=False).stdout


def test_two_clusters_keep_apart_and_leave_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_OBJECT_STORE_MB", "100")
    program = cluster.folder / "count.py"
    program.write_text(COUNT)
    outputs = [cluster.folder / "one.out", cluster.folder / "two.out"]
    failing = submit(cluster, outputs[0], "python", str(program), "1", "7")
    cancelled = submit(cluster, outputs[1], "python", str(program), "300", "0")
    for output in outputs:
        cluster.wait(lambda: output.exists() and "nodes 2 cpus 4.0" in output.read_text(), seconds=180)  # noqa: B023
    cluster.slurm("scancel", cancelled)
    cluster.wait(lambda: not cluster.slurm("squeue", "-h").strip())
    assert "7:0" in cluster.slurm("sacct", "-nX", "-j", failing, "-o", "exitcode")
    for job in (failing, cancelled):
        cluster.wait(lambda: not processes_of(job), seconds=20)  # noqa: B023


def test_judging_on_two_nodes_and_one_failed_shard_again_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The endpoint is the test's own, which counts calls: those of the shard that went well are not made again."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_OBJECT_STORE_MB", "100")
    monkeypatch.delenv("MODPO_JOBS")  # the real recipes
    with counting_server(tmp_path, latency=0.02) as (url, calls):
        run = world(
            cluster.folder / "judged", kind="openai", model="m", base_url=url, max_tokens=32, executor="ray", actors=2
        )
        well, failing = run.shard_ids("verdicts")[:2]

        def judged(shard: str, environment: str = "ALL") -> str:
            command = ("python", str(REPOSITORY / "jobs" / "judge.py"), str(run.root), "--shard", shard)
            return submit(cluster, cluster.folder / f"{shard}.out", *command, environment=environment)

        def code_of(job: str) -> str:
            return cluster.slurm("sacct", "-nX", "-j", job, "-o", "exitcode").strip()

        jobs = [judged(well), judged(failing, "ALL,MODPO_JUDGE_MODEL=unknown")]
        cluster.wait(lambda: not cluster.slurm("squeue", "-h").strip(), seconds=180)
        assert [code_of(job) for job in jobs] == ["0:0", "2:0"], (cluster.folder / f"{failing}.out").read_text()
        assert "does not know this model" in (cluster.folder / f"{failing}.out").read_text()
        assert [*run.done("verdicts")] == [well]
        assert len(calls.read_text().splitlines()) == 60
        again = judged(failing)
        cluster.wait(lambda: not cluster.slurm("squeue", "-h").strip(), seconds=180)
        assert code_of(again) == "0:0"
        assert [*run.done("verdicts")] == [well, failing]
        assert len(calls.read_text().splitlines()) == 120
