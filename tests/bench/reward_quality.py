"""How good the sandbox's reward models are, criterion by criterion, from a finished run: ``... reward_quality DIR``.

Beside the accuracy stand the judge that sees length alone and the ceiling: how often the votes prefer the response
that the rule judge, without the personas' tastes and noise, finds better under that criterion alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd

from modpo_hpc.report.formats import p_value
from modpo_hpc.report.rewards import diagnose
from modpo_hpc.rewards.diagnostics import length_shortcut, losses_compared, margins_seen_and_unseen
from modpo_hpc.rewards.records import Texts, read_texts
from modpo_hpc.run import Run
from modpo_hpc.sandbox.judge import reply_values
from tests.bench.measuring import table_head, table_row, tell

COLUMNS = {
    "criterion": "{}",
    "pairs": "{:,}",
    "unseen": "{:.1%}",
    "ceiling": "{:.1%}",
    "seen in training": "{:.1%}",
    "length alone": "{:.1%}",
    "ECE raw": "{:.3f}",
    "ECE calibrated": "{:.3f}",
    "ECE by chance (95%)": "{:.3f}",
    "margin unseen": "{:.2f}",
    "margin seen": "{:.2f}",
}


def quality(run: Run) -> list[dict[str, float | str]]:
    """One row a criterion, named as in ``COLUMNS``."""
    predictions, texts = run.table("rewards").to_pandas(), read_texts(run)
    lengths = {one: len(text) for one, text in texts.responses.items()}
    alone = length_shortcut(predictions, lengths).query("part == 'all'").set_index("criterion")["length"]
    margins = margins_seen_and_unseen(predictions).set_index(["criterion", "seen"])["mean"]
    rows: list[dict[str, float | str]] = []
    for name, mine in predictions.groupby("criterion", sort=False):
        criterion, found = str(name), diagnose(mine)
        rows.append(
            {
                "criterion": criterion.replace("_", " "),
                "pairs": found["pairs"],
                "unseen": found["accuracy"],
                "ceiling": ceiling(mine[mine["part"] == "final"], texts, criterion),
                "seen in training": found["in_sample"],
                "length alone": float(alone[criterion]),
                "ECE raw": found["error_before"],
                "ECE calibrated": found["error_after"],
                "ECE by chance (95%)": found["error_at_most_by_chance"],
                "margin unseen": float(margins[criterion, False]),
                "margin seen": float(margins[criterion, True]),
            }
        )
    return rows


def ceiling(pairs: pd.DataFrame, texts: Texts, criterion: str) -> float:
    """Share of ``pairs`` whose chosen response is worth more by the rule itself; equal ones count half."""
    points = 0.0
    for pair in pairs.itertuples():
        question = texts.questions[str(pair.question_id)]
        chosen, rejected = (
            reply_values(texts.responses[str(one)], question)[criterion] for one in (pair.chosen, pair.rejected)
        )
        points += (chosen > rejected) + 0.5 * (chosen == rejected)
    return points / len(pairs)


def main(arguments: Sequence[str]) -> None:
    run = Run.open(arguments[0])
    rows = quality(run)
    print(*table_head(*COLUMNS), sep="\n")
    for one in rows:
        print(table_row(form.format(one[name]) for name, form in COLUMNS.items()))
    compared = losses_compared(run.table("rewards").to_pandas(), run.study.rewards.loss)
    if len(compared):
        print("", *table_head("criterion", "best/worst pairs", "whole rankings", "p"), sep="\n")
        for it in compared.itertuples():
            name = str(it.criterion).replace("_", " ")
            print(f"| {name} | {it.bradley_terry:.1%} | {it.plackett_luce:.1%} | {p_value(float(it.p))} |")
    tell("reward-quality", criteria=rows, losses=compared.to_dict("records"))


if __name__ == "__main__":
    main(sys.argv[1:])
