"""How Slurm writes times, sizes and ids. Functions of text."""

from __future__ import annotations

import re
from datetime import datetime


def instant(text: str) -> float | None:
    """A time as Slurm writes it, in seconds since 1970; None for ``Unknown``, ``N/A`` and the like."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def seconds_of(elapsed: str) -> int:
    """``1-02:03:04``, ``02:03:04``, ``3:04`` or ``INVALID`` as seconds."""
    days, _, clock = elapsed.rpartition("-")
    total = 0
    for part in clock.split(":"):
        if not part.isdigit():
            return 0
        total = total * 60 + int(part)
    return total + int(days or 0) * 86400


def array_of(job: str) -> str:
    """The array of an element; a single job is its own."""
    return job.partition("_")[0]


def count_of(text: str, name: str) -> int:
    """How many of ``name`` there are in a list of resources: 4 of ``gres/gpu`` in ``cpu=2,gres/gpu:a100=4``."""
    found = re.search(rf"(?:^|,){re.escape(name)}(?::\w+)?=(\d+)", text)
    return int(found[1]) if found else 0


def megabytes_of(text: str) -> float | None:
    """``1.5G``, ``300M``, ``2172K`` or bytes in megabytes; None for anything else."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)[cn]?", text)
    if found is None:
        return None
    return float(found[1]) * {"": 1 / 1024 / 1024, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}[found[2]]


def expand_job(job: str) -> list[str]:
    """``7_[1,3-5%2]`` as ``7_1``, ``7_3``, ``7_4``, ``7_5``; any other id as it is."""
    found = re.fullmatch(r"(\d+)_\[([\d,\-]+)(?:%\d+)?\]", job)
    if found is None:
        return [job]
    ids = []
    for part in found[2].split(","):
        low, _, high = part.partition("-")
        ids += [f"{found[1]}_{index}" for index in range(int(low), int(high or low) + 1)]
    return ids
