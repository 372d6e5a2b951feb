"""Train a policy in this process, or in several that this one starts and watches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from modpo_hpc.alignment.processes import MEETING_FILE, ProcessRank, processes_of, rank_of
from modpo_hpc.alignment.resident import refuse_resident
from modpo_hpc.alignment.worker import ALIVE, ERROR, PROGRESS, RESULT, STOP, TrainingRequest
from modpo_hpc.core.atomic import atomic_folder, write_text
from modpo_hpc.errors import InputError, Interrupted, ModpoError
from modpo_hpc.run import Run, Shard
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.evaluation import Resources
from modpo_hpc.training import OnEvaluation, TrainingContext, nothing
from modpo_hpc.training.checkpoint import refuse_unresumable
from modpo_hpc.training.loop import wish_of

POLL_SECONDS = 0.2


def make_policy(run: Run, shard: Shard, settings: Training) -> None:
    """Train the policy of ``shard`` with ``settings`` and leave it as its result; raises as ``train_policy``."""
    context = TrainingContext(shard.scratch, shard.check, shard.progress)
    trained = train_policy(run, shard.id, settings, context, shard.stage.resources(run.study))
    if trained is not None:
        with shard.directory(shard.id) as folder:
            shutil.copytree(trained, folder, dirs_exist_ok=True)


def train_policy(
    run: Run,
    policy: str,
    settings: Training,
    context: TrainingContext,
    resources: Resources,
    on_evaluation: OnEvaluation = nothing,
) -> Path | None:
    """Train ``policy`` with ``settings``; returns the folder that holds it, in ``context.scratch``.

    Where a launcher has started this as one of several processes (see ``processes.rank_of``), all but the first
    return None. ``on_evaluation`` gets the evaluations so far after each one; where this process starts others, once,
    at the end.

    Raises:
        InputError: settings, data or a checkpoint that cannot be used.
        Interrupted: asked to stop; the next call resumes.
        ModpoError: training failed; says why.
    """
    process = rank_of(os.environ)
    result = context.scratch / RESULT
    count = processes_of(settings) if process is None else process.world_size
    if count > 1 or settings.deepspeed is not None:
        refuse_resident(count, settings.deepspeed)
        if process is None:
            trained = _in_processes(run, policy, settings, context, resources, count)
            rows = [json.loads(line) for line in (trained / "log.jsonl").read_text(encoding="utf-8").splitlines()]
            on_evaluation([row for row in rows if "held_out_loss" in row], True)
            return trained
    from modpo_hpc.alignment.policy import align_policy, write_policy

    scratch = _common_scratch(context, process, settings.deepspeed is not None)
    aligned = align_policy(run, policy, settings, scratch, context, on_evaluation)
    if process and process.rank > 0:
        return None
    with atomic_folder(result) as folder:
        write_policy(folder, aligned)
    return result


def _common_scratch(context: TrainingContext, process: ProcessRank | None, deepspeed: bool) -> Path:
    """The scratch folder of the first process, for all of them."""
    if process is None:
        return context.scratch
    import torch

    from modpo_hpc.alignment.processes import join_processes

    join_processes(process, deepspeed)
    box = [str(context.scratch)]
    torch.distributed.broadcast_object_list(box, src=0)
    return Path(box[0])


def _in_processes(
    run: Run, policy: str, settings: Training, context: TrainingContext, resources: Resources, processes: int
) -> Path:
    from modpo_hpc.alignment.loading import layout_of

    layout = layout_of(settings, run.study.models, ProcessRank(0, processes, 0, processes))
    refuse_unresumable(context.scratch / "checkpoints", layout)
    folder = context.scratch / "processes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    threads = max(1, resources.cpus // processes)
    request = TrainingRequest(str(run.root), policy, settings.model_dump(mode="json"), str(context.scratch), threads)
    write_text(folder / "request.json", json.dumps(asdict(request)))
    (folder / ALIVE).touch()
    with tempfile.TemporaryDirectory(prefix="modpo-") as here:
        workers = [_start(folder, rank, processes, threads, Path(here) / "meeting") for rank in range(processes)]
        return _watch(workers, folder, context)


def _start(folder: Path, rank: int, processes: int, threads: int, meeting: Path) -> subprocess.Popen[bytes]:
    environment = {
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        **os.environ,
        **ProcessRank(rank, processes, rank, processes).variables,
        MEETING_FILE: str(meeting),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(one for one in sys.path if one),
    }
    command = [sys.executable, "-m", "modpo_hpc.alignment.worker", str(folder / "request.json")]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)


def _watch(workers: list[subprocess.Popen[bytes]], folder: Path, context: TrainingContext) -> Path:
    """Wait for the workers, pass on what they report, and leave none behind."""
    seen: object = None
    wish: Interrupted | None = None
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() not in (None, 0, Interrupted.exit_code) for worker in workers):
                _wait(workers, 10)  # the others may be writing down the same error
                break
            time.sleep(POLL_SECONDS)
            (folder / ALIVE).touch()
            seen = _pass_on(folder, seen, context)
            if wish is None and (wish := wish_of(context)):
                (folder / STOP).touch()
    finally:
        _end(workers)
    _pass_on(folder, seen, context)
    if (folder / ERROR).exists():
        reported = json.loads((folder / ERROR).read_text())
        raise InputError(**reported["input"]) if reported["input"] else ModpoError(reported["message"])
    codes = [worker.returncode for worker in workers]
    if Interrupted.exit_code in codes and set(codes) <= {0, Interrupted.exit_code}:
        raise wish or Interrupted("a training process was asked to stop; the next attempt goes on from here")
    if any(codes):
        shown = ", ".join(f"rank {rank}: {_ending(code)}" for rank, code in enumerate(codes))
        raise ModpoError(f"training in {len(workers)} processes failed ({shown}); the reason stands above in this log")
    return folder / RESULT


def _pass_on(folder: Path, seen: object, context: TrainingContext) -> object:
    try:
        state = json.loads((folder / PROGRESS).read_text())
    except FileNotFoundError:
        return seen
    if state != seen:
        context.progress(**state)
    return state


def _wait(workers: list[subprocess.Popen[bytes]], seconds: float) -> None:
    """Until all have ended by themselves, or about so long."""
    deadline = time.monotonic() + seconds
    for worker in workers:
        with suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.1, deadline - time.monotonic()))


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    _wait(workers, 5)
    for worker in workers:
        worker.kill()
        worker.wait()


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
