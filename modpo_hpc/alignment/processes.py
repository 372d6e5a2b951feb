"""Several processes that train one policy: who they are, and how the shard's process starts them on its machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from modpo_hpc.device import compute_device, visible_gpus
from modpo_hpc.study.alignment import Training

if TYPE_CHECKING:
    import torch

MASTER_PORTS = range(20_000, 30_000)
MEETING_FILE = "MODPO_MEETING_FILE"
"""Where processes of one machine find each other: a file, since a port that is free now may be taken a moment later."""


@dataclass(frozen=True)
class ProcessRank:
    """The place of one process among those that train a policy together."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int

    @property
    def variables(self) -> dict[str, str]:
        """The same as torchrun tells it to a process."""
        return {name.upper(): str(value) for name, value in asdict(self).items()}


ALONE = ProcessRank(0, 1, 0, 1)


def rank_of(environment: Mapping[str, str]) -> ProcessRank | None:
    """The rank that a launcher gave to this process: torchrun's variables, or Slurm's in a job of several tasks.

    Slurm's variables count only where the launcher says that its tasks are ranks (``MODPO_LAUNCHER=srun``); an
    ordinary job array has them too.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return ProcessRank(
            int(environment["RANK"]),
            int(environment["WORLD_SIZE"]),
            int(environment.get("LOCAL_RANK", 0)),
            int(environment.get("LOCAL_WORLD_SIZE", 1)),
        )
    if environment.get("MODPO_LAUNCHER") == "srun" and int(environment.get("SLURM_NTASKS", 1)) > 1:
        tasks = int(environment["SLURM_NTASKS"])
        nodes = int(environment.get("SLURM_NNODES", 1))
        return ProcessRank(int(environment["SLURM_PROCID"]), tasks, int(environment["SLURM_LOCALID"]), tasks // nodes)
    return None


def processes_of(settings: Training) -> int:
    """How many processes of this machine train together: as the study says, else one a GPU that is seen here."""
    if settings.gradient_cosine:
        return 1
    return settings.processes or max(1, visible_gpus())


def join_processes(process: ProcessRank, deepspeed: bool) -> torch.device:
    """Meet the other processes, once; returns this process's device.

    DeepSpeed builds an operator here on CPUs, about half a minute once; it is kept in ``TORCH_EXTENSIONS_DIR``.
    Without a compiler, or with ``MODPO_COMPILE=0``, it goes without.
    """
    import torch

    # what is set already stays
    os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
    port = MASTER_PORTS[int(os.environ.get("SLURM_JOB_ID", 0)) % len(MASTER_PORTS)]
    os.environ.setdefault("MASTER_PORT", str(port))
    os.environ.update(process.variables, LOCAL_SIZE=str(process.local_world_size))
    device = compute_device(process.local_rank)
    if deepspeed:
        from modpo_hpc.alignment.deepspeed_config import prepare_deepspeed

        prepare_deepspeed(device)
    if not torch.distributed.is_initialized():
        file = os.environ.get(MEETING_FILE)
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{file}" if file else "env://",
            rank=process.rank,
            world_size=process.world_size,
        )
    return device
