"""The scratch folder of a shard: what an attempt keeps for its successor, locked by the one that works in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modpo_hpc.core.atomic import write_text

SCRATCH = ".work"


@contextmanager
def scratch_folder(stage_folder: Path, shard: str, inputs: str) -> Iterator[Path]:
    """The folder in which an attempt keeps what its successor can resume from.

    What an attempt with other ``inputs`` left there is thrown away first.

    One attempt owns it at a time (an advisory lock, released by the kernel when the owner dies). A second attempt
    that runs at the same time gets a folder of its own, so two writers cannot harm each other.
    """
    base = stage_folder / SCRATCH
    base.mkdir(parents=True, exist_ok=True)
    with open(base / f"{shard}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = base / shard
        except OSError:
            folder = base / f"{shard}.{socket.gethostname()}.{os.getpid()}"
        origin = folder / "inputs"
        if folder.exists() and not (origin.exists() and origin.read_text() == inputs):
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        write_text(origin, inputs)
        yield folder


def discard_scratch(stage_folder: Path, shard: str, folder: Path) -> None:
    """Remove the scratch ``folder`` of a finished shard, and its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.name == shard:
        (stage_folder / SCRATCH / f"{shard}.lock").unlink(missing_ok=True)
