"""The sbatch header of a stage, as parameters of submitit. Functions of an allocation."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from modpo_hpc.launch.allocation import Allocation
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.submissions import Submission
from modpo_hpc.resources import resource

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
    if allocation.gres:
        parameters["gres"] = allocation.gres
    elif allocation.gpus:
        parameters["gpus_per_node"] = allocation.gpus
    return parameters


def interpreter(allocation: Allocation, profile: Profile) -> str:
    """The shell words that start Python in a job: beside a Ray cluster over its nodes if the launcher is ``ray``."""
    python = profile.python or shlex.quote(sys.executable)
    # The script takes the place of the batch shell, because the signals go to that.
    return (
        f"exec bash {shlex.quote(str(resource('slurm/ray.sh')))} {python}" if allocation.launcher == "ray" else python
    )


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
