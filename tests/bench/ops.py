"""Status of a run of 5,000 shards, and ``modpo --help``: seconds from the shell's point of view.

The run has 5,000 shards of responses, half of them with markers; the other half can be in the books of a real Slurm
(held, so that nothing is computed). The ratio is the bound that was set over what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modpo_hpc import shards
from modpo_hpc.run import Run
from modpo_hpc.study import load_study

STATUS_BOUND, HELP_BOUND = 1.0, 0.3
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def make_run(folder: Path, wanted: int) -> Run:
    """A run with markers of half of its ``wanted`` shards of responses; the other half is still to do."""
    study = load_study(REPOSITORY / "configs" / "demo.yaml", [f"shards.responses={wanted}"])
    run = Run.create(folder / "run", study)
    for stage in ("questions", "models", "responses"):
        ids, inputs = run.shard_ids(stage), run.inputs(stage)
        for number, shard in enumerate(ids[: max(1, len(ids) // 2)]):
            output = {f"{shard}.parquet": shards.Output(10_000, f"{number:064x}", 100)}
            marker = shards.Marker(stage, shard, inputs, output, time.time() - 9, 8.0, "n1", None, 1)
            shards.write_marker(run.folder(stage), marker)
    return run


def seconds(*words: str) -> float:
    """Wall time of a modpo command, from the start of the interpreter to its end."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "modpo_hpc", *words], env=environment, capture_output=True, text=True)
    took = time.perf_counter() - began
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--profile", help="submit the missing shards too, held, so that squeue and sacct have to answer"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODPO_LOGS"] = f"{folder}/logs"
        run = make_run(Path(folder), arguments.shards)
        jobs: list[str] = []
        if arguments.profile:
            jobs = submit_held(run, arguments.profile)
        taken: dict[str, list[float]] = {"status": [], "help": []}
        try:
            for _ in range(arguments.repeats):
                taken["status"].append(seconds("status", str(run.root), "--json"))
                taken["help"].append(seconds("--help"))
        finally:
            if jobs:
                subprocess.run(["scancel", *jobs], check=False)
    status, help_ = statistics.median(taken["status"]), statistics.median(taken["help"])
    print(f"status of {arguments.shards} shards: {status:.2f} s; modpo --help: {help_:.2f} s (medians)")
    print(
        json.dumps(
            {
                "name": "ops",
                "ratios": {
                    "status against its bound": STATUS_BOUND / status,
                    "help against its bound": HELP_BOUND / help_,
                },
                "absolute": {"status_s": round(status, 3), "help_s": round(help_, 3), "shards": arguments.shards},
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            }
        )
    )


def submit_held(run: Run, profile: str) -> list[str]:
    """Hand the missing responses to Slurm, with a dependency that is never fulfilled, and return the array ids."""
    from modpo_hpc.launch.graph import Work
    from modpo_hpc.launch.profile import load_profile
    from modpo_hpc.launch.slurm import Submitter

    held = load_profile(profile).model_copy(update={"sbatch": {"hold": True}})
    work = Work("responses", tuple(run.missing("responses")), (), ())
    return [one.job for one in Submitter(run, held).submit([work], {})]


if __name__ == "__main__":
    main()
