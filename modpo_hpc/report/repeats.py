"""Section on verdicts that were asked again: does the judge agree with itself, and what does the order change?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modpo_hpc.evaluation.tables import REPEATS_SCHEMAS, Rows
from modpo_hpc.report import formats
from modpo_hpc.report.columns import CELL, CRITERION, JUDGE, PHASE
from modpo_hpc.report.parts import ReportSection, is_number, number, table
from modpo_hpc.report.results import tables_of
from modpo_hpc.run import Run


def _with(write: Callable[[float], str], interval: Callable[[float, float], str]) -> Callable[..., str]:
    """A share with its interval, where there is one."""

    def told(share: float, low: float, high: float) -> str:
        return f"{write(share)} ({reach})" if (reach := interval(low, high)) else write(share)

    return told


_SHARE = _with(formats.percent, formats.interval)
_COLUMNS = (
    number("n", "{:,}".format, "comparisons"),
    number("flips", _SHARE, "flips", "flips_low", "flips_high"),
    number("kappa", lambda kappa: formats.decimals(kappa, 2), "kappa"),
    number("other order", _SHARE, "order_flips", "order_low", "order_high"),
    number(
        "order alone",
        _with(formats.signed_percent, formats.signed_interval),
        "excess",
        "excess_low",
        "excess_high",
    ),
    number("noise", lambda noise: formats.percent(noise, 2), "noise"),
    number("unparsed", "{:,} of {:,}".format, "unparsed", "answers"),
)


def read_repeats(run: Run) -> dict[str, Rows]:
    """The tables on repeats by name; empty where the study asks for none, or they are not made yet."""
    if run.study.judging.repeats is None or not run.made("repeats"):
        return {}
    return tables_of(run.folder("repeats"), REPEATS_SCHEMAS)


def repeats_section(run: Run) -> ReportSection | None:
    """Nothing for a study without repeats."""
    tables, wanted = read_repeats(run), run.study.judging.repeats
    if not tables or wanted is None:
        return None
    rows = tables["self_agreement"]
    who = [JUDGE] if run.study.panel else []
    orders = ", and once in the other order of showing" if wanted.swapped else ""
    return ReportSection(
        "repeats",
        "The judge asked again",
        f"Of each pair of policies, {wanted.comparisons} comparisons were drawn from those that were judged, and asked "
        f"{formats.counted(wanted.samples, 'more time')} with the same words{orders}. "
        "Intervals are over other questions and personas.",
        findings=[_finding(row, row["judge"] if who else "the judge") for row in rows],
        tables=[
            table(
                "Agreement of the judge with itself on n comparisons. Flips: pairs of answers to the same that differ; "
                "kappa: agreement beyond chance. Other order: answers in different orders of showing that differ about "
                "the policies; order alone: by how many points more often. Noise: by how much the share of votes of a "
                "pair would move if all were asked again, one standard deviation",
                [*who, PHASE, CRITERION, *_COLUMNS],
                rows,
                "self_agreement",
            ),
            table(
                "Agreement of the judge with itself, by pair",
                [*who, *CELL, *_COLUMNS],
                tables["self_agreement_pairs"],
                "self_agreement_pairs",
                folded=True,
            ),
        ],
    )


def _finding(row: dict[str, Any], who: str) -> str:
    where = f"{row['phase']}, {formats.title(row['criterion'])}"
    if not is_number(row["flips"]):
        return f"{where}: no comparison has two answers of {who} that could be read."
    kappa = (
        f"kappa {row['kappa']:.2f} ({row['kappa_low']:.2f} to {row['kappa_high']:.2f})"
        if is_number(row["kappa"])
        else "every answer is the same, so that there is no kappa"
    )
    told = (
        f"{where}: asked the same again, {who} says something else in {formats.percent(row['flips'])} of cases "
        f"({formats.interval(row['flips_low'], row['flips_high'])}); {kappa}."
    )
    if is_number(row["excess_low"]):
        told += (
            f" With the answers in the other order that is {formats.percent(row['order_flips'])}, "
            f"{formats.signed_percent(row['excess'])} points "
            f"({formats.signed_percent(row['excess_low'])} to {formats.signed_percent(row['excess_high'])}) for the "
            "order alone."
        )
    return (
        f"{told} If all verdicts were asked again, a pair's share of votes would move by "
        f"{formats.percent(row['noise'], 2)} (one standard deviation)."
    )
