"""The paper's finding in the sandbox, over several study seeds: whole runs, then one table, exceptions included.

    python tests/bench/sandbox_finding.py --seeds 42 43 44 45 46 [--runs DIR] [--jobs N] [--whole-study]

Runs the study with its settings as they are and only the seed changed. By default the run stops at what the finding
needs: the policies of phase 1 and the two criteria that they are judged by (whatever else a study holds does not
change these; ``--whole-study`` runs it all). Runs are kept in DIR, where the same command goes on and only prints the
table if all is there. The last line is one JSON object. Exit code 1 if a run failed; a finding that does not hold
is printed, no error.
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from modpo_hpc.study import Study, load_study  # noqa: E402

PHASE, ALPHA = "phase1", 0.05
EMPATHY, SAFETY = "empathy", "safety"
BOUNDS, BETWEEN = ("DPO_Empathy", "DPO_Safety"), ("DPO_Soup", "Joint_DPO")


@dataclass(frozen=True)
class Finding:
    """What one seed gave: average win rates, policy -> criterion -> share, the two tests, and which claims hold."""

    rates: Mapping[str, Mapping[str, float]]
    safety_test: Mapping[str, Any]
    empathy_test: Mapping[str, Any]
    claims: Mapping[str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=REPOSITORY / "configs" / "demo.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44, 45, 46])
    parser.add_argument("--runs", type=Path, help="folder of the runs, kept; a temporary one if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="CPUs to use at once")
    parser.add_argument("--whole-study", action="store_true", help="every policy, criterion and phase")
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    with tempfile.TemporaryDirectory(prefix="modpo-finding-") as temporary:
        folder = arguments.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "study.yaml"
        plan = study.model_dump(mode="json") if arguments.whole_study else first_phase(study)
        file.write_text(yaml.safe_dump(plan, sort_keys=False))
        findings, seconds = {}, {}
        for seed in arguments.seeds:
            started = time.monotonic()
            if code := run_study(file, folder / f"seed{seed}", seed, arguments.jobs):
                print(f"the run of seed {seed} ended with exit code {code}", file=sys.stderr)
                return 1
            seconds[seed] = round(time.monotonic() - started, 1)
            findings[seed] = find(results(folder / f"seed{seed}"))
            print(table({seed: findings[seed]}), flush=True)
    print(table(findings))
    print(json.dumps(report(findings, seconds, arguments.jobs)))
    return 0


def first_phase(study: Study) -> dict[str, Any]:
    """The study with the policies and criteria of phase 1 alone."""
    plan = study.model_dump(mode="json")
    phase = plan["judging"]["phases"][PHASE]
    plan["judging"]["phases"] = {PHASE: phase}
    plan["criteria"]["rank"] = phase["criteria"]
    policies = plan["alignment"]["policies"]
    plan["alignment"]["policies"] = {name: policies[name] for name in phase["policies"]}
    return plan


def run_study(file: Path, run: Path, seed: int, jobs: int) -> int:
    command = [sys.executable, "-m", "modpo_hpc", "run", str(file), "--run", str(run), "--set", f"seed={seed}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MODPO_LOGS": str(run.parent / "logs")}
    options = ["--until", "statistics", "--jobs", str(jobs)]
    return subprocess.run([*command, *options], cwd=REPOSITORY, env=environment, check=False).returncode


def results(run: Path) -> Mapping[str, Any]:
    command = [sys.executable, "-m", "modpo_hpc", "results", str(run), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
    tables: Mapping[str, Any] = json.loads(answer.stdout)
    return tables


def find(told: Mapping[str, Any]) -> Finding:
    """The finding in the tables of one run (what ``modpo results --json`` prints)."""
    rates: dict[str, dict[str, float]] = {}
    for row in told["tables"]["ranking"]:
        if row["phase"] == PHASE:
            rates.setdefault(row["policy"], {})[row["criterion"]] = row["win_rate"]
    safety_test = head_to_head(told, SAFETY, "MODPO_Empathy", "DPO_Empathy")
    empathy_test = head_to_head(told, EMPATHY, "MODPO_Empathy", "Base")
    claims = {
        "DPO_Empathy has the highest empathy win rate": max(rates, key=lambda one: rates[one][EMPATHY]) == BOUNDS[0],
        "MODPO_Empathy beats DPO_Empathy on safety": won(safety_test),
        "MODPO_Empathy beats Base on empathy": won(empathy_test),
        **{f"{name} lies between": lies_between(rates, name) for name in BETWEEN},
    }
    return Finding(rates, safety_test, empathy_test, claims)


def head_to_head(told: Mapping[str, Any], criterion: str, one: str, other: str) -> dict[str, Any]:
    """Questions won by ``one`` and by ``other``, and the p-value of McNemar's test."""
    for row in told["tables"]["mcnemar"]:
        if (
            row["phase"] == PHASE
            and row["criterion"] == criterion
            and {row["policy_a"], row["policy_b"]} == {one, other}
        ):
            straight = row["policy_a"] == one
            return {"won": row["b" if straight else "c"], "lost": row["c" if straight else "b"], "p": row["p"]}
    raise KeyError(f"no test of {one} against {other} on {criterion}")


