"""One adapter for every weight beside the exact soup and beside a training for each weight, in the sandbox.

    python tests/bench/front.py [--seeds 61 62 63 64 65] [--criteria two|six] [--size full|small] [--each]
                                [--specialist-epochs N] [--runs DIR]

Each seed is a run of a study that is made here from configs/demo.yaml: DPO on each criterion, then families at the same
weights, ends included (nine of two criteria, 21 of six): the exact soup of the specialists, the conditioned adapter
that begins as that soup and is trained mostly near the ends, and with --each MODPO trained for each weight in between.
All policies draw their answers with common random numbers, so that the same adapter has the same reward twice. Seeds
and settings stand here, before anything was run with them: the settings were chosen on seeds 42, 45 and 51;
docs/fronts.md has every set of seeds that was run, with which settings. --specialist-epochs is the control: is the gain
over the soup more than that of training longer? Each seed is printed as it comes out; runs are kept in DIR, where the
same command goes on. What is measured: hypervolume of the rewards of the answers above the base model's, each family's
range as a share of the specialists', Kendall's tau, CPU seconds of training, bytes on disk and the most memory that a
training took. The last line is one JSON object. A claim that does not hold is no error.
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
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from modpo_hpc.core.markers import read_marker  # noqa: E402
from modpo_hpc.report.fronts import read_fronts  # noqa: E402
from modpo_hpc.run import Run  # noqa: E402

SEEDS = (61, 62, 63, 64, 65)
CRITERIA = {
    "two": ("empathy", "safety"),
    "six": ("empathy", "active_listening", "self_motivated_change", "trust_rapport", "patient_autonomy", "safety"),
}
WEIGHTS = {"two": 9, "six": 21}
WANTED_VOLUME, WANTED_RANGE = 1.05, 0.95
CONDITIONED = {"concentration": 0.1, "training": {"epochs": 8}}
QUESTIONS = {"two": 1200, "six": 400}
"""For the test: neighbours of nine weights are told apart by many answers; of six criteria there are 42 policies."""
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {
        "data.use_train": 200,
        "data.use_test": 60,
        "models.teach_steps": 300,
        "rewards.search.trials": 1,
        "rewards.folds": 2,
        "ranking.personas_per_question": 20,
    },
}


def settings_of(
    size: str, seed: int, which: str = "two", each: bool = False, epochs: int | None = None
) -> dict[str, Any]:
    """What differs from configs/demo.yaml; with ``each``, a MODPO training for each weight in between, too.

    ``epochs`` are those of the specialists, where they are not the demo's.
    """
    criteria = CRITERIA[which]
    experts = {criterion: f"DPO_{criterion.title()}" for criterion in criteria}
    equal = dict.fromkeys(criteria, 1 / len(criteria))
    grid = {"weights": WEIGHTS[which], "ends": True}
    trained = {"training": {"epochs": epochs}} if epochs else {}
    between = WEIGHTS[which] - len(criteria) if size == "full" else 1
    return {
        "seed": seed,
        "generation.common_random_numbers": True,
        "criteria.rank": list(criteria),
        "data.sandbox_test": QUESTIONS[which],
        "data.use_test": QUESTIONS[which],
        **SIZES[size],
        "alignment.policies": {
            "Base": {"method": "base"},
            **{name: {"method": "dpo", "criteria": {criterion: 1}, **trained} for criterion, name in experts.items()},
            "One": {"method": "conditioned", "criteria": equal, "start": experts, **CONDITIONED},
        },
        "alignment.sweep": [
            {"name": "Soup", "method": "soup", "sources": list(experts.values()), **grid},
            {"name": "Conditioned", "method": "at_weights", "of": "One", "criteria": list(criteria), **grid},
            *([{"name": "MODPO", "method": "modpo", "criteria": list(criteria), "weights": between}] if each else []),
        ],
        "judging.phases": {"phase1": {"policies": ["Base", "One"], "criteria": list(criteria)}},
        "statistics.non_inferiority": {},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--criteria", choices=CRITERIA, default="two")
    parser.add_argument("--each", action="store_true", help="with two criteria: train MODPO for each weight in between")
    parser.add_argument("--specialist-epochs", type=int, metavar="N", help="instead of the demo's 4")
    parser.add_argument("--runs", type=Path, help="where runs are kept; a temporary folder if not given")
    arguments = parser.parse_args()
    if arguments.each and arguments.criteria != "two":
        parser.error("--each goes with two criteria")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        found = []
        for seed in arguments.seeds:
            settings = settings_of(
                arguments.size, seed, arguments.criteria, arguments.each, arguments.specialist_epochs
            )
            run = carry_out(folder / f"{arguments.criteria}-{arguments.size}-{seed}", settings)
            found.append(measured(run))
            print(_line(seed, found[-1]), flush=True)
    print(json.dumps(summary(arguments.size, arguments.seeds, found)))
    return 0


def carry_out(root: Path, settings: dict[str, Any]) -> Run:
    """The run of one seed, to the fronts and no further."""
    words = [part for field, value in settings.items() for part in ("--set", f"{field}={json.dumps(value)}")]
    command = [sys.executable, "-m", "modpo_hpc", "run", "configs/demo.yaml", "--run", str(root), "--until", "fronts"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MODPO_LOGS": str(root.parent / "logs")}
    done = subprocess.run([*command, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return Run.open(root)


def measured(run: Run) -> dict[str, Any]:
    """What one seed gave."""
    tables = read_fronts(run)
    volumes = {row["family"]: row for row in tables["families"]}
    ranges = {name: [row for row in tables["ranges"] if row["family"] == name] for name in volumes}
    ways = {
        "one": {"conditioned": ["One"]},
        "each": {"policies": [name for name in run.shard_ids("policies") if name.startswith("MODPO")]},
        "specialists": {"policies": [name for name in run.shard_ids("policies") if name.startswith("DPO")]},
    }
    return {
        "volume": {name: row["hypervolume"] for name, row in volumes.items()},
        "ratio": {name: [row[f"ratio{end}"] for end in ("", "_low", "_high")] for name, row in volumes.items()},
        "share": {name: min(row["share"] for row in rows) for name, rows in ranges.items()},
        "tau": {name: min(row["tau"] for row in rows) for name, rows in ranges.items()},
        "cost": {name: cost(run, way) for name, way in ways.items()},
    }


def cost(run: Run, way: dict[str, list[str]]) -> dict[str, float]:
    """Of the trainings of these shards: seconds of a CPU, the most memory of one (MB), bytes on disk (MB)."""
    markers = [read_marker(run.folder(stage), shard) for stage, names in way.items() for shard in names]
    there = [marker for marker in markers if marker is not None]
    return {
        "trainings": len(there),
        "cpu_seconds": sum(marker.metrics.get("cpu_seconds", marker.seconds) for marker in there),
        "memory_mb": max((marker.metrics.get("peak_memory_gb", 0.0) * 1000 for marker in there), default=0.0),
        "disk_mb": sum(output.bytes for marker in there for output in marker.outputs.values()) / 1e6,
    }


def _line(seed: int, one: dict[str, Any]) -> str:
    ratio = one["ratio"]["Conditioned"]
    families = "; ".join(
        f"{name} {one['volume'][name]:.3f}, least range {one['share'][name]:.2f}, least tau {one['tau'][name]:.2f}"
        for name in one["volume"]
    )
    costs = "; ".join(
        f"{name} {cost['trainings']} trainings {cost['cpu_seconds']:.0f} s {cost['memory_mb']:.0f} MB"
        for name, cost in one["cost"].items()
    )
    return (
        f"seed {seed}: hypervolume {families}; conditioned {ratio[0]:.3f} times the soup's, {ratio[1]:.3f} to "
        f"{ratio[2]:.3f}; {costs}"
    )


def summary(size: str, seeds: list[int], found: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [one["ratio"]["Conditioned"][0] for one in found]
    shares, taus = ([one[name]["Conditioned"] for one in found] for name in ("share", "tau"))
    return {
        "name": "front",
        "ratios": {"hypervolume of conditioned to soup, median": statistics.median(ratios)},
        "figures": {
            "size": size,
            "seeds": seeds,
            f"seeds with {WANTED_VOLUME:g} times the soup's hypervolume": sum(one >= WANTED_VOLUME for one in ratios),
            f"seeds with {WANTED_RANGE:.0%} of the specialists' range": sum(one >= WANTED_RANGE for one in shares),
            "seeds with tau 1": sum(one >= 1 for one in taus),
            "each": found,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }


if __name__ == "__main__":
    sys.exit(main())
