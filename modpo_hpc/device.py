"""Where arithmetic runs: the GPU of this process, and the refusal where one was promised and none is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modpo_hpc.errors import InputError

if TYPE_CHECKING:
    import torch

    from modpo_hpc.study import Study

_ON_TORCH = (
    "reward_trials",
    "rewards",
    "scores",
    "answer_scores",
    "policy_trials",
    "policies",
    "conditioned",
    "toxicity",
)
_ANSWERING = ("responses", "answers")


def compute_device(local_rank: int = 0) -> torch.device:
    """The GPU of the process ``local_rank`` of this machine, set up for training; the CPU where there is none.

    Where the launcher shows each task one GPU only, that one is number 0 for every task.
    """
    import torch

    count = visible_gpus()
    if not count:
        return torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = True  # what is left in fp32, such as a reward model, runs on tensor cores
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each shape, and trees bring thousands
    device = torch.device("cuda", 0 if count == 1 else local_rank)
    torch.cuda.set_device(device)
    return device


def visible_gpus() -> int:
    """How many GPUs this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def require_promised_gpus(stage: str, study: Study, promised: int, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to do on a CPU what was promised a GPU: it would take days, and be marked done.

    Args:
        promised: GPUs of a shard by the study; what Slurm gave the job (``SLURM_GPUS_ON_NODE``) counts, too.

    Raises:
        InputError: PyTorch sees no GPU; names the driver, the wheel and the remedy.
    """
    given = environment.get("SLURM_GPUS_ON_NODE", "0")
    promised = max(promised, int(given) if given.isdigit() else 0)
    answers_here = stage in _ANSWERING and study.generation.engine == "transformers"
    if not promised or not (stage in _ON_TORCH or answers_here):
        return
    if visible_gpus():
        return
    import torch

    raise InputError(
        f"stage {stage} was promised {promised} GPU{'s' if promised > 1 else ''} and PyTorch sees none: {why_no_gpu()}",
        field=f"resources.{stage}.gpus",
        value=promised,
        remedy=_remedy(torch.version.cuda, environment),
    )


def why_no_gpu() -> str:
    """Driver and wheel, as far as they can be asked."""
    import torch

    wheel = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs alone"
    return f"torch {torch.__version__} is {wheel}, {driver()}"


def driver() -> str:
    """What nvidia-smi says of driver and GPUs, in a few words."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "there is no nvidia-smi here"
    asked = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer ({type(error).__name__})"
    rows = done.stdout.strip().splitlines()
    if done.returncode or not rows:
        return f"nvidia-smi finds no GPU ({(done.stderr or done.stdout).strip()[:200] or 'no word'})"
    name, _, version = rows[0].rpartition(", ")
    return f"the driver is {version} ({len(rows)} x {name})"


def _remedy(wheel_cuda: str | None, environment: Mapping[str, str]) -> str:
    if environment.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs: ask for GPUs in the profile, or unset it."
    if wheel_cuda is None:
        return "Install a torch wheel with CUDA (https://pytorch.org/get-started/locally); for a CPU set gpus to 0."
    needed = {"12": "525", "13": "580"}.get(wheel_cuda.split(".")[0], "that of its CUDA release")
    return (
        f"CUDA {wheel_cuda.split('.')[0]} wants driver {needed} or newer (a module cannot mend a driver): install a "
        "torch wheel for the CUDA that nvidia-smi shows, or take a node with a newer driver; for a CPU set gpus to 0."
    )
