"""Two processes, under DeepSpeed or not, train like one; what cannot be resumed is refused before a model is loaded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modpo_hpc.alignment.processes import MASTER_PORTS, MEETING_FILE, ProcessRank, rank_of
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.training.checkpoint import Layout, Position, finish_checkpoint, start_checkpoint, why_not_resumable
from tests.alignment.ranks import POLICY
from tests.alignment.world import started_run, study_of
from tests.waiting import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.xdist_group("processes")
STAGES = ("parallel", "zero1", "zero2", "zero3")
DROPPED = ("parallel", "zero3")
TRAINING = {"epochs": 1, "micro_batch_size": 2, "batch_size": 7}


def sharded(stage: str, **more: object) -> dict[str, object]:
    """Two processes under a ZeRO stage; ``parallel``: without DeepSpeed, each with the whole model."""
    deepspeed = None if stage == "parallel" else f"configs/deepspeed/{stage}.json"
    return {**TRAINING, "deepspeed": deepspeed, "processes": 2, **more}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A folder with log and adapter of each way to be two processes, and of one process."""
    out = tmp_path_factory.mktemp("ranks")
    os.environ["MODPO_LOGS"] = str(out / "logs")
    runs = []
    ways = {stage: sharded(stage) for stage in STAGES}
    ways |= {f"{stage} dropped": sharded(stage, lora_dropout=0.2) for stage in DROPPED}
    for number, (way, settings) in enumerate(ways.items()):
        run = started_run(out / f"run-{number}", study_of(model_folder, out / "posts.csv", settings))
        runs.append(f"{run.root}={way}")
    plain = started_run(out / "run-plain", study_of(model_folder, out / "posts.csv", dict(TRAINING)))
    run_shard(str(plain.root), "policies", POLICY)
    command = [sys.executable, "-m", "tests.alignment.ranks", str(out), *runs]
    workers = [
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": "2",
                MEETING_FILE: str(out / "meeting"),
                "MODPO_COMPILE": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=PATIENCE)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert all(worker.returncode == 0 for worker in workers), "\n".join(outputs)[-4000:]
    return out


