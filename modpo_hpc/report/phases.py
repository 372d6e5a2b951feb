"""Sections on the results of each phase."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

from modpo_hpc.report import figures, findings, formats, matrices, sequential
from modpo_hpc.report.parts import Column, Picture, Section, Shown, abreast, numbers, text
from modpo_hpc.report.results import Results


def phase_section(results: Results, phase: str) -> Section:
    """Results of one phase: what was found, the figures of the paper, and the tables behind them."""
    if results.is_sequential:
        return sequential.phase_section(results, phase, findings.phase_line(results, phase) + ".")
    return Section(
        anchor=phase,
        heading=f"Results of {phase}",
        lead=findings.phase_line(results, phase) + ".",
        findings=findings.phase_findings(results, phase),
        pictures=_pictures(results, phase),
        tables=[
            _ranking_table(results, phase),
            _mcnemar_table(results, phase),
            _win_rate_table(results, phase),
            _ability_table(results, phase),
            *_non_inferiority_tables(results, phase),
        ],
    )


def _pictures(results: Results, phase: str) -> list[Picture]:
    criteria = results.phases[phase]["criteria"]
    corrected = findings.CORRECTION_NAMES[results.summary["settings"]["correction"]]
    pictures = [
        Picture(
            f"{phase}_{x}_{y}",
            f"Average win rates under {formats.title(x)} and {formats.title(y)}, with intervals over questions and "
            "personas. The dashed line joins the Pareto front.",
            partial(figures.trade_off, results, phase, x, y),
        )
        for x, y in combinations(criteria, 2)
    ]
    pictures.append(
        Picture(
            f"{phase}_ranking",
            f"Ranking of the policies by average win rate over {findings.opponents(results, phase)}.",
            partial(figures.ranking, results, phase),
        )
    )
    for criterion in criteria:
        name = formats.title(criterion)
        pictures += [
            Picture(
                f"{phase}_{criterion}_head_to_head",
                f"Head to head under {name}: share of the questions (%) that the row wins against the column, best "
                "policy first. A cell opens the cases behind it.",
                partial(figures.head_to_head, results, phase, criterion),
                matrix=matrices.win_rates(results, phase, criterion),
            ),
            Picture(
                f"{phase}_{criterion}_significance",
                f"p-values under {name}: {findings.test_note(results)}, {corrected}. Orange: the row wins; blue: the "
                "column wins; grey: no difference is shown. A cell opens the cases behind it.",
                partial(figures.significance, results, phase, criterion),
                matrix=matrices.p_values(results, phase, criterion),
            ),
        ]
    return pictures


def _ranking_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns: list[Column] = [text("Policy")]
    for criterion in criteria:
        columns += numbers(formats.title(criterion).capitalize(), "interval", "rank", "P(best)")
    rows, strong = abreast(
        (((policy,), by_criterion) for policy, by_criterion in results.by_policy(phase).items()),
        criteria,
        lambda row: [
            formats.percent(row["win_rate"]),
            formats.interval(row["low"], row["high"]),
            formats.ranks(row),
            formats.percent(row["best_probability"], 0),
        ],
        lambda row: row["rank"] == 1,
    )
    return Shown(
        f"Average win rate over {findings.opponents(results, phase)}. Intervals, the ranks that are possible (all at "
        "once) and P(best) come from one model, in which other questions and other personas could have been drawn.",
        columns,
        rows,
        file=f"{phase}_ranking",
        strong=strong,
    )


def _mcnemar_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns: list[Column] = [text("A"), text("B")]
    for criterion in criteria:
        columns += numbers(formats.title(criterion).capitalize(), "ties", "p", "odds ratio")
    rows, strong = abreast(
        results.by_pair(phase, "mcnemar").items(),
        criteria,
        lambda row: [
            f"{row['b']} {formats.comparison_sign(row)} {row['c']}",
            str(row["ties"]),
            formats.p_value(row["p"]),
            formats.odds(row),
        ],
        lambda row: row["significant"],
    )
    return Shown(
        f"Questions won by A and by B. p: {findings.test_note(results)}, without correction; > and < mark what is "
        f"significant {findings.correction_note(results)}, ~ what is not. The paper's test: it takes these personas "
        f"for all there are, so with other personas more than {100 * results.summary['settings']['alpha']:g}% of such "
        "marks may be of policies that are alike.",
        columns,
        rows,
        file=f"{phase}_mcnemar",
        strong=strong,
    )


def _win_rate_table(results: Results, phase: str) -> Shown:
    detectable = {_cell(row): row["detectable"] for row in results.rows("mcnemar", phase=phase)}
    rows = [
        [
            formats.title(row["criterion"]),
            row["policy_a"],
            row["policy_b"],
            formats.percent(row["win_rate_a"]),
            formats.interval(row["a_low"], row["a_high"]),
            formats.percent(row["win_rate_b"]),
            formats.interval(row["b_low"], row["b_high"]),
            formats.signed_percent(row["difference"]),
            formats.signed_interval(row["difference_low"], row["difference_high"]),
            formats.signed_interval(row["difference_all_low"], row["difference_all_high"]),
            formats.percent(detectable[_cell(row)]),
        ]
        for row in results.rows("win_rates", phase=phase)
    ]
    power = results.summary["settings"]["power"]
    return Shown(
        "Win rates of every pair, their difference with its interval and with the one that holds for all pairs at once "
        "(questions and personas are samples), and the smallest difference that McNemar's test finds with a power of "
        f"{power:.0%}",
        [
            text("Criterion"),
            text("A"),
            text("B"),
            *numbers("A wins", "interval", "B wins", "interval", "difference", "interval", "all at once", "detectable"),
        ],
        rows,
        file=f"{phase}_win_rates",
        folded=True,
    )


def _ability_table(results: Results, phase: str) -> Shown:
    rows = [
        [
            formats.title(row["criterion"]),
            row["policy"],
            formats.signed(row["ability"]),
            f"{formats.signed(row['low'])} to {formats.signed(row['high'])}",
        ]
        for row in results.rows("bradley_terry", phase=phase)
    ]
    return Shown(
        "Bradley-Terry abilities (log-odds) from the votes of all personas, ties after Davidson; intervals by a "
        "sandwich clustered by question and by persona",
        [text("Criterion"), text("Policy"), *numbers("ability", "interval")],
        rows,
        file=f"{phase}_bradley_terry",
        folded=True,
    )


def _non_inferiority_tables(results: Results, phase: str) -> list[Shown]:
    rows = [
        [
            formats.title(row["criterion"]),
            row["policy"],
            row["reference"],
            f"{100 * row['margin']:g}",
            formats.signed_percent(row["difference"]),
            formats.signed_interval(row["low"], row["high"]),
            formats.signed_interval(row["model_low"], row["model_high"]),
            formats.p_value(row["p_adjusted"]),
            "not inferior" if row["non_inferior"] else "open",
            "equivalent" if row["equivalent"] else "open",
            f"{row['questions_needed']:,}",
        ]
        for row in results.rows("non_inferiority", phase=phase)
    ]
    if not rows:
        return []
    headings = ("margin", "difference", "Tango", "with personas", "p")
    return [
        Shown(
            "Non-inferiority within the margin that the study states, in percentage points: interval of Tango's score "
            "test (personas as they are) and of the inferential model (personas as a sample); p one-sided, "
            f"{findings.CORRECTION_NAMES[results.summary['settings']['correction']]}; questions that would show it if "
            "both won as often",
            [
                *(text(heading) for heading in ("Criterion", "Policy", "Reference")),
                *numbers(*headings),
                *(text(heading) for heading in ("Not inferior", "Equivalent")),
                *numbers("questions needed"),
            ],
            rows,
            file=f"{phase}_non_inferiority",
            folded=True,
        )
    ]


def _cell(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["criterion"], row["policy_a"], row["policy_b"]
