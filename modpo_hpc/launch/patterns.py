"""What programs, shells and Slurm say when they fail, as patterns: what triage looks for in logs and errors."""

from __future__ import annotations

import re

from modpo_hpc.launch.commands import PASSING


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


HOST_MEMORY = _any_of(
    r"exceeded memory limit", r"oom[-_]kill", r"Out Of Memory", r"\bMemoryError\b", r"Cannot allocate"
)
GPU_MEMORY = _any_of(r"CUDA out of memory", r"OutOfMemoryError", r"CUBLAS_STATUS_ALLOC_FAILED", r"HIP out of memory")
TIME = _any_of(r"DUE TO TIME LIMIT")
NODE = _any_of(
    r"NODE FAIL",
    r"uncorrectable ECC",
    r"CUDA error: (?:unknown|hardware)",
    r"no CUDA-capable device",
    r"devices are busy or unavailable",
    r"\bXid\b",
    r"Stale file handle",
    r"Transport endpoint is not connected",
    r"Node failure on",
    r"STEPD TERMINATED ON",
)
# What srun and slurmstepd say of a node that did not start its tasks.
NOT_STARTED = _any_of(
    r"launch (?:for .+ )?failed.*(?:connection|Socket timed out|Zero Bytes|Message \w+ failure|No route to host|"
    r"Job credential (?:expired|replayed)|Invalid job credential|authentication|prolog failed|Slurmd could not|"
    r"not found on host)",
    r"Unable to (?:create step|confirm allocation) .*(?:Required node not available|authentication)",
    r"Munge (?:en|de)code failed",
    r"Failed to invoke task plugins",
)
# The second is what srun says of a task that the stop signal met before its Python could listen.
PREEMPTION = _any_of(r"DUE TO PREEMPTION", r"User defined signal [12]")
DISK = _any_of(r"No space left on device", r"Disk quota exceeded", r"\[Errno (?:28|122)\]")
API = _any_of(
    r"RateLimit",
    r"AuthenticationError",
    r"APIConnection",
    r"APIStatus",
    r"HTTPStatusError",
    r"ConnectError",
    r"ReadTimeout",
    r"insufficient_quota",
)
# One of several processes that make a shard together was killed, and the others say only that it is gone.
LOST_PEER = _any_of(r"Connection (?:closed|reset) by peer", r"remote process exited", r"Connection refused|Broken pipe")
# What srun says when the job under it was already ending, or nobody answered; never what a wrong request makes it say.
NO_STEP = _any_of(
    r"Unable to (?:create step|confirm allocation) for job \S+: .*(?:Job/step already complet|Job is no longer pending|"
    r"Job is pending execution|Job has already finished|Job is not running|Job can not be altered now|Invalid job id|"
    r"Error generating job credential|Unexpected message received|" + "|".join(map(re.escape, PASSING)) + ")",
    r"Slurm job \d+ has expired",
    r"Job allocation \d+ has been revoked",
    r"launch (?:for .+ )?failed.*Job credential revoked",
)
# What a shell, a module command and an interpreter say of a job that cannot begin.
START_UP = _any_of(
    r"cannot load modules", r"unable to locate a modulefile", r"module\(s\) are unknown", r"command not found",
    r"No such file or directory", r"ModuleNotFoundError", r"ImportError", r"Permission denied", r"no run directory",
)  # fmt: skip
TROUBLE = _any_of("error", "killed", "exception", "exceeded", "cancelled", START_UP.pattern)
TASK_KILLED = _any_of(r"task \d+: Killed")
