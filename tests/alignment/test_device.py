"""A shard that was promised a GPU and sees none ends at once, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modpo_hpc.device import compute_device, require_promised_gpus
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.study import load_study
from tests.alignment.world import started_run, study_of
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is seen here")
DEMO = REPOSITORY / "configs/demo.yaml"


def test_a_shard_that_sees_no_gpu_ends_before_it_trains(tmp_path: Path, model_folder: Path) -> None:
    study = {**study_of(model_folder, tmp_path / "posts.csv"), "resources": {"policies": {"gpus": 1}}}
    run = started_run(tmp_path / "run", study)
    with pytest.raises(InputError, match=r"policies was promised 1 GPU and PyTorch sees none: torch \S+ is built for"):
        run_shard(str(run.root), "policies", "DPO")
    assert not (run.folder("policies") / "DPO").exists()
    assert run.missing("policies")


def fake_driver(folder: Path, says: str, code: int = 0) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("wheel", "visible", "driver", "told"),
    [
        ("13.0", "0", "NVIDIA H100 80GB HBM3, 550.54.15", ("550.54.15", "CUDA 13 wants driver 580 or newer")),
        (None, "0", "NVIDIA H100 80GB HBM3, 580.65", ("built for CPUs alone", "Install a torch wheel with CUDA")),
        ("12.8", "", "NVIDIA H100 80GB HBM3, 580.65", ("580.65", "CUDA_VISIBLE_DEVICES hides all GPUs")),
    ],
)
def test_driver_wheel_and_remedy_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: str | None, visible: str, driver: str, told: tuple[str, ...]
) -> None:
    fake_driver(tmp_path, driver)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torch.version, "cuda", wheel)
    with pytest.raises(InputError) as caught:
        require_promised_gpus("rewards", load_study(DEMO), 2, {"CUDA_VISIBLE_DEVICES": visible})
    for words in ("promised 2 GPUs", *told):
        assert words in str(caught.value)
    assert caught.value.field == "resources.rewards.gpus"


def test_what_slurm_gave_counts_as_promised() -> None:
    study = load_study(DEMO)
    with pytest.raises(InputError, match="promised 4 GPUs"):
        require_promised_gpus("policies", study, 0, {"SLURM_GPUS_ON_NODE": "4"})
    require_promised_gpus("policies", study, 0, {})
    require_promised_gpus("statistics", study, 0, {"SLURM_GPUS_ON_NODE": "4"})


def test_answers_of_a_server_are_the_servers_matter() -> None:
    """It may live in an environment of its own; this one's torch need not see the GPU."""
    served = load_study(DEMO, ["generation.engine=server"])
    require_promised_gpus("answers", served, 1, {})


@pytest.mark.parametrize(("count", "local_rank", "index"), [(1, 3, 0), (4, 3, 3)])
def test_a_task_that_is_shown_one_gpu_takes_that_one(
    monkeypatch: pytest.MonkeyPatch, count: int, local_rank: int, index: int
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda _: None)
    assert compute_device(local_rank) == torch.device("cuda", index)
    assert chosen == [torch.device("cuda", index)]
