"""The rule judge, end to end, at the size of the paper's first phase.

21 pairs x 600 questions x 50 personas x 2 criteria are 1.26 million verdicts. Shards run as ``python jobs/judge.py``
runs them, four at a time, each with its prompts, keys, ledger, parsing and table. Memory is that of the largest
process, at a quarter of the questions and at all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modpo_hpc.run import Run
from tests.judging.servers import REPOSITORY
from tests.judging.worlds import world

POLICIES = ("Base", *(f"Policy{number}" for number in range(1, 7)))
TARGET = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = measure(Path(folder) / "small", arguments.questions // 4, arguments.processes)
        whole = measure(Path(folder) / "whole", arguments.questions, arguments.processes)
    rate = whole["verdicts"] / whole["seconds"]
    print(
        json.dumps(
            {
                "name": "judge_rules",
                "ratios": {
                    "rate_to_5000_a_second": round(rate / TARGET, 2),
                    "memory_quarter_to_whole": round(small["peak_mb"] / whole["peak_mb"], 3),
                },
                "verdicts_per_second": round(rate),
                **whole,
                "peak_mb_at_a_quarter": small["peak_mb"],
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {arguments.processes} processes",
            }
        )
    )


def measure(folder: Path, questions: int, processes: int) -> dict[str, float]:
    """Judge all pairs; verdicts, seconds, largest resident memory of a process, bytes of the ledger."""
    run = world(folder, train=8, test=questions, personas=100, policies=POLICIES)
    shards = run.shard_ids("verdicts")
    start = time.monotonic()
    with ThreadPoolExecutor(processes) as workers:
        peaks = list(workers.map(lambda number: judge(run, shards[number::processes]), range(processes)))
    seconds = time.monotonic() - start
    ledger = sum(path.stat().st_size for path in (run.root / "ledger").iterdir())
    return {
        "verdicts": run.table("verdicts", ["first"]).num_rows,
        "seconds": round(seconds, 1),
        "peak_mb": round(max(peaks) / 1024),
        "ledger_mb": round(ledger / 1e6, 1),
    }


def judge(run: Run, shards: Sequence[str]) -> int:
    """Run shards in one process; its peak resident memory in KiB."""
    program = (
        "import resource, runpy, sys; sys.argv = ['jobs/judge.py', *sys.argv[1:]]; "
        "runpy.run_path('jobs/judge.py', run_name='__main__'); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(run.root), "--shard", *shards]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


if __name__ == "__main__":
    main()
