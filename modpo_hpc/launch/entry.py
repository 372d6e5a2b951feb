"""The one entry: every launcher runs a shard through :func:`run_shard`, and nothing else.

The local executor, Slurm, a requeue and ``rerun --here`` call it with the same three strings.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource as resource_usage
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from modpo_hpc.core import studies
from modpo_hpc.core.atomic import write_text
from modpo_hpc.core.declared_run import DeclaredRun
from modpo_hpc.core.identity import MadeFrom, inputs_of, recipe_of_lab
from modpo_hpc.core.markers import Marker, write_marker
from modpo_hpc.core.reuse import keep_made_from, set_aside, shelves_of, take
from modpo_hpc.core.scratch import discard_scratch, scratch_folder
from modpo_hpc.device import require_promised_gpus
from modpo_hpc.errors import InputError
from modpo_hpc.launch.attempts import is_log, slurm_job
from modpo_hpc.pipeline import Stage, stage_named
from modpo_hpc.provenance import code_identity, package_versions
from modpo_hpc.resources import resource
from modpo_hpc.run import Run, Shard

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
HEARTBEAT = "progress.json"
HEARTBEAT_SECONDS = 1.0


def run_shard(run_dir: str, stage: str, shard: str, again: bool = False) -> bool:
    """Make one shard, unless it is done. Returns whether there was anything to do.

    With ``again`` a finished one is made anew; its old result and marker stay until the new ones take their place.

    Raises:
        InputError: no such run, stage or shard.
        IncompleteError: a stage that this one needs is not finished.
        Interrupted: asked to stop by SIGTERM, SIGUSR1 or SIGUSR2; the next attempt resumes.
    """
    os.umask(0o077)  # survey answers and posts are nobody else's business
    run, definition = Run.open(run_dir), stage_named(stage)
    if shard not in run.shard_ids(stage):
        raise InputError(
            f"stage {stage} has no such shard",
            field="shard",
            value=shard,
            remedy=f"Its {len(run.shard_ids(stage))} shards are listed by: modpo status {run.quoted} --shards {stage}",
        )
    if rank_in_job() > 0:
        return _follow(run, definition, shard)
    with studies.at_work(run.root):
        inventory, shelves = run.inventory(), shelves_of(run)
        made_from = inventory.made_from(stage, shard)
        run.refuse_lacking(stage, shard, made_from)
        if not again and inventory.fresh(stage, shard):
            _say(f"{stage} {shard}: already done")
            return False
        if not again and (found := take(run, stage, shard, inventory, shelves)):
            _say(f"{stage} {shard}: taken from {'what was set aside' if found.aside else found.run}")
            return True
        if not inventory.fresh(stage, shard) and set_aside(run, stage, shard):
            _say(f"{stage} {shard}: what was made from something else is set aside")
        keep_made_from(run.root, made_from)
        _make(run, definition, shard, made_from)
    return True


def _make(run: Run, stage: Stage, shard: str, made_from: MadeFrom) -> None:
    folder, inputs = run.folder(stage.name), inputs_of(made_from.hash, shard)
    started, clock, cpu = time.time(), time.monotonic(), _cpu_seconds()
    attempt = int(os.environ.get("MODPO_ATTEMPT", "1"))
    _fix_arithmetic(stage.resources(run.study).cpus)
    with scratch_folder(folder, shard, inputs) as scratch, _stop_flag() as should_stop:
        seen = DeclaredRun(run, stage, shard)
        beat = _heartbeat(scratch, stage.name, shard)
        work = Shard(seen, stage, shard, scratch, should_stop, beat, made_from.hash)
        _say(f"{stage.name} {shard}: attempt {attempt} starts")
        require_promised_gpus(stage.name, run.study, stage.resources(run.study).gpus)
        recipe(stage)(seen, work)
        marker = Marker(
            stage=stage.name,
            shard=shard,
            inputs=inputs,
            outputs=work.outputs,
            started=started,
            seconds=time.monotonic() - clock,
            host=socket.gethostname(),
            job=slurm_job(),
            attempt=attempt,
            versions=package_versions(),
            metrics={**work.metrics, **_usage(cpu)},
            snapshots=work.snapshots,
            made_from=made_from.hash,
            code=code_identity(),
        )
        write_marker(folder, marker)
        discard_scratch(folder, shard, scratch)
    _say(f"{stage.name} {shard}: done, {marker.rows} rows in {marker.seconds:.1f} s")


def rank_in_job() -> int:
    """The number of this process among those that a launcher started for one shard (torchrun, or srun as launcher)."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ.get("RANK", 0))
    return int(os.environ.get("SLURM_PROCID", 0)) if os.environ.get("MODPO_LAUNCHER") == "srun" else 0