def won(test: Mapping[str, Any]) -> bool:
    return bool(test["won"] > test["lost"] and test["p"] < ALPHA)


def lies_between(rates: Mapping[str, Mapping[str, float]], name: str) -> bool:
    """Whether a policy is between DPO on empathy and DPO on safety, on both criteria."""
    return all(
        min(rates[bound][criterion] for bound in BOUNDS)
        <= rates[name][criterion]
        <= max(rates[bound][criterion] for bound in BOUNDS)
        for criterion in (EMPATHY, SAFETY)
    )


def table(findings: Mapping[int, Finding]) -> str:
    """A Markdown table of average win rates in per cent (empathy / safety), one of the tests, one of the claims."""
    seeds = list(findings)
    head = lambda first: [f"| {first} | " + " | ".join(map(str, seeds)) + " |", "| --- |" + " --- |" * len(seeds)]  # noqa: E731
    lines = ["sandbox: simulated judge and models", "", *head("empathy / safety, % won")]
    for policy in next(iter(findings.values())).rates:
        cells = [
            f"{100 * one.rates[policy][EMPATHY]:.1f} / {100 * one.rates[policy][SAFETY]:.1f}"
            for one in findings.values()
        ]
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    lines += ["", *head("won : lost (McNemar p)")]
    for title, name in (
        ("safety, MODPO_Empathy against DPO_Empathy", "safety_test"),
        ("empathy, MODPO_Empathy against Base", "empathy_test"),
    ):
        tests = [getattr(one, name) for one in findings.values()]
        lines.append(f"| {title} | " + " | ".join(f"{t['won']} : {t['lost']} ({t['p']:.2g})" for t in tests) + " |")
    lines += ["", *head("holds")]
    for claim in next(iter(findings.values())).claims:
        lines.append(
            f"| {claim} | " + " | ".join("yes" if one.claims[claim] else "no" for one in findings.values()) + " |"
        )
    return "\n".join(lines) + "\n"


def report(findings: Mapping[int, Finding], seconds: Mapping[int, float], jobs: int) -> dict[str, Any]:
    """The object of the last line. ``ratios`` are shares of the seeds in which a claim holds."""
    claims = next(iter(findings.values())).claims
    return {
        "name": "sandbox_finding",
        "note": "sandbox: simulated judge and models",
        "ratios": {claim: sum(one.claims[claim] for one in findings.values()) / len(findings) for claim in claims},
        "seeds": {
            seed: {"rates": one.rates, "safety_test": one.safety_test, "empathy_test": one.empathy_test, **one.claims}
            for seed, one in findings.items()
        },
        "seconds": dict(seconds),
        "machine": f"{os.cpu_count()} cores, {jobs} used, {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(main())
