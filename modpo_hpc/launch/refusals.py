"""What a refusal of Slurm means, and what to do about it."""

from __future__ import annotations

import re

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch.allocation import Allocation

YOURS = "Yours: sacctmgr show associations user=$USER format=account,partition,qos"
# sbatch names the limit in a line of its own, above a sentence that is the same for all of them.
NAMED_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\b|\b(?:Assoc|QOS)(?:Max|Grp|Min)\w+")
NO_NODE = "node configuration"
"""In what sbatch says where no node that is up has what a job asks."""
ANY_LIMIT = "Job violates accounting/QOS policy"


class SubmitLimit(IncompleteError):
    """The cluster takes no more jobs of this user now."""


def refusal(message: str, stage: str, allocation: Allocation) -> InputError | SubmitLimit:
    """What Slurm's refusal of a job means, and what to do. ``message`` is sbatch's."""
    name = limit[0] if (limit := NAMED_LIMIT.search(message)) else ""
    if "Submit" in name or (ANY_LIMIT in message and not name):
        return SubmitLimit(f"the cluster takes no more jobs of yours now ({name or 'a limit'}); next is stage {stage}")
    size = f"{allocation.cpus} CPUs, {allocation.memory_gb:g} GB, {allocation.gpus} GPUs"
    if name:
        return InputError(
            f"a limit of your account or qos ({name}) is below what a job of stage {stage} asks",
            field="minutes" if "Wall" in name else "cpus, memory_gb, gpus, nodes",
            value=f"{allocation.minutes} min, {size}",
            remedy=f"Ask for less in the profile. {YOURS},maxwall,maxtrespernode",
        )
    reason = (message.strip().splitlines() or ["?"])[-1].removeprefix("sbatch: ").removeprefix("error: ")
    problem = f"Slurm refuses the jobs of stage {stage}: {reason}"
    causes: tuple[tuple[str, str, object, str], ...] = (
        ("account", "account", allocation.account, f"Give an account of yours in the profile. {YOURS}"),
        ("qos", "qos", allocation.qos, f"Give a qos that your account may use. {YOURS}"),
        ("partition", "partition", allocation.partition, "Name one of the partitions that sinfo lists."),
        ("time limit", "minutes", allocation.minutes, "Lower minutes, or take another partition: sinfo -o '%R %l'."),
        (NO_NODE, "cpus, memory_gb, gpus", size, "No node has this much; see sinfo -N -o '%N %c %m %G'."),
        ("gres", "gres", allocation.gres or allocation.gpus, "See sinfo -o '%R %G' for what there is."),
        ("feature", "constraint", allocation.constraint, "See sinfo -o '%R %f' for what there is."),
        ("memory", "memory_gb", allocation.memory_gb, "Lower memory_gb; see sinfo -N -o '%N %m'."),
    )
    for word, field, value, remedy in causes:
        if word in message.lower():
            return InputError(problem, field=field, value=value, remedy=remedy)
    return InputError(
        problem,
        remedy="What is queued stays queued. When it is mended, submit again: only what is missing is handed in.",
    )
