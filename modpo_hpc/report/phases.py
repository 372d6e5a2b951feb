"""Sections on the results of each phase."""

from __future__ import annotations

from functools import partial
from itertools import combinations

from modpo_hpc.report import figures, findings, formats, matrices, sequential
from modpo_hpc.report.columns import COMPARISON, CRITERION, INTERVAL, PAIR, POLICY
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, abreast, filled, number, table, text
from modpo_hpc.report.results import Results


def phase_section(results: Results, phase: str) -> ReportSection:
    """Results of one phase: what was found, the figures of the paper, and the tables behind them."""
    tables = [sequential.ranking_table, sequential.share_table]
    if not results.is_sequential:
        tables = [_ranking_table, _mcnemar_table, _win_rate_table, _ability_table, _non_inferiority_table]
    return ReportSection(
        anchor=phase,
        heading=f"Results of {phase}",
        lead=findings.phase_line(results, phase) + ".",
        findings=findings.phase_findings(results, phase),
        figures=() if results.is_sequential else _figures(results, phase),
        tables=filled(*(made(results, phase) for made in tables)),
    )


def _figures(results: Results, phase: str) -> list[ReportFigure]:
    criteria = results.phases[phase]["criteria"]
    corrected = findings.CORRECTION_NAMES[results.summary["settings"]["correction"]]
    drawn = [
        ReportFigure(
            f"{phase}_{x}_{y}",
            f"Average win rates under {formats.title(x)} and {formats.title(y)}, with intervals over questions and "
            "personas. The dashed line joins the Pareto front.",
            partial(figures.trade_off, results, phase, x, y),
        )
        for x, y in combinations(criteria, 2)
    ]
    drawn.append(
        ReportFigure(
            f"{phase}_ranking",
            f"Ranking of the policies by average win rate over {findings.opponents(results, phase)}.",
            partial(figures.ranking, results, phase),
        )
    )
    for criterion in criteria:
        name = formats.title(criterion)
        drawn += [
            ReportFigure(
                f"{phase}_{criterion}_head_to_head",
                f"Head to head under {name}: share of the questions (%) that the row wins against the column, best "
                "policy first. A cell opens the cases behind it.",
                partial(figures.head_to_head, results, phase, criterion),
                matrix=matrices.win_rates(results, phase, criterion),
            ),
            ReportFigure(
                f"{phase}_{criterion}_significance",
                f"p-values under {name}: {findings.test_note(results)}, {corrected}. Orange: the row wins; blue: the "
                "column wins; grey: no difference is shown. A cell opens the cases behind it.",
                partial(figures.significance, results, phase, criterion),
                matrix=matrices.p_values(results, phase, criterion),
            ),
        ]
    return drawn


def _ranking_table(results: Results, phase: str) -> Shown:
    return abreast(
        f"Average win rate over {findings.opponents(results, phase)}. Intervals, the ranks that are possible (all at "
        "once) and P(best) come from one model, in which other questions and other personas could have been drawn.",
        [POLICY],
        [
            number("win rate", formats.percent, "win_rate"),
            INTERVAL,
            number("rank", formats.ranks, "rank", "rank_low", "rank_high"),
            number("P(best)", partial(formats.percent, digits=0), "best_probability"),
        ],
        results.by_policy(phase).values(),
        results.phases[phase]["criteria"],
        lambda row: row["rank"] == 1,
        f"{phase}_ranking",
    )


def _mcnemar_table(results: Results, phase: str) -> Shown:
    return abreast(
        f"Questions won by A and by B. p: {findings.test_note(results)}, without correction; > and < mark what is "
        f"significant {findings.correction_note(results)}, ~ what is not. The paper's test: it takes these personas "
        f"for all there are, so with other personas more than {100 * results.summary['settings']['alpha']:g}% of such "
        "marks may be of policies that are alike.",
        PAIR,
        [
            number("won by A and by B", _won, "b", "c", "significant"),
            number("ties", str, "ties"),
            number("p", formats.p_value, "p"),
            number("odds ratio", formats.odds, "odds_ratio", "odds_low", "odds_high"),
        ],
        results.abreast(phase, "mcnemar", "policy_a", "policy_b").values(),
        results.phases[phase]["criteria"],
        lambda row: row["significant"],
        f"{phase}_mcnemar",
    )


def _won(b: int, c: int, significant: bool) -> str:
    return f"{b} {formats.comparison_sign(b, c, significant)} {c}"


def _win_rate_table(results: Results, phase: str) -> Shown:
    named = ("criterion", "policy_a", "policy_b")
    tests = {tuple(row[name] for name in named): row for row in results.rows("mcnemar", phase=phase)}
    return table(
        "Win rates of every pair, their difference with its interval and with the one that holds for all pairs at once "
        "(questions and personas are samples), and the smallest difference that McNemar's test finds with a power of "
        f"{results.summary['settings']['power']:.0%}",
        [
            *COMPARISON,
            number("A wins", formats.percent, "win_rate_a"),
            number("interval", formats.interval, "a_low", "a_high"),
            number("B wins", formats.percent, "win_rate_b"),
            number("interval", formats.interval, "b_low", "b_high"),
            number("difference", formats.signed_percent, "difference"),
            number("interval", formats.signed_interval, "difference_low", "difference_high"),
            number("all at once", formats.signed_interval, "difference_all_low", "difference_all_high"),
            number("detectable", formats.percent, "mcnemar.detectable"),
        ],
        (
            row | {"mcnemar.detectable": tests[tuple(row[name] for name in named)]["detectable"]}
            for row in results.rows("win_rates", phase=phase)
        ),
        f"{phase}_win_rates",
        folded=True,
    )


def _ability_table(results: Results, phase: str) -> Shown:
    return table(
        "Bradley-Terry abilities (log-odds) from the votes of all personas, ties after Davidson; intervals by a "
        "sandwich clustered by question and by persona",
        [
            CRITERION,
            POLICY,
            number("ability", formats.signed, "ability"),
            number("interval", formats.signed_bounds, "low", "high"),
        ],
        results.rows("bradley_terry", phase=phase),
        f"{phase}_bradley_terry",
        folded=True,
    )


def _non_inferiority_table(results: Results, phase: str) -> Shown:
    """Without rows where the study states no margin."""
    return table(
        "Non-inferiority within the margin that the study states, in percentage points: interval of Tango's score "
        "test (personas as they are) and of the inferential model (personas as a sample); p one-sided, "
        f"{findings.CORRECTION_NAMES[results.summary['settings']['correction']]}; questions that would show it if "
        "both won as often",
        [
            CRITERION,
            POLICY,
            text("Reference", "reference"),
            number("margin", lambda margin: f"{100 * margin:g}", "margin"),
            number("difference", formats.signed_percent, "difference"),
            number("Tango", formats.signed_interval, "low", "high"),
            number("with personas", formats.signed_interval, "model_low", "model_high"),
            number("p", formats.p_value, "p_adjusted"),
            text("Not inferior", "non_inferior", lambda shown: "not inferior" if shown else "open"),
            text("Equivalent", "equivalent", lambda shown: "equivalent" if shown else "open"),
            number("questions needed", "{:,}".format, "questions_needed"),
        ],
        results.rows("non_inferiority", phase=phase),
        f"{phase}_non_inferiority",
        folded=True,
    )