def losses(rows: list[dict[str, float]]) -> list[float]:
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_have_the_losses_of_one(trained: Path, stage: str) -> None:
    """29 pairs in batches of 7 over 2 processes in passes of 2: every end is ragged."""
    folder = trained / "run-plain" / "policies" / POLICY
    alone = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    together = json.loads((trained / f"{stage}.whole.json").read_text())
    assert losses(together) == pytest.approx(losses(alone), abs=1e-5)
    assert together[-1]["held_out_loss"] == pytest.approx(alone[-1]["held_out_loss"], abs=1e-4)
    assert together[-1]["criteria"] == {
        name: pytest.approx(found, abs=1e-3) for name, found in alone[-1]["criteria"].items()
    }
    ours, theirs = (
        load_file(trained / f"{stage}.whole.safetensors"),
        load_file(folder / "adapter/adapter_model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-2, atol=1e-4)


def test_weights_that_are_spread_over_processes_are_there_when_dropout_is_drawn_again(trained: Path) -> None:
    """ZeRO-3 lets go of a weight after it is used; the gradient of what was dropped needs it once more."""
    plain, spread = (json.loads((trained / f"{stage} dropped.whole.json").read_text()) for stage in DROPPED)
    assert losses(spread) == pytest.approx(losses(plain), abs=1e-5)
    whole = json.loads((trained / "parallel.whole.json").read_text())
    assert losses(plain)[1:] != pytest.approx(losses(whole)[1:], abs=1e-4)
    ours, theirs = (load_file(trained / f"{stage} dropped.whole.safetensors") for stage in DROPPED)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_and_resumed_they_end_the_same(trained: Path, stage: str) -> None:
    whole, resumed = (json.loads((trained / f"{stage}.{kind}.json").read_text()) for kind in ("whole", "resumed"))
    assert resumed == whole
    first, second = (load_file(trained / f"{stage}.{kind}.safetensors") for kind in ("whole", "resumed"))
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("stage", ["parallel", "zero2"])
def test_a_shard_starts_its_own_ranks(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv("MODPO_COMPILE", "0")
    study = study_of(model_folder, tmp_path / "posts.csv", sharded(stage))
    run = started_run(tmp_path / "run", study)
    run_shard(str(run.root), "policies", "DPO")
    summary = json.loads((run.folder("policies") / "DPO" / "summary.json").read_text())
    assert summary["steps"] == summary["steps_planned"] == 5


def test_processes_of_a_launcher_make_one_shard_together(tmp_path: Path, model_folder: Path) -> None:
    """As srun or torchrun start them: every process runs the recipe, the first alone writes, all end well."""
    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv", sharded("zero2")))
    slurm = {"MODPO_LAUNCHER": "srun", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_ID": str(_free_job())}
    workers = [
        subprocess.Popen(
            [sys.executable, "jobs/align.py", str(run.root), "--shard", "DPO"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                **slurm,
                "PYTHONPATH": str(REPOSITORY),
                "SLURM_PROCID": str(number),
                "SLURM_LOCALID": str(number),
                "MODPO_COMPILE": "0",
            },
        )
        for number in range(2)
    ]
    try:
        assert [worker.wait(timeout=PATIENCE) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    summary = json.loads((run.folder("policies") / "DPO" / "summary.json").read_text())
    assert summary["steps"] == summary["steps_planned"]
    assert list(run.done("policies")) == ["DPO"]


def _free_job() -> int:
    """A job whose port nobody listens on; it lies below those that the kernel gives out by itself."""
    for job in range(os.getpid(), os.getpid() + 500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", MASTER_PORTS[job % len(MASTER_PORTS)])):
                return job
    raise AssertionError("every port is taken")


def layout(stage: int, processes: int = 2, offload: bool = False) -> Layout:
    return Layout("deepspeed", processes, stage, offload)


@pytest.mark.parametrize(
    ("saved", "wanted", "reason"),
    [
        (layout(2), layout(2), None),
        (layout(2), layout(1), None),
        (layout(2), layout(3), "stage 2"),
        (layout(3), layout(2), "stage 3"),
        (layout(2), layout(2, processes=4), "2 processes"),
        (layout(2), layout(2, offload=True), "offload"),
        (layout(2), Layout("plain", 1), "deepspeed engine"),
    ],
)
def test_what_can_be_resumed(saved: Layout, wanted: Layout, reason: str | None) -> None:
    found = why_not_resumable(saved, wanted)
    assert found is None if reason is None else reason in (found or "")


def test_a_checkpoint_that_does_not_fit_is_refused_before_the_model_is_loaded(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv"))
    scratch = run.folder("policies") / ".work" / "DPO"
    scratch.mkdir(parents=True)
    (scratch / "inputs").write_text(run.inputs("policies", "DPO"))
    checkpoint = start_checkpoint(scratch / "checkpoints", 4)
    finish_checkpoint(checkpoint, layout(2), "a plan", Position(step=4))
    monkeypatch.setattr("modpo_hpc.alignment.policy.make_engine", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(InputError, match="cannot be resumed: it was written by the deepspeed engine") as caught:
        run_shard(str(run.root), "policies", "DPO")
    assert str(scratch / "checkpoints") in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"fp16": {"enabled": true}}', "fp16"),
        ('{"train_batch_size": 8}', "the study sets this"),
        ("{", "no JSON"),
    ],
)
def test_a_deepspeed_file_that_cannot_work_is_refused(
    tmp_path: Path, model_folder: Path, config: str, message: str
) -> None:
    file = tmp_path / "zero.json"
    file.write_text(config)
    study = study_of(model_folder, tmp_path / "posts.csv", {"deepspeed": str(file), "processes": 2})
    run = started_run(tmp_path / "run", study)
    with pytest.raises(InputError, match=message):
        run_shard(str(run.root), "policies", "DPO")


def test_a_process_that_dies_is_a_failure_that_names_its_signal(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv", sharded("zero2")))
    start = subprocess.Popen

    def fall_over(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        if "modpo_hpc.alignment.worker" not in command:
            return start(command, **options)  # type: ignore[call-overload]
        worker = start([sys.executable, "-c", "import time; time.sleep(30)"])
        worker.send_signal(signal.SIGKILL)
        return worker

    monkeypatch.setattr("modpo_hpc.alignment.start.subprocess.Popen", fall_over)
    with pytest.raises(ModpoError, match=r"rank 0: killed by SIGKILL"):
        run_shard(str(run.root), "policies", "DPO")


def test_ranks_come_from_torchrun_or_from_slurm_tasks_that_are_ranks() -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}
    assert rank_of(torchrun) == ProcessRank(3, 4, 1, 2)
    assert rank_of({**slurm, "MODPO_LAUNCHER": "srun"}) == ProcessRank(3, 4, 1, 2)
    assert rank_of(slurm) is None
    assert rank_of({**slurm, "SLURM_NTASKS": "1", "MODPO_LAUNCHER": "srun"}) is None
