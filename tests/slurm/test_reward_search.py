"""Twelve trials of two criteria as one array, eight at once, two of them killed: the search comes out whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modpo_hpc.rewards.loading import load_trial_data
from modpo_hpc.rewards.trial import train_trial
from modpo_hpc.run import Run
from modpo_hpc.search import RunningTrial, best_complete
from modpo_hpc.training import TrainingContext
from tests.conftest import REPOSITORY
from tests.rewards.world import WORDS, make_world
from tests.slurm.conftest import Cluster

pytestmark = pytest.mark.slow
SEARCH = {
    "trials": 12,
    "startup": 6,
    "wave": 3,
    "learning_rate": [5e-4, 4e-3],
    "dropout": [0.0, 0.1],
    "batch_size": [8, 16],
    "max_length": [48, 64],
    "epochs": [1, 3],
}


def test_two_killed_trials_are_made_up_for(cluster: Cluster, tmp_path: Path) -> None:
    run = make_world(tmp_path / "run", {"search": SEARCH}, questions=40)
    (tmp_path / "shards").write_text("\n".join(run.shard_ids("reward_trials")))
    trial = f"{sys.executable} {REPOSITORY}/jobs/tune_reward.py {run.root} --shard"
    script = f"{trial} $(sed -n $((SLURM_ARRAY_TASK_ID + 1))p {tmp_path}/shards)"
    submit = ["sbatch", "--parsable", "-p", "cpu", "--mem", "600", "-o", "/dev/null", "--export=ALL,MODPO_JOBS="]
    job = cluster.slurm(*submit, "--array=0-23%8", "--wrap", script).strip()
    killed: set[str] = set()

    def two_are_killed() -> bool:
        for task in cluster.slurm("squeue", "-h", "-r", "-j", job, "-t", "running", "-o", "%i").split():
            number = int(task.partition("_")[2])
            journal = run.folder("reward_trials") / "search" / f"{list(WORDS)[number % 2]}.journal"
            if task not in killed and len(killed) < 2 and journal.exists() and '"attempts"' in journal.read_text():
                cluster.slurm("scancel", "--signal=KILL", "--full", task)
                killed.add(task)
        return len(killed) == 2

    cluster.wait(two_are_killed)
    cluster.wait_until_empty()
    for shard in run.missing("reward_trials"):
        again = cluster.slurm(*submit, "--wrap", f"{trial} {shard}").strip()
        cluster.wait(lambda again=again: not cluster.slurm("squeue", "-h", "-j", again).strip())  # type: ignore[misc]
    check_search(Run.open(run.root), tmp_path)


def check_search(run: Run, folder: Path) -> None:
    trials = run.table("reward_trials")
    table = trials.to_pandas()
    assert table.groupby("criterion")["trial"].apply(sorted).to_dict() == {one: list(range(12)) for one in WORDS}
    assert set(table["state"]) <= {"complete", "pruned"}
    for criterion in WORDS:
        best = best_complete([row for row in trials.to_pylist() if row["criterion"] == criterion])
        names = ("learning_rate", "weight_decay", "dropout", "batch_size", "max_length", "epochs")
        again = RunningTrial(best["trial"], {name: best[name] for name in names}, lambda *_: None)
        place = TrainingContext(folder / f"again-{criterion}")
        place.scratch.mkdir()
        data = load_trial_data(run, criterion)
        assert train_trial(data, run.study.rewards, again, best["seed"], place) == best["accuracy"]
