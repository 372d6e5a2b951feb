"""One of several processes that train a policy: ``python -m modpo_hpc.alignment.worker REQUEST``.

The shard's process starts these and stays outside. They speak through the folder of the request: the first process
writes ``progress.json``, ``error.json`` and at the end ``policy/``; the parent writes ``stop`` and touches ``alive``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modpo_hpc.core.atomic import atomic_file, atomic_folder, write_text
from modpo_hpc.errors import InputError, Interrupted, ModpoError
from modpo_hpc.study.alignment import Training

STOP, ALIVE, PROGRESS, ERROR, RESULT = "stop", "alive", "progress.json", "error.json", "policy"
SILENCE_SECONDS = 120.0
_SET_DEATH_SIGNAL = 1


@dataclass(frozen=True)
class TrainingRequest:
    """What is to be trained, and where the parent looks. ``scratch`` holds the checkpoints."""

    run: str
    policy: str
    settings: dict[str, Any]
    scratch: str
    threads: int


class ParentWatch:
    """Reports to the parent, and stops when it asks to or is gone."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._rank = folder, rank

    def progress(self, done: int, total: int, unit: str, **metrics: float) -> None:
        if self._rank == 0:
            state = {"done": done, "total": total, "unit": unit, **metrics}
            write_text(self._folder / PROGRESS, json.dumps(state), durable=False)

    def check(self) -> None:
        if (self._folder / STOP).exists():
            raise Interrupted("asked to stop; the next attempt goes on from here")
        if time.time() - (self._folder / ALIVE).stat().st_mtime > SILENCE_SECONDS:
            raise Interrupted("the process that started this one is gone")


def main(request_file: Path) -> int:
    """Train; returns the exit code. What else is raised goes to the shard's log and fails the shard."""
    _end_with_parent()
    folder = request_file.parent
    request = TrainingRequest(**json.loads(request_file.read_text()))
    rank = int(os.environ["RANK"])
    import torch

    from modpo_hpc.alignment.policy import align_policy, write_policy
    from modpo_hpc.core.declared_run import DeclaredRun
    from modpo_hpc.pipeline import stage_named
    from modpo_hpc.run import Run

    torch.set_num_threads(request.threads)
    run = Run.open(request.run)
    stage = stage_named(str(run.study.alignment.policies[request.policy].stage))
    try:
        aligned = align_policy(
            DeclaredRun(run, stage, request.policy),
            request.policy,
            Training.model_validate(request.settings),
            Path(request.scratch),
            ParentWatch(folder, rank),
        )
        if rank == 0:
            with atomic_folder(folder / RESULT) as result:
                write_policy(result, aligned)
    except Interrupted:
        return Interrupted.exit_code
    except ModpoError as error:
        if rank == 0:
            with atomic_file(folder / ERROR, "w") as stream:
                fields = ("problem", "remedy", "file", "field", "value")
                parts = {name: getattr(error, name) for name in fields} if isinstance(error, InputError) else None
                json.dump({"input": parts, "message": str(error)}, stream, default=str)
        return error.exit_code
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return 0


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies, where the kernel can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
