"""Policies of one Slurm job: a process each, beside one process on one base model that stays loaded.

The bytes of every policy must be the same; CPU seconds are of the whole job, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.alignment.test_policies import content
from tests.alignment.world import WORDS, started_run, study_of
from tests.bench.measuring import SYSTEM, tell
from tests.tiny_mistral import save_tiny_mistral

POLICIES = ["SFT", "DPO", "DPO_Safety", "MODPO", "Joint", "Again"]


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, study: dict[str, Any], resident: bool) -> dict[str, Any]:
    """One job that makes all policies of a new run."""
    os.environ["MODPO_LOGS"] = str(folder / "logs")
    run = started_run(folder / "run", study, questions=14)
    tasks = {"run": str(run.root), "stage": "policies", "tasks": [POLICIES], "again": [], "resident": resident}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    before = cpu_seconds()
    subprocess.run(
        [sys.executable, "-m", "modpo_hpc.launch.task", str(folder)],
        env={**os.environ, "SLURM_JOB_ID": "1"},
        stderr=subprocess.DEVNULL,
        check=True,
    )
    used = cpu_seconds() - before
    logs = [log.read_text() for log in run.logs.glob("policies/*/attempt_1.out")]
    return {
        "resident": resident,
        "cpu_seconds": round(used, 1),
        "loads": sum("Loading weights" in log for log in logs),
        "made": {policy: content(run.folder("policies") / policy) for policy in POLICIES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2048, help="of the base model of two layers")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="resident-") as where:
        folder = Path(where)
        model = save_tiny_mistral(folder / "model", words=WORDS, width=arguments.width)
        again = {"method": "dpo", "criteria": {"manner": 1}}
        study = study_of(model, folder / "posts.csv", {"epochs": 1}, Again=again)
        for turn in range(arguments.rounds):
            for resident in (False, True):
                place = folder / f"{turn}-{resident}"
                place.mkdir()
                rows.append(measure(place, study, resident))
                print({key: value for key, value in rows[-1].items() if key != "made"}, flush=True)
    apart, together = (min(row["cpu_seconds"] for row in rows if row["resident"] == one) for one in (False, True))
    equal = all(row["made"] == rows[0]["made"] for row in rows)
    tell(
        "resident",
        ratio=round(apart / together, 2),
        policies=len(POLICIES),
        cpu_seconds_apart=apart,
        cpu_seconds_resident=together,
        loads_apart=rows[0]["loads"],
        loads_resident=rows[1]["loads"],
        equal_bytes=equal,
        machine=SYSTEM,
    )
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
