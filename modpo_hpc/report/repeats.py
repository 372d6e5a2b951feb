"""Section on verdicts that were asked again: does the judge agree with itself, and what does the order change?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from modpo_hpc.evaluation.tables import REPEATS_SCHEMAS, Rows
from modpo_hpc.report import formats
from modpo_hpc.report.panel import CELL
from modpo_hpc.report.parts import Column, Section, Shown, is_number, numbers, text
from modpo_hpc.run import Run

_COLUMNS = numbers("n", "flips", "kappa", "other order", "order alone", "noise", "unparsed")


def read_repeats(run: Run) -> dict[str, Rows]:
    """The tables on repeats by name; empty where the study asks for none, or they are not made yet."""
    if run.study.judging.repeats is None or not run.made("repeats"):
        return {}
    folder = run.folder("repeats")
    return {name: pq.read_table(folder / f"{name}.parquet", partitioning=None).to_pylist() for name in REPEATS_SCHEMAS}


def repeats_section(run: Run) -> Section | None:
    """Nothing for a study without repeats."""
    tables, wanted = read_repeats(run), run.study.judging.repeats
    if not tables or wanted is None:
        return None
    rows = tables["self_agreement"]
    who = [text("Judge")] if run.study.panel else []
    orders = ", and once in the other order of showing" if wanted.swapped else ""
    return Section(
        "repeats",
        "The judge asked again",
        f"Of each pair of policies, {wanted.comparisons} comparisons were drawn from those that were judged, and asked "
        f"{formats.counted(wanted.samples, 'more time')} with the same words{orders}. "
        "Intervals are over other questions and personas.",
        findings=[_finding(row, row["judge"] if who else "the judge") for row in rows],
        tables=[
            Shown(
                "Agreement of the judge with itself on n comparisons. Flips: pairs of answers to the same that differ; "
                "kappa: agreement beyond chance. Other order: answers in different orders of showing that differ about "
                "the policies; order alone: by how many points more often. Noise: by how much the share of votes of a "
                "pair would move if all were asked again, one standard deviation",
                [*who, text("Phase"), text("Criterion"), *_COLUMNS],
                [[*_heads(row, who), *_cells(row)] for row in rows],
                "self_agreement",
            ),
            Shown(
                "Agreement of the judge with itself, by pair",
                [*who, *CELL, *_COLUMNS],
                [
                    [*_heads(row, who), row["policy_a"], row["policy_b"], *_cells(row)]
                    for row in tables["self_agreement_pairs"]
                ],
                "self_agreement_pairs",
                folded=True,
            ),
        ],
    )


def _heads(row: dict[str, Any], who: Sequence[Column]) -> list[str]:
    return [*([row["judge"]] if who else []), row["phase"], formats.title(row["criterion"])]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['comparisons']:,}",
        _with(formats.percent(row["flips"]), formats.interval(row["flips_low"], row["flips_high"])),
        formats.decimals(row["kappa"], 2),
        _with(formats.percent(row["order_flips"]), formats.interval(row["order_low"], row["order_high"])),
        _with(formats.signed_percent(row["excess"]), formats.signed_interval(row["excess_low"], row["excess_high"])),
        formats.percent(row["noise"], 2),
        f"{row['unparsed']:,} of {row['answers']:,}",
    ]


def _with(told: str, interval: str) -> str:
    return f"{told} ({interval})" if interval else told


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
