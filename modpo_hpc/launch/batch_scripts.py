"""The batch script of an array: what its jobs get, and the sbatch file that asks for it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modpo_hpc.launch.allocation import Allocation, allocate
from modpo_hpc.launch.graph import Work, share_throttle, split
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.submissions import Learned, Submission
from modpo_hpc.pipeline import stage_named
from modpo_hpc.resources import resource
from modpo_hpc.run import Run

EXCLUDED_SECONDS = 86400.0
"""How long a node that failed what it got is kept away from: somebody mends it, and nobody tells us."""
# A stop signal would end an interpreter that is still starting; Slurm requeues what is preempted and takes no note.
DEAF_UNTIL_PYTHON_LISTENS = """bash -c 'trap "" USR1 USR2; exec "$@"' -"""
# Compilers lock and rename in their caches as shared filesystems do badly: these are on the node, the user's alone.
NODE_CACHES = {
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "extensions",
}
NODE_FOLDER = (
    'caches="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/modpo-$(id -u)"; '
    '{ mkdir -p -m 700 "$caches" && [ -O "$caches" ]; } || caches="$(mktemp -d -p /tmp)"'
)
# What an interactive job leaves behind would bind the shard to the CPUs of that job.
UNBIND = "unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE SLURM_MEM_BIND"
BEGINS = "modpo: a life of this job begins"
"""What stands in Slurm's own log before each life of a job: a requeued one writes into the same file again."""


@dataclass(frozen=True)
class ResourceChange:
    """What a rerun asks of the jobs beyond the profile: more memory, more time, nodes to keep away from."""

    memory: float = 1.0
    time: float = 1.0
    memory_gb: float | None = None
    minutes: int | None = None
    exclude: tuple[str, ...] = ()

    def apply(self, allocation: Allocation) -> Allocation:
        """``allocation`` with this change."""
        return replace(
            allocation,
            memory_gb=self.memory_gb or allocation.memory_gb * self.memory,
            minutes=self.minutes or max(1, round(allocation.minutes * self.time)),
            exclude=_joined(allocation.exclude, self.exclude),
        )


def allocation_of(
    run: Run, profile: Profile, stage: str, change: ResourceChange | None, learned: Learned | None
) -> Allocation:
    """What a job of ``stage`` gets: the profile, what earlier ones were found to need, and what this command asks."""
    base, learned = allocate(profile, run.study, stage_named(stage)), learned or Learned()
    excluded = learned.exclude if time.time() - learned.at < EXCLUDED_SECONDS else ()
    enough = replace(
        base,
        memory_gb=max(base.memory_gb, learned.memory_gb or 0.0),
        minutes=max(base.minutes, learned.minutes or 0),
        exclude=_joined(base.exclude, excluded),
    )
    return (change or ResourceChange()).apply(enough)


def submission_of(
    run: Run, stage: str, shards: tuple[str, ...], allocation: Allocation, throttle: int, token: str = "dry-run"
) -> Submission:
    """The array of ``shards`` before it is handed in, in a folder of its own for script, tasks and Slurm's output."""
    return Submission(
        stage=stage,
        job="",
        shards=shards,
        submitted=time.time(),
        after=(),
        minutes=allocation.minutes,
        memory_gb=allocation.memory_gb,
        gpus=allocation.gpus,
        cpus=allocation.cpus,
        nodes=allocation.nodes,
        folder=str(run.logs / "slurm" / f"{stage}.{token}"),
        comment="modpo:dry-run",
        throttle=throttle,
        pack=allocation.pack,
    )


def batch_script(run: Run, profile: Profile, submission: Submission, allocation: Allocation, waits: str | None) -> str:
    """The sbatch file of ``submission``."""
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = sbatch_parameters(allocation, profile, submission, f"{submission.stage}.{run.root.name}", waits)
    begins = DEAF_UNTIL_PYTHON_LISTENS
    if allocation.launcher == "ray":  # beside a cluster over its nodes, in the place of the shell that gets the signals
        begins = f"exec bash {shlex.quote(str(resource('slurm/ray.sh')))}"
    python = profile.python or shlex.quote(sys.executable)
    command = f"{begins} {python} -u -m modpo_hpc.launch.task {shlex.quote(submission.folder)}"
    count = submission.elements if submission.elements > 1 else None
    text: str = _make_sbatch_string(command, submission.folder, map_count=count, **parameters)
    return text


