"""What Slurm refuses, asked before anything is queued, and what to do about it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch import cluster, commands
from modpo_hpc.launch.batch_scripts import Change, allocation_of, sbatch_header
from modpo_hpc.launch.graph import Work
from modpo_hpc.launch.profile import Allocation, Profile
from modpo_hpc.launch.submissions import (
    read_journal,
)
from modpo_hpc.run import Run

YOURS = "Yours: sacctmgr show associations user=$USER format=account,partition,qos"
# sbatch names the limit in a line of its own, above a sentence that is the same for all of them.
NAMED_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*Limit\b|\b(?:Assoc|QOS)(?:Max|Grp|Min)\w+")
ANY_LIMIT = "Job violates accounting/QOS policy"


class SubmitLimit(IncompleteError):
    """The cluster takes no more jobs of this user now."""


def check_with_slurm(
    run: Run, profile: Profile, plan: Sequence[Work], changes: Mapping[str, Change] | None = None
) -> None:
    """Let Slurm judge every header before anything is queued.

    Raises:
        InputError: Slurm would refuse a job; says which field and what to do.
    """
    known, learned = cluster.partitions(), read_journal(run).learned
    for work in plan:
        change = (changes or {}).get(work.stage)
        allocation = allocation_of(run, profile, work.stage, change, learned.get(work.stage))
        if allocation.partition and (absent := [one for one in allocation.partition.split(",") if one not in known]):
            raise InputError(
                "this cluster has no such partition",
                field=f"partition (of stage {work.stage})",
                value=absent[0],
                remedy=f"Its partitions: {', '.join(known)}. Correct the profile.",
            )
        longest = max((known[one] for one in (allocation.partition or "").split(",") if one in known), default=math.inf)
        if allocation.minutes > longest:
            # Slurm itself would take such a job, and let it wait for ever.
            raise InputError(
                f"the time limit is longer than partition {allocation.partition} allows ({longest:.0f} min)",
                field=f"minutes (of stage {work.stage})",
                value=allocation.minutes,
                remedy="Lower it (a shard at its limit is requeued and resumes), or take another partition.",
            )
        alone = replace(work, shards=work.shards[:1], after_jobs=(), after_shards=(), after_ended=())
        text = sbatch_header(run, profile, alone, 1, change, learned.get(work.stage))[0]
        try:
            commands.call("sbatch", "--test-only", wait=commands.WAIT_SECONDS, text_in=text)
        except commands.SlurmSilent:
            raise
        except commands.SlurmError as error:
            refused = refusal(str(error), work.stage, allocation)
            if not isinstance(refused, SubmitLimit):
                raise refused from error


def refusal(words: str, stage: str, allocation: Allocation) -> InputError | SubmitLimit:
    """What Slurm's refusal of a job means, and what to do. ``words`` are sbatch's."""
    limit = NAMED_LIMIT.search(words)
    name = limit[0] if limit else ""
    if "Submit" in name or (ANY_LIMIT in words and not name):
        return SubmitLimit(f"the cluster takes no more jobs of yours now ({name or 'a limit'}); next is stage {stage}")
    size = f"{allocation.cpus} CPUs, {allocation.memory_gb:g} GB, {allocation.gpus} GPUs"
    if name:
        field = "minutes" if "Wall" in name else "cpus, memory_gb, gpus, nodes"
        return InputError(
            f"a limit of your account or qos ({name}) is below what a job of stage {stage} asks",
            field=field,
            value=f"{allocation.minutes} min, {size}",
            remedy=f"Ask for less in the profile. {YOURS},maxwall,maxtrespernode",
        )
    reason = words.strip().splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ") if words.strip() else "?"
    lower = words.lower()
    causes: tuple[tuple[str, str, object, str], ...] = (
        ("account", "account", allocation.account, f"Give an account of yours in the profile. {YOURS}"),
        ("qos", "qos", allocation.qos, f"Give a qos that your account may use. {YOURS}"),
        ("partition", "partition", allocation.partition, "Name one of the partitions that sinfo lists."),
        ("time limit", "minutes", allocation.minutes, "Lower minutes, or take another partition: sinfo -o '%R %l'."),
        ("node configuration", "cpus, memory_gb, gpus", size, "No node has this much; see sinfo -N -o '%N %c %m %G'."),
        ("gres", "gres", allocation.gres or allocation.gpus, "See sinfo -o '%R %G' for what there is."),
        ("feature", "constraint", allocation.constraint, "See sinfo -o '%R %f' for what there is."),
        ("memory", "memory_gb", allocation.memory_gb, "Lower memory_gb; see sinfo -N -o '%N %m'."),
    )
    for word, field, value, remedy in causes:
        if word in lower:
            return InputError(
                f"Slurm refuses the jobs of stage {stage}: {reason}", field=field, value=value, remedy=remedy
            )
    return InputError(
        f"Slurm refuses the jobs of stage {stage}: {reason}",
        remedy="What is queued stays queued. When it is mended, submit again: only what is missing is handed in.",
    )
