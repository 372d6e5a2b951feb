"""What a cluster is (scontrol, sinfo, sacctmgr), and jobs taken out of its queue (scancel)."""

from __future__ import annotations

import getpass
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from modpo_hpc.launch.commands import NO_JOB, QUICK_SECONDS, SlurmError, call
from modpo_hpc.launch.fields import seconds_of

MOMENT = 7.0
"""Seconds to wait for a controller that is only busy."""


def ask_job(job: str, wait: float = MOMENT) -> dict[str, str]:
    """What scontrol knows of ``job``, values with spaces by their first word; empty when it has forgotten it."""
    try:
        text = call("scontrol", "--oneliner", "show", "job", job, wait=wait)
    except SlurmError as error:
        if NO_JOB in str(error):
            return {}
        raise
    return dict(part.split("=", 1) for part in text.split() if "=" in part)


@dataclass(frozen=True)
class ClusterFacts:
    """The name of a cluster, and the number of elements that an array may have there (its largest index is less)."""

    name: str
    max_array_size: int


def ask_settings(wait: float = MOMENT, timeout: float = QUICK_SECONDS) -> dict[str, str]:
    """How this cluster is configured.

    Raises:
        SlurmError: scontrol says nothing.
    """
    text = call("scontrol", "show", "config", wait=wait, timeout=timeout)
    return dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))


def ask_facts(wait: float = MOMENT) -> ClusterFacts:
    """The name and the size of this cluster. Raises as :func:`ask_settings`."""
    settings = ask_settings(wait)
    return ClusterFacts(settings.get("ClusterName", ""), int(settings.get("MaxArraySize", 1001)))


def partitions() -> dict[str, float]:
    """Partition -> its longest time limit in minutes, infinite where there is none."""
    return read_partitions(call("sinfo", "--noheader", "--format=%R|%l", timeout=QUICK_SECONDS, wait=MOMENT))


def read_partitions(text: str) -> dict[str, float]:
    """Lines of ``sinfo --format=%R|%l``."""
    found = {}
    for line in text.splitlines():
        name, _, limit = line.strip().rpartition("|")
        found[name] = math.inf if limit in ("infinite", "n/a") else seconds_of(limit) / 60
    return found


UP = ("idle", "mix", "alloc", "comp", "plnd")
"""Short names of the states in which a node takes jobs, or will when those that it has are done."""


def nodes_away(partition: str | None, cpus: int, memory_gb: float, gpus: int) -> list[str]:
    """Nodes of ``partition`` (None: of any) with as much as this that are not up: drained, down, maintained, silent.

    A job for them waits, though ``sbatch --test-only`` refuses it as if there were no such node.
    """
    chosen = ("--partition", partition) if partition else ()
    shown = ("--noheader", "--Node", "--format=%N|%c|%m|%G|%t")
    found = []
    for line in call("sinfo", *shown, *chosen, timeout=QUICK_SECONDS, wait=MOMENT).splitlines():
        name, its_cpus, megabytes, gres, state = line.strip().split("|")
        enough = int(its_cpus) >= cpus and int(megabytes) >= int(memory_gb * 1024) and gpus_in(gres) >= gpus
        if enough and state not in UP:
            found.append(name)
    return list(dict.fromkeys(found))


def gpus_in(gres: str) -> int:
    """How many GPUs a list of generic resources names: ``gpu:a100:4(S:0-1)``."""
    return sum(int(count) for count in re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres))


def my_accounts() -> list[str]:
    """Slurm accounts of this user, the default one first; empty where no accounts are kept."""
    try:
        which = ("show", "user", getpass.getuser(), "withassoc", "format=defaultaccount,account")
        text = call("sacctmgr", "--noheader", "--parsable2", *which)
    except SlurmError:
        return []
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    return list(dict.fromkeys(row[place] for place in (0, 1) for row in rows))


def release(jobs: Sequence[str]) -> None:
    """Let held ``jobs`` go; one that has begun or ended meanwhile is passed over."""
    for job in jobs:
        with suppress(SlurmError):
            call("scontrol", "release", job, wait=MOMENT)


def cancel(jobs: Sequence[str]) -> None:
    """Cancel ``jobs``; those that have ended already are passed over.

    A pending array element is held first: cancelled straight away it would leave no trace in Slurm's books.
    """
    for start in range(0, len(jobs), 500):
        block = jobs[start : start + 500]
        elements = [job for job in block if "_" in job]
        if elements:
            # Running or ended elements cannot be held; scancel below tells of real trouble.
            with suppress(SlurmError):
                call("scontrol", "hold", ",".join(elements), wait=MOMENT)
        try:
            call("scancel", *block, wait=MOMENT)
        except SlurmError as error:
            if not any(one in str(error) for one in (NO_JOB, "already completing or completed")):
                raise
