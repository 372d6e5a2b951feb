"""The rule judge, end to end, at the size of the paper's first phase.

21 pairs x 600 questions x 50 personas x 2 criteria are 1.26 million verdicts. Shards run as ``python jobs/judge.py``
runs them, four at a time, each with its prompts, keys, ledger, parsing and table. Memory is the resident memory of the
largest process when a quarter, a half, three quarters and all of the shards are done: a process holds the judgments of
the shard that it is at, and nothing of those before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from modpo_hpc.core.markers import marker_path
from modpo_hpc.run import Run
from tests.bench.measuring import CORES, tell
from tests.judging.servers import REPOSITORY
from tests.judging.worlds import world

POLICIES = ("Base", *(f"Policy{number}" for number in range(1, 7)))
TARGET, QUARTERS = 5000, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = measure(Path(folder) / "whole", arguments.questions, arguments.processes)
    rate = whole["verdicts"] / whole["seconds"]
    ratios = {
        "rate_to_5000_a_second": round(rate / TARGET, 2),
        "memory_at_a_quarter_to_end": round(whole["rss_mb"][0] / whole["rss_mb"][-1], 3),
    }
    machine = f"{CORES}, {arguments.processes} processes"
    tell("judge_rules", ratios=ratios, verdicts_per_second=round(rate), **whole, machine=machine)


def measure(folder: Path, questions: int, processes: int) -> dict[str, Any]:
    """Judge all pairs; verdicts, seconds, resident memory of the largest process by quarters, bytes of the ledger."""
    run = world(folder, train=8, test=questions, personas=100, policies=POLICIES)
    shards = run.shard_ids("verdicts")
    start = time.monotonic()
    running = [judge(run, shards[number::processes]) for number in range(processes)]
    largest = [0] * (QUARTERS + 1)
    while any(process.poll() is None for process in running):
        done = sum(marker_path(run.folder("verdicts"), shard).exists() for shard in shards)
        quarter = min(QUARTERS, 1 + QUARTERS * done // (len(shards) + 1))
        largest[quarter] = max(largest[quarter], *(resident(process.pid) for process in running))
        time.sleep(0.05)
    seconds = time.monotonic() - start
    assert all(process.returncode == 0 for process in running)
    ledger = sum(path.stat().st_size for path in (run.root / "ledger").iterdir())
    return {
        "verdicts": run.table("verdicts", ["first"]).num_rows,
        "seconds": round(seconds, 1),
        "rss_mb": [round(one / 1e6) for one in largest[1:]],
        "ledger_mb": round(ledger / 1e6, 1),
    }


def judge(run: Run, shards: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that runs ``shards`` one after the other."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "jobs/judge.py", str(run.root), "--shard", *shards]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)


def resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 when it has ended."""
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
