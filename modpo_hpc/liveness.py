"""Which process on which machine this is, and whether another one is known to be gone."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

import psutil


def this_process() -> str:
    """A name of this process that no other process has, now or later: machine, pid, time of start."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_started(pid)}"


def is_dead(name: str) -> bool | None:
    """Whether the process called ``name`` is gone; None if it runs on a machine that we cannot look into."""
    machine, pid, started = name.rsplit("/", 2)
    if machine != _machine():
        return None
    return _started(int(pid)) != started


def _started(pid: int) -> str | None:
    """When process ``pid`` started, in words that no clock adjustment changes; None if it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if psutil.LINUX:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


@lru_cache(maxsize=1)
def _machine() -> str:
    """Host and process-id namespace: containers on one host do not see each other's processes."""
    number = os.readlink("/proc/self/ns/pid") if psutil.LINUX else ""
    return f"{socket.gethostname()}{number}"
