"""What a change to a finished study costs: the shards that are kept and made again, and that the results are right.

A tiny study is run once. Then, for each change, a copy of that run follows the changed study, and the same study is
run from nothing. Printed for each: the shards that were made again beside the least, worked out by hand, and whether
every result is equal, byte for byte, to the run from nothing (all tables and weights; the report tells of times), and
the CPU seconds of what was made again as a share of those of the run from nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from modpo_hpc.core.markers import Marker
from modpo_hpc.run import Run
from tests.bench.measuring import machine, table_row, tell
from tests.changes_of_a_study import CHANGES, StudyChange
from tests.tiny_study import tiny_study, write_study

NOT_COMPARED = ("report",)


def modpo(*words: object) -> None:
    """A command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "modpo_hpc", *map(str, words)], capture_output=True, text=True, env=dict(os.environ)
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def markers(run: Run) -> dict[tuple[str, str], Marker]:
    """(stage, shard) -> marker, of every shard of the study."""
    from modpo_hpc.pipeline import STAGES

    return {(stage.name, shard): one for stage in STAGES for shard, one in run.done(stage.name).items()}


def cpu_seconds(run: Run, shards: set[tuple[str, str]]) -> float:
    known = markers(run)
    return sum(known[key].metrics["cpu_seconds"] for key in shards)


def outputs(run: Run) -> dict[str, str]:
    """File -> hash, of all results that must be equal."""
    return {
        f"{stage}/{name}": output.sha256
        for (stage, _), marker in markers(run).items()
        if stage not in NOT_COMPARED
        for name, output in marker.outputs.items()
        if not name.endswith(("log.jsonl", "statistics.json"))
    }


def expected(change: StudyChange, run: Run) -> set[tuple[str, str]]:
    """The least that must be made again."""
    least = change.again if change.in_the_end is None else change.in_the_end
    return {
        (stage, shard)
        for stage, listed in least.items()
        for shard in (run.shard_ids(stage) if listed == ("*",) else listed)
    }


def try_change(change: StudyChange, folder: Path, finished: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    place = folder / change.name.replace(" ", "-")
    subprocess.run(["cp", "-a", str(finished.parent), str(place)], check=True)
    changed = json.loads(json.dumps(raw).replace(str(finished.parent), str(place)))
    edited = copy.deepcopy(changed)
    change.edit(edited, place)
    study, followed, anew = write_study(place, edited), place / "run", place / "anew"
    before = {key: one.started for key, one in markers(Run.open(finished)).items()}
    modpo("run", study, "--run", followed)
    modpo("run", study, "--run", anew)
    mine, theirs = Run.open(followed), Run.open(anew)
    made = {key for key, one in markers(mine).items() if before.get(key) != one.started}
    least = expected(change, mine)
    return {
        "change": change.name,
        "shards": len(markers(mine)),
        "kept": len(markers(mine)) - len(made),
        "again": len(made),
        "least": len(least),
        "beyond": sorted(map("/".join, made - least)),
        "short": sorted(map("/".join, least - made)),
        "equal": outputs(mine) == outputs(theirs),
        "files": len(outputs(theirs)),
        "cpu_share": round(cpu_seconds(mine, made) / cpu_seconds(theirs, set(markers(theirs))), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="a word in the name of the change")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="changes-") as where:
        folder = Path(where)
        os.environ["MODPO_LOGS"] = str(folder / "logs")
        raw = tiny_study(folder / "finished")
        finished = folder / "finished" / "run"
        modpo("run", write_study(finished.parent, raw), "--run", finished)
        columns = ("shards", "kept", "again", "the least, by hand", "equal to a run from nothing", "share of its CPU")
        print(table_row(["change", *columns]))
        print("| --- | --: | --: | --: | --: | --- | --: |")
        rows = []
        for change in CHANGES:
            if arguments.only and arguments.only not in change.name:
                continue
            tried = try_change(change, folder, finished, raw)
            rows.append(tried)
            equal = f"yes, {tried['files']} files" if tried["equal"] else "NO"
            beyond = f" (+ {', '.join(tried['beyond'][:3])})" if tried["beyond"] else ""
            short = f" (- {', '.join(tried['short'][:3])})" if tried["short"] else ""
            shards = (tried["shards"], tried["kept"], f"{tried['again']}{beyond}{short}", tried["least"])
            print(table_row([tried["change"], *shards, equal, f"{tried['cpu_share']:.2f}"]), flush=True)
    tell("changes", rows=rows, machine=machine())
    if any(not one["equal"] or one["beyond"] or one["short"] for one in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