def sbatch_parameters(
    allocation: Allocation, profile: Profile, submission: Submission, job_name: str, dependency: str | None
) -> dict[str, Any]:
    """Parameters of submitit's Slurm executor for ``submission``.

    srun takes no note of ``--cpus-per-task`` of the batch job since Slurm 22.05, so it is said again. ``wckey`` is
    sent only if the profile names one: a cluster that tracks them refuses submitit's own. There is never a
    ``teardown``: its exit code would take the place of the shard's.
    """
    tasks = allocation.tasks_per_node
    cpus = max(1, allocation.cpus // tasks)
    options: dict[str, str | int | bool] = {"requeue": True, **dict(allocation.sbatch)}
    if options["requeue"] is False:
        options["no-requeue"] = True
    parameters: dict[str, Any] = {
        "job_name": job_name,
        **allocation.place,
        "time": allocation.minutes,
        "nodes": allocation.nodes,
        "ntasks_per_node": tasks,
        "cpus_per_task": cpus,
        "gres": allocation.gres,
        "gpus_per_node": None if allocation.gres else allocation.gpus or None,
        "mem": f"{int(allocation.memory_gb * 1024)}MB",
        "comment": submission.comment,
        "dependency": dependency,
        "signal_delay_s": profile.limits.signal_seconds,
        "stderr_to_stdout": True,
        "wckey": profile.wckey,
        "array_parallelism": submission.throttle,
        "setup": setup_lines(allocation, profile, submission.folder),
        "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1"],
        "additional_parameters": {key: value for key, value in options.items() if value is not False},
    }
    if allocation.launcher == "ray":
        # Slurm's signal reaches the script alone, which passes it to the shard: Ray lives while the state is saved.
        parameters["use_srun"] = False
        parameters["additional_parameters"]["signal"] = f"B:USR2@{profile.limits.signal_seconds}"
    return {key: value for key, value in parameters.items() if value is not None or key == "wckey"}


def setup_lines(allocation: Allocation, profile: Profile, folder_for_jobs: str) -> list[str]:
    """Shell lines that run in the job before the shard."""
    variables: Mapping[str, object] = {
        **profile.environment,
        "PYTHONUNBUFFERED": 1,
        "TOKENIZERS_PARALLELISM": "false",
        "MODPO_LAUNCHER": allocation.launcher,
        "MODPO_SIGNAL_SECONDS": profile.limits.signal_seconds,
        "MODPO_TIMEOUTS": profile.limits.timeouts,
        "MODPO_PREEMPTIONS": profile.limits.preemptions,
        "MODPO_JOB_FOLDER": folder_for_jobs,
        **({"MODPO_PYTHON": profile.python or sys.executable} if allocation.launcher == "ray" else {}),
    }
    lines = [f'echo "{BEGINS}: ${{SLURM_RESTART_COUNT:-0}}, on ${{SLURMD_NODENAME:-?}}"', UNBIND]
    if profile.modules:
        names = " ".join(shlex.quote(module) for module in profile.modules)
        lines.append(f"module load {names} || {{ echo 'cannot load modules of the profile: {names}' >&2; exit 1; }}")
    lines += [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    lines.append(NODE_FOLDER)
    lines += [f'export {name}="${{{name}:-$caches/{folder}}}"' for name, folder in NODE_CACHES.items()]
    return [*lines, *profile.setup]


def sbatch_header(
    run: Run,
    profile: Profile,
    work: Work,
    array_size: int,
    change: ResourceChange | None = None,
    learned: Learned | None = None,
) -> list[str]:
    """The sbatch files that ``work`` would be handed in with, one a block; ids of jobs to come are named by stage."""
    allocation = allocation_of(run, profile, work.stage, change, learned)
    jobs = ":".join([*work.after_jobs, *dict.fromkeys(f"<{stage}>" for stage, _ in work.after_shards)])
    ended = ":".join(work.after_ended)
    waits = ",".join(filter(None, (f"afterok:{jobs}" if jobs else "", f"afterany:{ended}" if ended else "")))
    blocks = split(work.shards, array_size * allocation.pack)
    drafts = [
        submission_of(run, work.stage, block, allocation, throttle)
        for block, throttle in zip(blocks, share_throttle(allocation.throttle, len(blocks)), strict=True)
    ]
    return [batch_script(run, profile, draft, allocation, waits or None) for draft in drafts]


def _joined(excluded: str | None, more: Sequence[str]) -> str | None:
    return ",".join(dict.fromkeys([*(excluded.split(",") if excluded else []), *more])) or None
