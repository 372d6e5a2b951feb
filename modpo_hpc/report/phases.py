"""Sections on the results of each phase."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

from modpo_hpc.report import figures, words
from modpo_hpc.report.parts import Column, Picture, Section, Shown, numbers, text
from modpo_hpc.report.results import Results


def phase_section(results: Results, phase: str) -> Section:
    """Results of one phase: what was found, the figures of the paper, and the tables behind them."""
    return Section(
        anchor=phase,
        heading=f"Results of {phase}",
        lead=words.phase_line(results, phase) + ".",
        findings=words.findings(results, phase),
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
    pictures = [
        Picture(
            f"{phase}_{x}_{y}",
            f"Average win rates under {words.title(x)} and {words.title(y)}, with intervals of the two-way bootstrap. "
            "The dashed line joins the Pareto front.",
            partial(figures.trade_off, results, phase, x, y),
        )
        for x, y in combinations(criteria, 2)
    ]
    pictures.append(
        Picture(
            f"{phase}_ranking",
            "Ranking of the policies by average win rate over all opponents.",
            partial(figures.ranking, results, phase),
        )
    )
    for criterion in criteria:
        name = words.title(criterion)
        pictures += [
            Picture(
                f"{phase}_{criterion}_head_to_head",
                f"Head to head under {name}, best policy first.",
                partial(figures.head_to_head, results, phase, criterion),
            ),
            Picture(
                f"{phase}_{criterion}_significance",
                f"Significance under {name}: {words.test_words(results)}.",
                partial(figures.significance, results, phase, criterion),
            ),
        ]
    return pictures


def _ranking_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns: list[Column] = [text("Policy")]
    for criterion in criteria:
        columns += numbers(words.title(criterion).capitalize(), "interval", "rank", "P(best)")
    rows, strong = [], set()
    for place, (policy, by_criterion) in enumerate(results.by_policy(phase).items()):
        cells = [policy]
        for criterion in criteria:
            row = by_criterion[criterion]
            if row["rank"] == 1:
                strong.add((place, len(cells)))
            cells += [
                words.percent(row["win_rate"]),
                words.interval(row["low"], row["high"]),
                str(row["rank"]),
                words.percent(row["best_probability"], 0),
            ]
        rows.append(cells)
    return Shown(
        "Average win rate over all opponents. Intervals and P(best) come from questions and personas drawn again.",
        columns,
        rows,
        file=f"{phase}_ranking",
        strong=frozenset(strong),
    )


def _mcnemar_table(results: Results, phase: str) -> Shown:
    criteria = results.phases[phase]["criteria"]
    columns: list[Column] = [text("A"), text("B")]
    for criterion in criteria:
        columns += numbers(words.title(criterion).capitalize(), "ties", "p", "odds ratio")
    tests: dict[tuple[str, str], dict[str, Any]] = {}
    for row in results.rows("mcnemar", phase=phase):
        tests.setdefault((row["policy_a"], row["policy_b"]), {})[row["criterion"]] = row
    rows, strong = [], set()
    for place, ((a, b), by_criterion) in enumerate(tests.items()):
        cells = [a, b]
        for criterion in criteria:
            row = by_criterion[criterion]
            if row["significant"]:
                strong.add((place, len(cells)))
            score = f"{row['b']} {words.comparison_sign(row)} {row['c']}"
            cells += [score, str(row["ties"]), words.p_value(row["p"]), words.odds(row)]
        rows.append(cells)
    return Shown(
        f"Questions won by A and by B. p: {words.test_words(results)}, without correction; > and < mark what is "
        f"significant {words.correction_words(results)}, ~ what is not.",
        columns,
        rows,
        file=f"{phase}_mcnemar",
        strong=frozenset(strong),
    )


def _win_rate_table(results: Results, phase: str) -> Shown:
    detectable = {_cell(row): row["detectable"] for row in results.rows("mcnemar", phase=phase)}
    rows = [
        [
            words.title(row["criterion"]),
            row["policy_a"],
            row["policy_b"],
            words.percent(row["win_rate_a"]),
            words.interval(row["a_low"], row["a_high"]),
            words.percent(row["win_rate_b"]),
            words.interval(row["b_low"], row["b_high"]),
            words.signed_percent(row["difference"]),
            words.signed_interval(row["difference_low"], row["difference_high"]),
            words.percent(detectable[_cell(row)]),
        ]
        for row in results.rows("win_rates", phase=phase)
    ]
    power = results.summary["settings"]["power"]
    return Shown(
        "Win rates of every pair with intervals of the two-way bootstrap, and the smallest difference that McNemar's "
        f"test finds with a power of {power:.0%}",
        [
            text("Criterion"),
            text("A"),
            text("B"),
            *numbers("A wins", "interval", "B wins", "interval", "difference", "interval", "detectable"),
        ],
        rows,
        file=f"{phase}_win_rates",
        folded=True,
    )


def _ability_table(results: Results, phase: str) -> Shown:
    rows = [
        [
            words.title(row["criterion"]),
            row["policy"],
            f"{row['ability']:+.2f}",
            f"{row['low']:+.2f} to {row['high']:+.2f}",
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
            words.title(row["criterion"]),
            row["policy"],
            row["reference"],
            f"{100 * row['margin']:g}",
            words.signed_percent(row["difference"]),
            words.signed_interval(row["low"], row["high"]),
            words.signed_interval(row["model_low"], row["model_high"]),
            words.p_value(row["p_adjusted"]),
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
            f"{words.CORRECTION_NAMES[results.summary['settings']['correction']]}; questions that would show it if "
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
