"""Do the margins of MODPO work? Whole runs of the sandbox over several study seeds, each beside its placebos.

    python tests/bench/sandbox_finding.py --seeds 1 2 3 4 5 [--runs DIR] [--jobs N] [--whole-study]

Runs the study with its settings as they are, only the seed changed and two policies added: MODPO_Empathy with zero
margins (DPO at beta / w_0) and with those of other questions. By default the run stops at what the finding needs: these
three, DPO_Empathy and Base, and the two criteria that they are judged by (whatever else a study holds does not change
these; ``--whole-study`` runs it all). Runs are kept in DIR, where the same command goes on and only prints the table if
all is there. The last line is one JSON object. Exit code 1 if a run failed; a finding that does not hold is no error.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from modpo_hpc.study import Study, load_study  # noqa: E402
from tests.bench.measuring import table_head, table_row  # noqa: E402

PHASE, ALPHA = "phase1", 0.05
MODPO = "MODPO_Empathy"
PLACEBOS = {"zero": "MODPO_Zero", "shuffled": "MODPO_Shuffled"}
EMPATHY, SAFETY = "empathy", "safety"
BASE, SINGLE = "Base", "DPO_Empathy"


@dataclass(frozen=True)
class Finding:
    """What one seed gave: average win rates, policy -> criterion -> share, tests, and which claims hold.

    ``margins``: placebo -> criterion -> what MODPO has more than it. ``claims``: claim -> policy in the place of MODPO
    -> whether it holds; one that holds of a placebo, too, says nothing of the margins.
    """

    rates: Mapping[str, Mapping[str, float]]
    margins: Mapping[str, Mapping[str, Mapping[str, float]]]
    claims: Mapping[str, Mapping[str, bool]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=REPOSITORY / "configs" / "demo.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--runs", type=Path, help="folder of the runs, kept; a temporary one if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="CPUs to use at once")
    parser.add_argument("--whole-study", action="store_true", help="every policy, criterion and phase")
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    with tempfile.TemporaryDirectory(prefix="modpo-finding-") as temporary:
        folder = arguments.runs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "study.yaml"
        plan = with_placebos(study.model_dump(mode="json") if arguments.whole_study else first_phase(study))
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
    """The study with the policies that the finding is about, and the criteria of phase 1, alone."""
    plan = study.model_dump(mode="json")
    phase = plan["judging"]["phases"][PHASE]
    phase["policies"] = [BASE, SINGLE, MODPO]
    plan["judging"]["phases"] = {PHASE: phase}
    plan["criteria"]["rank"] = phase["criteria"]
    policies = plan["alignment"]["policies"]
    plan["alignment"]["policies"] = {name: policies[name] for name in phase["policies"]}
    return plan


def with_placebos(plan: dict[str, Any]) -> dict[str, Any]:
    """The study with the placebos of MODPO trained and judged beside it."""
    policies, phase = plan["alignment"]["policies"], plan["judging"]["phases"][PHASE]
    for margins, name in PLACEBOS.items():
        policies[name] = {**policies[MODPO], "margins": margins}
        phase["policies"] = [*(one for one in phase["policies"] if one != name), name]
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
    margins = {
        name: {criterion: head_to_head(told, criterion, MODPO, name) for criterion in (EMPATHY, SAFETY)}
        for name in PLACEBOS.values()
    }
    arms = (MODPO, *PLACEBOS.values())
    claims = {
        f"beats {SINGLE} on safety": {arm: won(head_to_head(told, SAFETY, arm, SINGLE)) for arm in arms},
        f"beats {SINGLE} on empathy": {arm: won(head_to_head(told, EMPATHY, arm, SINGLE)) for arm in arms},
        f"beats {BASE} on empathy": {arm: won(head_to_head(told, EMPATHY, arm, BASE)) for arm in arms},
    }
    return Finding(rates, margins, claims)


def head_to_head(told: Mapping[str, Any], criterion: str, one: str, other: str) -> dict[str, Any]:
    """Questions won by ``one`` and by ``other``, p of McNemar's test, and their difference with its interval."""
    wanted = {"phase": PHASE, "criterion": criterion}
    for table in ("mcnemar", "win_rates"):
        rows = [row for row in told["tables"][table] if {name: row[name] for name in wanted} == wanted]
        mine = [row for row in rows if {row["policy_a"], row["policy_b"]} == {one, other}]
        if not mine:
            raise KeyError(f"no test of {one} against {other} on {criterion}")
        if table == "mcnemar":
            test = mine[0]
    straight, gap = mine[0]["policy_a"] == one, mine[0]
    ends = (gap["difference_low"], gap["difference_high"])
    low, high = ends if straight else (-ends[1], -ends[0])
    return {
        "won": test["b" if straight else "c"],
        "lost": test["c" if straight else "b"],
        "p": test["p"],
        "difference": gap["difference"] if straight else -gap["difference"],
        "low": low,
        "high": high,
    }


