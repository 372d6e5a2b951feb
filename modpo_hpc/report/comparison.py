"""The tables of several runs side by side, and how much they differ from run to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from modpo_hpc.audit.run import ballots_of
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.reliability import reliability
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.report import formats
from modpo_hpc.report.columns import AGREEMENT, CELL, CRITERION, PHASE, POLICY
from modpo_hpc.report.parts import Column, ReportSection, Shown, number, table, text
from modpo_hpc.report.results import Results, read_results
from modpo_hpc.run import Run
from modpo_hpc.study import differences

CONFIDENCE = 0.95
"""Of the intervals between runs."""


def read_runs(folders: Sequence[str | Path]) -> dict[str, tuple[Run, Results]]:
    """Runs and their results by a short name: the folder's, with a number where two are called alike.

    Raises:
        InputError: fewer than two runs, or one run twice.
        IncompleteError: a run without statistics.
    """
    runs = [Run.open(folder) for folder in folders]
    roots = [run.root for run in runs]
    if len(runs) < 2:
        raise InputError("there is nothing to compare", value=str(roots[0]), remedy="Name two runs or more.")
    for run in runs:
        if roots.count(run.root) > 1:
            raise InputError("this run is named twice", file=run.root, remedy="Name each run once.")
    names: list[str] = []
    for root in roots:
        alike = [one for one in roots if one.name == root.name]
        names.append(root.name if len(alike) == 1 else f"{root.name}-{alike.index(root) + 1}")
    for run in runs:
        if run.study.judging.stop == "sequential":
            raise InputError(
                "this run was judged sequentially, so that there are no win rates to compare",
                file=run.root,
                field="judging.stop",
                value="sequential",
                remedy="Its mean shares of votes are in statistics/shares.csv; or judge it with stop: none or exact.",
            )
    return {name: (run, read_results(run)) for name, run in zip(names, runs, strict=True)}


def ranking_rows(results: Mapping[str, Results]) -> Rows:
    """Average win rate of each policy in each run, its mean, standard deviation between runs and Student interval.

    ``within`` is the standard error that a single run gives itself (from its own interval), to set beside ``sd``.

    Raises:
        InputError: the runs have no policy, phase and criterion in common.
    """
    found = _by_key(results, "ranking", ("phase", "criterion", "policy"))
    if not found:
        raise InputError(
            "these runs have no policy, phase and criterion in common",
            value=", ".join(results),
            remedy="Compare runs of the same study, or of studies that share policies.",
        )
    levels = {name: one.summary["settings"]["confidence"] for name, one in results.items()}
    widths_in_errors = {name: 2 * stats.norm.ppf((1 + level) / 2) for name, level in levels.items()}
    rows = Rows()
    for (phase, criterion, policy), by_run in found.items():
        rates = np.array([row["win_rate"] for row in by_run.values()])
        errors = [(row["high"] - row["low"]) / widths_in_errors[name] for name, row in by_run.items()]
        rows.append(
            {
                "phase": phase,
                "criterion": criterion,
                "policy": policy,
                **_spread(rates),
                "within": float(np.mean(errors)),
                "best_in": sum(row["rank"] == 1 for row in by_run.values()),
                "runs": {name: row["win_rate"] for name, row in by_run.items()},
            }
        )
    return sorted(rows, key=lambda row: (row["phase"], row["criterion"], -row["mean"], row["policy"]))


def pair_rows(results: Mapping[str, Results]) -> Rows:
    """Difference in win rate (A minus B) of each pair over the runs, and in how many runs A or B wins significantly."""
    columns = ("phase", "criterion", "policy_a", "policy_b")
    tests = _by_key(results, "mcnemar", columns)
    rows = Rows()
    for key, by_run in _by_key(results, "win_rates", columns).items():
        clear = [row["favours"] for row in tests[key].values() if row["significant"]]
        rows.append(
            {
                **dict(zip(columns, key, strict=True)),
                **_spread(np.array([row["difference"] for row in by_run.values()])),
                "a_significant": clear.count(key[2]),
                "b_significant": clear.count(key[3]),
                "count": len(by_run),
                "runs": {name: row["difference"] for name, row in by_run.items()},
            }
        )
    return rows


def judge_rows(runs: Mapping[str, Run]) -> Rows:
    """Agreement of the judges of every two runs that judged the same answers by the same personas."""
    rows = Rows()
    for (name, run), (other_name, other) in combinations(runs.items(), 2):
        alike = run.digest("answers") == other.digest("answers") and run.digest("personas") == other.digest("personas")
        if not alike or run.study.judging.phases != other.study.judging.phases:
            continue
        for one, two in zip(ballots_of(run), ballots_of(other), strict=True):
            rows += [{"run": name, "other": other_name, **asdict(found)} for found in reliability(one, two)]
    return rows


def sections_of(runs: Mapping[str, tuple[Run, Results]]) -> list[ReportSection]:
    """The comparison as sections of a report."""
    results = {name: one for name, (_, one) in runs.items()}
    opened = {name: run for name, (run, _) in runs.items()}
    ranked, judges, names = ranking_rows(results), judge_rows(opened), list(results)
    first = opened[names[0]]
    facts = {
        name: f"seed {run.study.seed}; "
        + ("the first run" if run is first else _changes(differences(first.study, run.study)))
        for name, run in opened.items()
    }
    sections = [
        ReportSection(
            "compare",
            f"{len(names)} runs",
            "Standard deviations and intervals (Student) are between runs; 'within' is the standard error that one run "
            "gives itself by drawing its questions and personas again.",
            facts=facts,
            findings=_findings(ranked, len(names)),
            tables=[_ranking_table(ranked, names), _pair_table(pair_rows(results), names)],
        )
    ]
    if judges:
        sections.append(_judge_section(judges))
    return sections


def _by_key(
    results: Mapping[str, Results], table: str, columns: Sequence[str]
) -> dict[tuple[Any, ...], dict[str, dict[str, Any]]]:
    """key -> run -> row, for the keys that every run has, in the order of the first."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for name, one in results.items():
        for row in one.tables[table]:
            found.setdefault(tuple(row[column] for column in columns), {})[name] = row
    return {key: by_run for key, by_run in found.items() if len(by_run) == len(results)}


