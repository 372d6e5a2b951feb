"""Training over two nodes: a rank a node, stopped and resumed, a rank that dies, and a rerun that ends it well."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.launch.attempts import attempts_at
from modpo_hpc.run import Run
from modpo_hpc.training.checkpoint import latest_checkpoint
from tests.alignment.world import WORDS, started_run, study_of
from tests.slurm.conftest import Cluster
from tests.tiny_mistral import save_tiny_mistral

pytestmark = pytest.mark.slow
TRAINING = {
    "epochs": 60,
    "micro_batch_size": 2,
    "batch_size": 7,
    "checkpoint_seconds": 0,
    "deepspeed": "configs/deepspeed/zero2.json",
}


@pytest.fixture
def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("MODPO_JOBS")  # the real recipe
    model = save_tiny_mistral(cluster.folder / "model", words=WORDS)
    study: dict[str, Any] = study_of(model, cluster.folder / "posts.csv", TRAINING)
    study["alignment"]["policies"] = {name: study["alignment"]["policies"][name] for name in ("Base", "DPO")}
    run = started_run(cluster.folder / "trained", study)
    cluster.study, cluster.run_dir = run.root / "study.yaml", run.root
    cluster.profile(
        {
            "partition": "cpu",
            "environment": {"MODPO_COMPILE": "0", "OMP_NUM_THREADS": "1"},
            "stages": {"policies": {"nodes": 2, "memory_gb": 3, "minutes": 10}},
        }
    )
    return run


def process_of_rank(job: str, rank: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_text(errors="replace").split("\0")
            words = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        mine = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={rank}"} <= set(variables)
        if mine and "modpo_hpc.launch.task" in words and "slurmstepd" not in words:
            return int(folder.name)
    raise AssertionError(f"job {job} has no rank {rank}")


def step_of(run: Run) -> int:
    try:
        state = json.loads((run.folder("policies") / ".work" / "DPO" / "progress.json").read_text())
    except FileNotFoundError:
        return -1
    return int(state["done"]) if state["unit"] == "steps" else -1


def test_two_nodes_train_together_resume_together_and_end_together(cluster: Cluster, run: Run) -> None:
    cluster.submit("--only", "policies")
    job = cluster.shards("policies")["DPO"]["job"]
    cluster.wait(lambda: step_of(run) > 5)
    shown = cluster.slurm("scontrol", "show", "job", job)
    assert "NumNodes=2 NumCPUs=2 NumTasks=2" in shown
    cluster.slurm("scancel", "--signal=USR2", job)
    cluster.wait(lambda: len(attempts_at(run.logs, "policies", "DPO")) == 2)
    first = attempts_at(run.logs, "policies", "DPO")[0]
    assert (first.outcome, first.cause) == ("interrupted", "preemption")
    checkpoint = latest_checkpoint(run.folder("policies") / ".work" / "DPO" / "checkpoints")
    assert checkpoint is not None, "the first attempt left its state"
    assert json.loads((checkpoint / "state.json").read_text())["layout"]["processes"] == 2
    saved = int(checkpoint.name.partition("-")[2])

    cluster.wait(lambda: step_of(run) > saved)
    killed = time.time()
    os.kill(process_of_rank(job, 1), signal.SIGKILL)
    cluster.wait(lambda: cluster.shards("policies")["DPO"]["state"] == "failed")
    cluster.wait_until_still()
    assert cluster.triage() == {"killed": [["policies", "DPO"]]}
    assert attempts_at(run.logs, "policies", "DPO")[1].started < killed

    code, output = cluster("rerun", run.root, "--failed")
    assert code == 0, output
    cluster.wait(lambda: cluster.status()["policies"]["done"] == 1)
    summary = json.loads((run.folder("policies") / "DPO" / "summary.json").read_text())
    assert summary["steps"] == summary["steps_planned"]
    cluster.wait(lambda: cluster.shards("policies")["DPO"]["slurm"] == "COMPLETED")