def won(test: Mapping[str, Any]) -> bool:
    return bool(test["won"] > test["lost"] and test["p"] < ALPHA)


def table(findings: Mapping[int, Finding]) -> str:
    """Markdown: what MODPO has more than its placebos, average win rates (empathy / safety), and the claims."""
    seeds = tuple(map(str, findings))
    lines = ["sandbox: simulated judge and models"]
    lines += ["", *table_head("MODPO less its placebo, points of questions won (95%)", *seeds, "all seeds")]
    for name, criterion in product(PLACEBOS.values(), (SAFETY, EMPATHY)):
        gaps = [one.margins[name][criterion] for one in findings.values()]
        cells = [f"{100 * g['difference']:+.1f} ({100 * g['low']:+.0f} to {100 * g['high']:+.0f})" for g in gaps]
        lines.append(table_row([f"{criterion}, less {name}", *cells, over_seeds(gaps)]))
    lines += ["", *table_head("won : lost (McNemar p)", *seeds)]
    for name, criterion in product(PLACEBOS.values(), (SAFETY, EMPATHY)):
        gaps = [one.margins[name][criterion] for one in findings.values()]
        cells = [f"{g['won']} : {g['lost']} ({g['p']:.2g})" for g in gaps]
        lines.append(table_row([f"{criterion}, against {name}", *cells]))
    lines += ["", *table_head("empathy / safety, % won", *seeds)]
    for policy in next(iter(findings.values())).rates:
        rates = [one.rates[policy] for one in findings.values()]
        lines.append(table_row([policy, *(f"{100 * of[EMPATHY]:.1f} / {100 * of[SAFETY]:.1f}" for of in rates)]))
    lines += ["", *table_head("holds of MODPO, with zero, with shuffled margins", *seeds)]
    for claim in next(iter(findings.values())).claims:
        held = [one.claims[claim].values() for one in findings.values()]
        lines.append(table_row([claim, *(", ".join("yes" if holds else "no" for holds in of) for of in held)]))
    return "\n".join(lines) + "\n"


def over_seeds(gaps: Sequence[Mapping[str, float]]) -> str:
    """Mean over the seeds with Student's interval: another seed trains, asks and judges anew."""
    values = np.array([100 * one["difference"] for one in gaps])
    if len(values) < 2:
        return ""
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.1f} ({values.mean() - reach:+.1f} to {values.mean() + reach:+.1f})"


def report(findings: Mapping[int, Finding], seconds: Mapping[int, float], jobs: int) -> dict[str, Any]:
    """The object of the last line. ``ratios`` are shares of the seeds in which a claim holds of MODPO."""
    claims, count = next(iter(findings.values())).claims, len(findings)
    return {
        "name": "sandbox_finding",
        "note": "sandbox: simulated judge and models",
        "ratios": {claim: sum(one.claims[claim][MODPO] for one in findings.values()) / count for claim in claims},
        "seeds": {
            seed: {"rates": one.rates, "margins": one.margins, "claims": one.claims} for seed, one in findings.items()
        },
        "seconds": dict(seconds),
        "machine": f"{os.cpu_count()} cores, {jobs} used, {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(main())