def _spread(values: np.ndarray) -> dict[str, float]:
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * deviation / np.sqrt(len(values))
    return {"mean": mean, "sd": deviation, "low": mean - reach, "high": mean + reach}


def _of_each(write: Callable[[float], str], names: Sequence[str]) -> Iterator[Column]:
    """A column for each run."""
    return (number(name, lambda runs, name=name: write(runs[name]), "runs") for name in names)


def _ranking_table(rows: Rows, names: Sequence[str]) -> Shown:
    return table(
        "Average win rate over all opponents, over the runs",
        [
            PHASE,
            CRITERION,
            POLICY,
            number("mean", formats.percent, "mean"),
            number("SD", formats.points, "sd"),
            number("interval", lambda low, high: formats.interval(max(low, 0.0), min(high, 1.0)), "low", "high"),
            number("within", formats.points, "within"),
            number("best in", lambda count: f"{count} of {len(names)}", "best_in"),
            *_of_each(formats.percent, names),
        ],
        rows,
        "compare_ranking",
    )


def _pair_table(rows: Rows, names: Sequence[str]) -> Shown:
    return table(
        "Win rate of A less that of B in percentage points, over the runs, and in how many runs A, or B, wins for sure",
        [
            *CELL,
            number("mean", formats.signed_percent, "mean"),
            number("SD", formats.points, "sd"),
            number("interval", lambda low, high: formats.signed_interval(max(low, -1), min(high, 1)), "low", "high"),
            number("A wins", str, "a_significant"),
            number("B wins", str, "b_significant"),
            *_of_each(formats.signed_percent, names),
        ],
        rows,
        "compare_pairs",
    )


def _judge_section(rows: Rows) -> ReportSection:
    return ReportSection(
        "judges",
        "Reliability of the judge",
        "These runs judged the same answers by the same personas: another judge, or the same one once more.",
        tables=[
            table(
                "Agreement of the verdicts (A, B or tie)",
                [text("Runs", "runs"), PHASE, CRITERION, *AGREEMENT],
                (row | {"runs": f"{row['run']} : {row['other']}"} for row in rows),
                "compare_judges",
            )
        ],
    )


def _findings(rows: Rows, count: int) -> list[str]:
    best_of: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        best_of.setdefault((row["phase"], row["criterion"]), row)
    return [
        f"{phase}, {formats.title(criterion)}: {best['policy']} is highest on average "
        f"({formats.percent(best['mean'])}, SD {100 * best['sd']:.1f}) and first in {best['best_in']} of {count} runs."
        for (phase, criterion), best in best_of.items()
    ]


def _changes(changed: Sequence[str]) -> str:
    shown = "; ".join(changed[:4])
    return "the same study" if not changed else shown + (f"; and {len(changed) - 4} more" if len(changed) > 4 else "")
