"""Recipes whose shards meet the fate that a test wrote down for them, in the folder MODPO_TEST_FATES."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from modpo_hpc.errors import InputError
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run, Shard

SCHEMA = pa.schema([("stage", pa.string()), ("shard", pa.string()), ("step", pa.int32())])
STEPS = 40
HELD_AT = 4  # the step after which a held shard waits


def make(run: Run, shard: Shard) -> None:
    """A table of a few rows, made step by step so that it can be stopped and resumed; or what the test wants."""
    fate, _, argument = _fate(shard).partition(" ")
    if fate == "raise":
        raise ValueError(f"shard {shard.id} met a wall at step 17 of /some/file_{shard.id}.txt")
    if fate in ("raise-on", "raise-twice-on") and os.environ.get("SLURMD_NODENAME") == argument:
        _fallen().joinpath(shard.id).touch()
        raise RuntimeError(f"no module for this CPU on {argument}")
    if fate == "bad-input":
        raise InputError("the survey has no column 'age'", file="survey.csv", remedy="Add the column.")
    if fate == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fate == "memory":
        hoard: list[bytes] = []
        while len(hoard) < 60:
            hoard.append(b"x" * (20 << 20))
            time.sleep(0.1)
        if int(os.environ["SLURM_MEM_PER_NODE"]) < len(hoard) * 20:
            _sleep_for_ever()  # until Slurm has looked
    if fate == "kill":
        with shard.file("half.txt") as stream:
            stream.write("half a word")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    if fate == "deaf":
        _sleep_for_ever()
    with shard.journal() as journal:
        for step in range(len(journal.rows), STEPS):
            journal.append([{"step": step}])
            shard.progress(step + 1, STEPS, "steps")
            shard.check()
            while step >= HELD_AT and _is_held(shard):
                time.sleep(0.05)
                shard.check()
        rows = [{"stage": shard.stage.name, "shard": shard.id, "step": row["step"]} for row in journal.rows]
    if fate == "otherwise":
        rows = rows[::-1]
    shard.write_table(rows, SCHEMA)


def write_recipes(folder: Path) -> None:
    """A recipe for every stage, for MODPO_JOBS."""
    folder.mkdir()
    for stage in STAGES:
        (folder / f"{stage.verb}.py").write_text(f"from tests.slurm.fates import make as {stage.verb}\n")


def _is_held(shard: Shard) -> bool:
    """Whether a shard waits: until the test has mercy, or until a bad node has failed two others."""
    fate = _fate(shard)
    return fate == "hold" or (fate.startswith("raise-twice-on") and len(list(_fallen().iterdir())) < 2)


def _fate(shard: Shard) -> str:
    path = Path(os.environ["MODPO_TEST_FATES"]) / f"{shard.stage.name}.{shard.id}"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _fallen() -> Path:
    folder = Path(os.environ["MODPO_TEST_FATES"]).with_name("fallen")
    folder.mkdir(exist_ok=True)
    return folder


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(1)
