"""The bytes that every stage makes of a tiny study, held: whoever changes what a stage makes raises its version.

    python -m tests.core.held_bytes --update     after a stage's version was raised

The run uses the plainest instructions of the processor, so that its bytes are those of every x86-64 machine with the
versions of constraints.txt; elsewhere nothing is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modpo_hpc.core.contents import hash_of
from modpo_hpc.pipeline import STAGES
from modpo_hpc.provenance import package_versions
from modpo_hpc.run import Run
from tests.tiny_study import tiny_study, write_study

HELD = Path(__file__).with_name("held_bytes.json")
PLAIN_ARITHMETIC: Mapping[str, str] = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
    "OMP_NUM_THREADS": "1",
}
OF_TIMES = ("report",)
"""The report tells when things were made and how long that took."""


def fingerprint() -> dict[str, str]:
    """What must be the same for bytes to be the same."""
    counted = ("torch", "transformers", "peft", "optuna", "scipy", "numpy", "pyarrow")
    return {"machine": platform.machine(), **{name: package_versions()[name] for name in counted}}


def run_tiny(folder: Path) -> Run:
    """A run of the tiny study from nothing, in plain arithmetic."""
    study = write_study(folder, tiny_study(folder))
    environment = {**os.environ, **PLAIN_ARITHMETIC, "MODPO_LOGS": str(folder / "logs")}
    command = [sys.executable, "-m", "modpo_hpc", "run", str(study), "--run", str(folder / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return Run.open(folder / "run")


def made(run: Run) -> dict[str, dict[str, str]]:
    """Stage -> its version, a hash of what its shards were made from, and one of their outputs."""
    found = {}
    for stage in STAGES:
        markers = run.done(stage.name)
        if markers and stage.name not in OF_TIMES:
            outputs = {
                f"{shard}/{name}": output.sha256
                for shard, marker in markers.items()
                for name, output in marker.outputs.items()
            }
            inputs = {shard: marker.inputs for shard, marker in markers.items()}
            found[stage.name] = {"version": str(stage.version), "from": hash_of(inputs), "bytes": hash_of(outputs)}
    return found


def not_raised(held: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Stages that made other bytes from the same, under the same version."""
    return [
        stage
        for stage, one in now.items()
        if (before := held.get(stage)) and before["from"] == one["from"] and before["bytes"] != one["bytes"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="hold the bytes of now")
    arguments = parser.parse_args()
    held = json.loads(HELD.read_text()) if HELD.exists() else {"stages": {}}
    with tempfile.TemporaryDirectory() as where:
        now = made(run_tiny(Path(where)))
    if (stages := not_raised(held["stages"], now)) and held.get("made_with") == fingerprint():
        sys.exit(f"{', '.join(stages)}: other bytes from the same; raise `version` of the stage in modpo_hpc/stages")
    if arguments.update:
        HELD.write_text(json.dumps({"made_with": fingerprint(), "stages": now}, indent=1) + "\n")
    print(json.dumps(now, indent=1))


if __name__ == "__main__":
    main()