def _follow(run: Run, stage: Stage, shard: str) -> bool:
    """Take part in a shard of which the first process keeps the state and writes the result and the marker."""
    if not stage.in_ranks:
        _say(f"{stage.name} {shard}: left to the first process")
        return False
    _fix_arithmetic(stage.resources(run.study).cpus)
    with tempfile.TemporaryDirectory() as scratch, _stop_flag() as should_stop:
        seen = DeclaredRun(run, stage, shard)
        recipe(stage)(seen, Shard(seen, stage, shard, Path(scratch), should_stop))
    return True


def recipe(stage: Stage) -> Callable[[Run, Shard], None]:
    """The function of ``jobs/<verb>.py`` that makes one shard of ``stage``.

    A script of the same name in the folder that ``MODPO_JOBS`` names takes its place: a lab's own way of one step.
    """
    path = recipe_of_lab(stage) or resource(f"jobs/{stage.verb}.py")
    module = _load(path, f"modpo_hpc.jobs.{stage.verb}")
    function: Callable[[Run, Shard], None] = getattr(module, stage.verb)
    return function


def _load(path: Path, name: str) -> ModuleType:
    present = sys.modules.get(name)
    if present is not None and present.__file__ == str(path):
        return present
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _cpu_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


def _usage(cpu_before: float) -> dict[str, float]:
    """What the shard took: CPU seconds, and the most memory that its process ever held."""
    peak = resource_usage.getrusage(resource_usage.RUSAGE_SELF).ru_maxrss
    return {"cpu_seconds": round(_cpu_seconds() - cpu_before, 3), "peak_memory_gb": round(peak / 2**20, 3)}


def _fix_arithmetic(threads: int) -> None:
    """The same number of threads everywhere, so that sums come out the same on every machine."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules or os.environ.get("OMP_NUM_THREADS") != str(threads):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """Turns the stop signals into a flag for as long as the block runs (in the main thread only)."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, _: FrameType | None) -> None:
        asked.set()
        os.write(2, f"asked to stop by {signal.Signals(number).name}; ends the batch first\n".encode())

    before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heartbeat(scratch: Path, stage: str, shard: str) -> Callable[[dict[str, Any]], None]:
    last, started = 0.0, time.time()

    def beat(state: dict[str, Any]) -> None:
        nonlocal last
        now = time.time()
        if now - last < HEARTBEAT_SECONDS and state["done"] < state["total"]:
            return
        last = now
        write_text(scratch / HEARTBEAT, json.dumps({**state, "at": now, "started": started}), durable=False)
        extra = "".join(f" {one}" for one in metrics_in_words(state))
        _say(f"{stage} {shard}: {state['done']} of {state['total']} {state['unit']}{extra}")

    return beat


def metrics_in_words(state: Mapping[str, Any]) -> list[str]:
    """What a heartbeat says besides how far it is: ``loss 0.61``, ``tokens_read 70,100``."""
    metrics = {key: value for key, value in state.items() if key not in ("done", "total", "unit", "at", "started")}
    return [f"{key} {value:,.0f}" if abs(value) >= 1000 else f"{key} {value:.3g}" for key, value in metrics.items()]


def _say(message: str) -> None:
    """A line of the log; a log stamps its lines itself, a terminal gets the time here."""
    print(message if is_log(sys.stdout) else f"{time.strftime('%H:%M:%S')} {message}", flush=True)
