"""Section on who the personas are, and on the questions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from modpo_hpc.data.questions import study_questions
from modpo_hpc.personas.balance import GROUPS, balance_tests, composition
from modpo_hpc.report import formats
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, number, records, table, text
from modpo_hpc.report.style import COLOURS, canvas, panels, quiet_grid
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of


def people_section(run: Run) -> ReportSection:
    """Demographics of the pool, the selection, the training and the test set; questions of training and test."""
    lengths = {split: [len(one.text) for one in study_questions(run, split)] for split in ("train", "test")}
    findings = [
        f"{len(lengths['train']):,} training questions of {np.mean(lengths['train']):.1f} characters on average, "
        f"{len(lengths['test']):,} test questions of {np.mean(lengths['test']):.1f}."
    ]
    figures = [ReportFigure("question_lengths", "Length of the questions.", partial(length_figure, lengths))]
    tables = []
    pool = run.folder("personas") / "pool.parquet"
    if pool.exists():
        people = pq.read_table(pool, partitioning=None).to_pandas()
        counts = composition(people)
        tests = balance_tests(people, rng_of(run.study.seed, "report", "balance"))
        findings.append(_sizes(people))
        findings.append(_balance_words(tests))
        figures.insert(
            0,
            ReportFigure(
                "demographics",
                "Who the personas are: shares in the pool, the selection, training and test.",
                partial(demographics_figure, counts),
                wide=True,
            ),
        )
        tables = [_composition_table(counts), _balance_table(tests)]
    return ReportSection("people", "People and questions", findings=findings, figures=figures, tables=tables)


def demographics_figure(counts: pd.DataFrame) -> Figure:
    """Shares of every value of every characteristic in the four sets."""
    characteristics = list(dict.fromkeys(counts["characteristic"]))
    sizes = [int((counts["characteristic"] == one).sum()) for one in characteristics]
    height = 0.9 + 0.34 * sum(sizes) + 0.25 * len(sizes)
    figure, axes_of = panels(6.2, height, len(sizes), 1, sharex=True, gridspec_kw={"height_ratios": sizes})
    bar = 0.8 / len(GROUPS)
    for axes, characteristic in zip(axes_of, characteristics, strict=True):
        rows = counts[counts["characteristic"] == characteristic].iloc[::-1]
        for place, group in enumerate(GROUPS):
            at = np.arange(len(rows)) + (1.5 - place) * bar
            axes.barh(at, 100 * rows[f"{group}_share"], height=bar, color=COLOURS[place], label=group)
        axes.set_yticks(range(len(rows)), [_short(formats.title(value)) for value in rows["value"]], size=7.5)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(characteristic, loc="left", size=8.5)
        quiet_grid(axes, "x")
    axes_of[-1].set_xlabel("share (%)")
    handles, names = axes_of[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(GROUPS))
    return figure


def length_figure(lengths: dict[str, list[int]]) -> Figure:
    """Distribution of the lengths of training and test questions."""
    figure, axes = canvas(4.6, 2.8)
    edges = np.linspace(0, max(map(max, lengths.values())), 31)
    for place, (split, values) in enumerate(lengths.items()):
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(100 * share, edges, color=COLOURS[place], label=split, linewidth=1.4, linestyle=("-", "--")[place])
    axes.set(xlabel="characters", ylabel="questions (%)")
    axes.legend()
    quiet_grid(axes, "y")
    return figure


def _sizes(people: pd.DataFrame) -> str:
    states = people["state"].value_counts()
    chosen = int(states.get("train", 0) + states.get("test", 0))
    return (
        f"{chosen} of {len(people)} participants became personas: {states.get('train', 0)} rank responses in training, "
        f"{states.get('test', 0)} judge the policies."
    )


def _balance_words(tests: pd.DataFrame) -> str:
    split = tests[tests["comparison"].str.startswith("training")]
    if split.empty:
        return "There is nothing to compare the training and the test personas by."
    worst = max(records(split), key=lambda row: row["cramers_v"])
    return (
        f"Training and test personas differ most in {worst['characteristic']}: Cramer's V {worst['cramers_v']:.2f}, "
        f"p = {formats.p_value(worst['p_value'])}."
    )


def _composition_table(counts: pd.DataFrame) -> Shown:
    return table(
        "Participants by characteristic",
        [
            text("Characteristic", "characteristic"),
            text("Value", "value", formats.title),
            *(number(group, _with_share, group, f"{group}_share") for group in GROUPS),
        ],
        records(counts),
        "demographics",
        folded=True,
    )


def _with_share(count: int, share: float) -> str:
    return f"{count} ({formats.percent(share, 0)})"


def _balance_table(tests: pd.DataFrame) -> Shown:
    return table(
        "Balance of the sets",
        [
            text("Comparison", "comparison"),
            text("Characteristic", "characteristic"),
            number("chi-squared", "{:.2f}".format, "statistic"),
            number("df", str, "degrees"),
            number("p (permutation)", formats.p_value, "p_value"),
            number("Cramer's V", "{:.2f}".format, "cramers_v"),
            number("largest difference", "{:.2f}".format, "largest_difference"),
        ],
        records(tests),
        "balance",
        folded=True,
    )


def _short(value: str) -> str:
    return value if len(value) <= 34 else value[:33] + "…"
