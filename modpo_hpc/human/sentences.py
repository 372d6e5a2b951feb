"""The results of the judgments by people in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from modpo_hpc.human.analysis import Tables


def of_rule(tables: Tables, rule: str) -> Tables:
    """``tables`` with the rows of one rule for the label of a question."""
    return {
        name: table[table["rule"] == rule].drop(columns="rule") if "rule" in table else table
        for name, table in tables.items()
    }


def replacement(tested: Mapping[Any, Any]) -> str:
    """What a row of the table ``alternative`` says of the model in a rater's place."""
    if not tested["raters"]:
        return "with one rater a question, whether the model could replace one cannot be tested"
    if not tested["beyond_chance"]:
        return (
            f"the raters agree no better than chance (Krippendorff's alpha {_number(tested['alpha'])}, interval "
            f"{_number(tested['alpha_low'])} to {_number(tested['alpha_high'])}), so that nothing can be said of the "
            "model in a rater's place"
        )
    if not tested["beats_constant"]:
        return (
            "the model agrees with the raters no better than one answer given always (difference "
            f"{_number(tested['gain'])}, interval {_number(tested['gain_low'])} to {_number(tested['gain_high'])}), "
            "so it replaces nobody"
        )
    verdict = "may replace a rater" if tested["may_replace"] else "may not replace a rater"
    return (
        f"the model {verdict} (alternative annotator test, winning rate {_number(tested['winning_rate'])}, advantage "
        f"{_number(tested['advantage'])}, epsilon {tested['epsilon']:g})"
    )


def summary_lines(tables: Tables, a: str, b: str) -> list[str]:
    """The results in sentences, for the terminal; ``tables`` are those of one rule."""
    lines = []
    outcomes = tables["outcomes"].set_index("criterion")
    agree = tables["raters_agree"].set_index("criterion")
    for criterion, row in outcomes.iterrows():
        lines.append(
            f"{str(criterion).replace('_', ' '):<24} {a} {row['A_share']:>6.1%}  tie {row['tie_share']:>6.1%}  {b} "
            f"{row['B_share']:>6.1%}   Fleiss' kappa {_number(agree.at[criterion, 'fleiss_kappa'])}"
        )
    measured = tables["model_agrees"]
    for criterion, part in measured.groupby("criterion", sort=False):
        by_who = part.set_index("who")
        if "model" not in by_who.index:
            continue
        model, people = by_who.loc["model"], by_who.loc["raters, each left out"]
        lines.append(
            f"{str(criterion).replace('_', ' ')}: model {_number(model['accuracy'])} of {model['n']:.0f} questions "
            f"(AC1 {_number(model['ac1'])}, kappa {_number(model['kappa'])}), always the same answer "
            f"{_number(model['constant'])}; raters {_number(people['accuracy'])} ± {_number(people['accuracy_sem'])} "
            f"(AC1 {_number(people['ac1'])})"
        )
    for tested in tables.get("alternative", pd.DataFrame()).to_dict("records"):
        lines.append(f"{tested['criterion'].replace('_', ' ')}: {replacement(tested)}")
    return lines


def _number(value: Any) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)
