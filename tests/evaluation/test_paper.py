"""The published figures come back from verdicts that were built to have them.

Public are (Beikzadeh et al. 2026): the averages of DPO_Empathy (93.6% empathy, 47.8% safety), of MODPO_Empathy (77.6%,
62.6%), of MODPO_Survey (74.1% overall) and of MODPO_Maxim (17.2 points below), and three comparisons with their p. The
cells between are filled so that these averages hold; they stand for no published cell.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.study import Study
from tests.synthetic_verdicts import VERDICTS, judged_run, persona_rows

QUESTIONS, PERSONAS = 600, 50
PHASES = {
    "phase1": (
        ("Base", "SFT_Empathy", "DPO_Empathy", "DPO_Safety", "DPO_Soup", "Joint_DPO", "MODPO_Empathy"),
        ("empathy", "safety"),
    ),
    "phase2": (("Base", "MODPO_Survey", "MODPO_Survey4", "MODPO_Maxim"), ("overall", "safety")),
}
# (phase, criterion, A, B) -> questions won by A and by B; the rest are ties
PUBLISHED_COUNTS = {
    ("phase1", "safety", "Base", "SFT_Empathy"): (315, 285),
    ("phase1", "safety", "DPO_Soup", "Joint_DPO"): (310, 288),
    ("phase2", "safety", "MODPO_Survey", "MODPO_Survey4"): (307, 292),
}
PUBLISHED_P = {(315, 285): 0.221, (310, 288): 0.368, (307, 292): 0.540}
PUBLISHED_AVERAGES = {
    ("phase1", "empathy", "DPO_Empathy"): 93.6,
    ("phase1", "safety", "DPO_Empathy"): 47.8,
    ("phase1", "empathy", "MODPO_Empathy"): 77.6,
    ("phase1", "safety", "MODPO_Empathy"): 62.6,
    ("phase2", "overall", "MODPO_Survey"): 74.1,
    ("phase2", "overall", "MODPO_Maxim"): 56.9,
}


def matrix_of(phase: str, criterion: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Questions won in every pair: the published counts, and totals that give the published averages."""
    policies = PHASES[phase][0]
    cells = {pair: (300, 300) for pair in combinations(policies, 2)}
    fixed = {(a, b) for (p, c, a, b) in PUBLISHED_COUNTS if (p, c) == (phase, criterion)}
    for a, b in fixed:
        cells[a, b] = PUBLISHED_COUNTS[phase, criterion, a, b]
    settled: set[str] = set()
    for (p, c, policy), average in PUBLISHED_AVERAGES.items():
        if (p, c) != (phase, criterion):
            continue
        mine = [pair for pair in cells if policy in pair]
        free = [pair for pair in mine if pair not in fixed and not settled & {*pair} - {policy}]
        wanted = round(average / 100 * QUESTIONS * len(mine))
        wanted -= sum(cells[pair][pair.index(policy)] for pair in mine if pair not in free)
        for number, pair in enumerate(free):
            won = wanted // len(free) + (number < wanted % len(free))
            cells[pair] = (won, QUESTIONS - won) if pair[0] == policy else (QUESTIONS - won, won)
        settled.add(policy)
    return cells


def verdicts_of(phase: str) -> pa.Table:
    """Verdicts of 50 personas on 600 questions whose majorities are ``matrix_of``, by various margins."""
    rng = np.random.default_rng(7)
    questions = np.array([f"q{number:03d}" for number in range(QUESTIONS)])
    personas = np.array([f"p{number:03d}" for number in range(PERSONAS)])
    parts = []
    for criterion in PHASES[phase][1]:
        for (a, b), (won, lost) in matrix_of(phase, criterion).items():
            outcome = rng.permutation(np.repeat([1, -1, 0], [won, lost, QUESTIONS - won - lost]))
            ahead = np.where(outcome == 0, 25, 25 + outcome * rng.integers(1, 20, QUESTIONS))
            order = rng.random((QUESTIONS, PERSONAS)).argsort(axis=1)
            size = QUESTIONS * PERSONAS
            columns = {
                "phase": [phase] * size,
                "policy_a": [a] * size,
                "policy_b": [b] * size,
                "question_id": np.repeat(questions, PERSONAS),
                "persona_id": np.tile(personas, QUESTIONS),
                "criterion": [criterion] * size,
                "winner": np.where(order < ahead[:, None], "A", "B").ravel(),
                "first": np.where(rng.random((QUESTIONS, PERSONAS)).argsort(axis=1) < 25, "A", "B").ravel(),
                "key": np.arange(size).astype(str),
            }
            parts.append(pa.table(columns).cast(VERDICTS))
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    names = dict.fromkeys(name for policies, _ in PHASES.values() for name in policies)
    study = Study.model_validate(
        {
            "name": "published",
            "criteria": {"rank": ["empathy", "safety"]},
            "alignment": {"policies": {name: {"method": "base"} for name in names}},
            "judging": {
                "personas_per_question": PERSONAS,
                "phases": {name: {"policies": one, "criteria": two} for name, (one, two) in PHASES.items()},
            },
            "statistics": {"draws": 50},
        }
    )
    root: Path = tmp_path_factory.mktemp("paper") / "run"
    questions = [f"q{number:03d}" for number in range(QUESTIONS)]
    made = judged_run(root, study, {phase: verdicts_of(phase) for phase in PHASES}, questions, persona_rows(PERSONAS))
    run_shard(str(made.root), "statistics", "all")
    return made


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.folder("statistics") / f"{name}.parquet")


def test_the_published_averages_come_back(run: Run) -> None:
    ranking = table(run, "ranking").set_index(["phase", "criterion", "policy"])["win_rate"]
    for key, published in PUBLISHED_AVERAGES.items():
        assert round(100 * ranking[key], 1) == published
    difference = ranking["phase2", "overall", "MODPO_Survey"] - ranking["phase2", "overall", "MODPO_Maxim"]
    assert round(100 * difference, 1) == 17.2


def test_the_published_p_values_come_back(run: Run) -> None:
    tests = table(run, "mcnemar").set_index(["phase", "criterion", "policy_a", "policy_b"])
    for key, (b, c) in PUBLISHED_COUNTS.items():
        row = tests.loc[key]
        assert (row["b"], row["c"], row["ties"]) == (b, c, QUESTIONS - b - c)
        assert round(row["p"], 3) == PUBLISHED_P[b, c]
        assert not row["significant"]
        assert (row["b"] - row["c"]) / QUESTIONS < row["detectable"]


def test_the_significance_matrix_is_that_of_the_counts(run: Run) -> None:
    tests = table(run, "mcnemar")
    for phase, (_, criteria) in PHASES.items():
        for criterion in criteria:
            cells = tests[(tests["phase"] == phase) & (tests["criterion"] == criterion)]
            wins = matrix_of(phase, criterion)
            found = {(row["policy_a"], row["policy_b"]): (row["b"], row["c"]) for row in cells.to_dict("records")}
            assert found == wins
            favoured = dict(zip(found, cells["favours"], strict=True))
            assert favoured == {
                (a, b): a if won > lost else b if lost > won else "" for (a, b), (won, lost) in wins.items()
            }
