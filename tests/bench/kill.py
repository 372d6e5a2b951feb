"""Kill a whole run with SIGKILL at random instants, go on with the same command, compare every table byte for byte.

    python tests/bench/kill.py --kills 10 [--study configs/demo-smallest.yaml]

Prints the instants, then one JSON object. Exit code 1 if a byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="configs/demo-smallest.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--until", default="report")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="modpo-kill-") as place:
        calm, killed = Path(place) / "calm", Path(place) / "killed"

        def start(run: Path) -> subprocess.Popen[bytes]:
            overrides = [word for setting in arguments.overrides for word in ("--set", setting)]
            command = [sys.executable, "-m", "modpo_hpc", "run", arguments.study, "--run", str(run)]
            return subprocess.Popen(
                [*command, "--until", arguments.until, *overrides],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "MODPO_LOGS": f"{place}/logs"},
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

        started = time.monotonic()
        if code := start(calm).wait():
            print(f"the undisturbed run failed with exit code {code}", file=sys.stderr)
            return 1
        whole = time.monotonic() - started
        print(f"undisturbed: {whole:.0f} s", flush=True)
        kills = 0
        while kills < arguments.kills:
            process = start(killed)
            instant = draw.uniform(0.02, 0.6) * whole
            try:
                code = process.wait(timeout=instant)
                if code != 0:
                    print(f"the run failed by itself with exit code {code}", file=sys.stderr)
                    return 1
                print("finished before its kill; starts over in a new folder", flush=True)
                killed = Path(place) / f"killed{kills}"
                continue
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            kills += 1
            done = sum(1 for _ in killed.glob("*/markers/*.json"))
            print(f"kill {kills} after {instant:.1f} s, {done} shards done so far", flush=True)
        if code := start(killed).wait():
            print(f"the run after the kills failed with exit code {code}", file=sys.stderr)
            return 1
        before, after = tables(calm), tables(killed)
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in different:
        print(f"differs: {name}", file=sys.stderr)
    report = {
        "name": "kill",
        "kills": kills,
        "tables": len(before),
        "different": different,
        "undisturbed_s": round(whole),
    }
    print(json.dumps(report))
    return 1 if different or not before else 0


def tables(run: Path) -> dict[str, str]:
    """SHA-256 of every Parquet file of a run, by its path in the run."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.parquet"))
    }


if __name__ == "__main__":
    sys.exit(main())
