"""Agreement of people and model: the paper's tables, other implementations, properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, confusion_matrix
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as their_fleiss
from statsmodels.stats.multitest import multipletests

from modpo_hpc.evaluation.agreement import krippendorff_alpha
from modpo_hpc.human.alternative import alternative_annotator_test, grounds
from modpo_hpc.human.analysis import analyze
from modpo_hpc.human.answers import MISSING, Ratings
from modpo_hpc.human.measures import Rule, agreement, confusion, consensus, without
from modpo_hpc.human.sentences import replacement
from modpo_hpc.study import load_study

LABELS = st.sampled_from([1, 0, -1])


def labels(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int8)


def pair(aa: int, ab: int, ba: int, bb: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([1, 1, -1, -1], [aa, ab, ba, bb]).astype(np.int8)
    guess = np.repeat([1, -1, 1, -1], [aa, ab, ba, bb]).astype(np.int8)
    return truth, guess


def test_the_clinicians_of_the_paper_on_safety() -> None:
    made = agreement(*pair(40, 16, 9, 23), classes=2)
    assert made.n == 88
    assert round(made.accuracy, 3) == 0.716
    assert round(made.ac1, 3) == 0.452
    assert made.constant == pytest.approx(56 / 88)


def test_the_clinicians_of_the_paper_on_overall_preference() -> None:
    made = agreement(*pair(64, 0, 27, 0), classes=2)
    assert round(made.accuracy, 3) == 0.703
    assert made.kappa == 0
    assert round(made.ac1, 3) == 0.603
    # the same accuracy comes from saying A to everything, which is what the model did here
    assert made.constant == made.accuracy
    assert made.balanced == 0.5


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=2, max_size=40))
def test_three_classes_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(one, dtype=np.int8) for one in zip(*pairs, strict=True))
    made = agreement(truth, guess, 3)
    assert made.accuracy == pytest.approx(accuracy_score(truth, guess))
    if len(set(truth.tolist()) | set(guess.tolist())) > 1:
        assert made.kappa == pytest.approx(cohen_kappa_score(truth, guess))
    if set(guess.tolist()) <= set(truth.tolist()):
        assert made.balanced == pytest.approx(balanced_accuracy_score(truth, guess))
    assert confusion(truth, guess).tolist() == confusion_matrix(truth, guess, labels=[1, 0, -1]).tolist()


def test_consensus_by_the_papers_majority_by_an_absolute_one_and_by_plurality() -> None:
    votes = labels([1, 1, 1, 1, 1], [1, 1, 1, 1, MISSING], [1, -1, 0, 0, MISSING], [1, 0, -1, 0, MISSING]).reshape(4, 5)
    assert consensus(votes, "absolute").tolist() == [1, 0, 0, 0, 1]
    undecided = labels(*[[one] for one in (1, 1, -1, 0, 0, 0)]).reshape(6, 1)
    assert consensus(undecided, "majority").tolist() == [1]
    assert consensus(undecided, "absolute").tolist() == consensus(undecided, "plurality").tolist() == [0]
    assert consensus(votes, "plurality").tolist() == [1, 1, 1, 0, 1]
    nobody = np.full((3, 1), MISSING, dtype=np.int8)
    assert consensus(nobody).tolist() == [MISSING]


def test_a_rater_does_not_make_the_truth_that_he_is_scored_by() -> None:
    votes = labels([1, 1], [1, -1], [-1, -1])
    assert without(votes, 0, "absolute").tolist() == [0, -1]
    assert without(votes, 2, "absolute").tolist() == [1, 0]


def ratings(raters: int = 6, questions: int = 100, seed: int = 0, skill: float = 0.8) -> tuple[Ratings, np.ndarray]:
    """Raters who report a hidden truth with some errors, under two criteria."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([1, 0, -1], p=[0.6, 0.15, 0.25], size=(questions, 2))
    noise = rng.choice([1, 0, -1], size=(raters, questions, 2))
    heard = rng.random((raters, questions, 2)) < skill
    made = np.where(heard, truth, noise).astype(np.int8)
    names = tuple(f"q{place}" for place in range(questions))
    who = tuple(f"rater{place}" for place in range(raters))
    return Ratings(who, names, ("overall", "safety"), made, {}, False), truth.astype(np.int8)


def test_all_tables_of_a_study() -> None:
    made, truth = ratings()
    tables = analyze(made, {"overall": truth[:, 0]}, 200, 0.95, 42, 0.2)
    human = made.labels[:, :, 0]

    counts = aggregate_raters(human.T)[0]
    agree = tables["raters_agree"].set_index("criterion")
    assert agree.at["overall", "fleiss_kappa"] == pytest.approx(their_fleiss(counts))

    outcomes = tables["outcomes"].set_index(["criterion", "rule"])
    majority = consensus(human)
    row: Any = outcomes.loc[("overall", "majority")]
    assert (row.A, row.tie, row.B) == tuple(int((majority == one).sum()) for one in (1, 0, -1))
    assert row.A_low <= row.A_share <= row.A_high

    measured = tables["model_agrees"].set_index(["criterion", "rule", "who"])
    usable = (majority != 0) & (truth[:, 0] != 0)
    model: Any = measured.loc[("overall", "majority", "model")]
    assert model.n == usable.sum()
    assert model.accuracy == pytest.approx(accuracy_score(majority[usable], truth[usable, 0]))
    accuracies = []
    for rater in range(6):
        others = consensus(np.delete(human, rater, axis=0))
        both = (others != 0) & (human[rater] != 0)
        accuracies.append(accuracy_score(others[both], human[rater][both]))
    people: Any = measured.loc[("overall", "majority", "raters, each left out")]
    assert people.accuracy == pytest.approx(np.mean(accuracies))
    assert people.accuracy_sem == pytest.approx(np.std(accuracies, ddof=1) / np.sqrt(6))
    assert ("safety", "majority", "model") not in measured.index

    levels = tables["three_class"].set_index(["criterion", "rule", "level"])
    pairwise = [cohen_kappa_score(human[i], human[j]) for i in range(6) for j in range(i)]
    assert levels.loc[("overall", "majority", "rater against rater")].kappa == pytest.approx(np.mean(pairwise))
    against_all: Any = levels.loc[("overall", "majority", "model against consensus")]
    assert against_all.accuracy == pytest.approx(accuracy_score(majority, truth[:, 0]))
    assert len(levels.loc[("overall", "majority")]) == 4

    strength = tables["consensus"].query("criterion == 'overall' and rule == 'majority'")
    assert strength.questions.sum() == (majority != 0).sum()
    judged = strength.dropna(subset=["accuracy"])
    assert (judged.low <= judged.accuracy).all()
    assert (judged.accuracy <= judged.high).all()
    assert len(judged) > 2

    table = tables["confusion"].query("criterion == 'overall' and rule == 'majority'")
    assert table[["model_A", "model_tie", "model_B"]].to_numpy().sum() == 100

    same: Any = tables["same_truth"].set_index(["criterion", "rule"]).loc[("overall", "majority")]
    assert same.difference == pytest.approx(same.model - same.rater)
    # the model knows the hidden truth, so it agrees with the others better than a rater does
    assert same.difference > 0
    assert bool(tables["alternative"].set_index("criterion").at["overall", "passes"])


def test_a_random_model_may_not_replace_a_rater() -> None:
    made, _ = ratings(seed=1)
    guesses = np.random.default_rng(5).choice([1, 0, -1], size=100).astype(np.int8)
    tables = analyze(made, {"overall": guesses}, 50, 0.95, 42, 0.2)
    row = tables["alternative"].iloc[0]
    assert not row.passes
    assert row.winning_rate == 0


def test_the_alternative_annotator_test_step_by_step() -> None:
    """Against an independent reading of the procedure, with scipy's t-test and statsmodels' adjustment."""
    made, truth = ratings(raters=5, questions=60, seed=3, skill=0.6)
    human, model = made.labels[:, :, 1], truth[:, 1]
    p_values, advantages = [], []
    for rater in range(5):
        others = [one for one in range(5) if one != rater]
        differences, wins = [], []
        for question in range(60):
            f = sum(human[one, question] == model[question] for one in others) / 4
            h = sum(human[one, question] == human[rater, question] for one in others) / 4
            wins.append(float(f >= h))
            differences.append(float(h >= f) - float(f >= h))
        advantages.append(np.mean(wins))
        p_values.append(ttest_1samp(differences, 0.15, alternative="less").pvalue)
    rejected = multipletests(p_values, alpha=0.05, method="fdr_by")[0]
    ours = alternative_annotator_test(human, model, 0.15)
    assert ours.winning_rate == pytest.approx(rejected.mean())
    assert ours.advantage == pytest.approx(np.mean(advantages))


def test_incomplete_designs_leave_fleiss_out_and_keep_the_rest() -> None:
    made, truth = ratings(raters=8)
    sparse = made.labels.copy()
    rng = np.random.default_rng(2)
    sparse[rng.random(sparse.shape) < 0.4] = MISSING
    tables = analyze(
        Ratings(made.raters, made.questions, made.criteria, sparse, {}, False),
        {"overall": truth[:, 0]},
        50,
        0.95,
        1,
        0.2,
    )
    row = tables["raters_agree"].iloc[0]
    assert np.isnan(row.fleiss_kappa)
    assert 0 < row.krippendorff_alpha < 1
    assert tables["model_agrees"].query("who == 'model'").accuracy.notna().all()


def test_one_rater_is_no_agreement_and_no_crash() -> None:
    made, truth = ratings(raters=1, questions=20)
    tables = analyze(made, {"overall": truth[:, 0]}, 20, 0.95, 1, 0.2)
    assert np.isnan(tables["raters_agree"].iloc[0].fleiss_kappa)
    assert tables["alternative"].iloc[0].raters == 0
    assert isinstance(tables["outcomes"], pd.DataFrame)


def test_random_raters_get_no_flattering_sentence() -> None:
    """Raters who click at random let any model pass the test, which then says nothing."""
    said, passed = [], 0
    for seed in range(8):
        made, truth = ratings(raters=6, questions=100, seed=seed, skill=0.0)
        row = analyze(made, {"overall": truth[:, 0]}, 200, 0.95, 42, 0.2)["alternative"].iloc[0]
        passed += row.passes
        assert not row.may_replace
        said.append(replacement(row))
    assert passed > 0, "the bare test is passed: without the grounds it would have said so"
    assert not [sentence for sentence in said if "may replace" in sentence]
    assert "no better than chance" in " ".join(said)


def test_a_constant_model_replaces_nobody() -> None:
    made, truth = ratings(raters=6, questions=200, seed=4)
    tables = analyze(made, {"overall": np.ones(200, dtype=np.int8), "safety": truth[:, 1]}, 300, 0.95, 42, 0.2)
    rows = tables["alternative"].set_index("criterion")
    assert rows.at["overall", "beyond_chance"]
    assert "one answer given always" in replacement(rows.loc["overall"])
    assert "may replace a rater" in replacement(rows.loc["safety"])


def test_grounds_by_other_hands() -> None:
    made, truth = ratings(raters=5, questions=80, seed=9)
    human, model = made.labels[:, :, 0].copy(), truth[:, 0]
    human[np.random.default_rng(1).random(human.shape) < 0.2] = MISSING
    found = grounds(human, model, np.arange(80)[None], 0.95)
    rows = [[None if one == MISSING else int(one) for one in row] for row in human.T]
    assert found.alpha == pytest.approx(krippendorff_alpha(rows))
    assert found.alpha_low == found.alpha_high == pytest.approx(found.alpha)
    agree = [np.mean([one == m for one in row if one is not None]) for row, m in zip(rows, model, strict=True)]
    constants = [np.mean([np.mean([one == c for one in row if one is not None]) for row in rows]) for c in (1, 0, -1)]
    assert found.gain == pytest.approx(np.mean(agree) - max(constants))


def test_the_papers_study_takes_the_papers_label() -> None:
    assert load_study("configs/paper.yaml").human.label == "majority"


@pytest.mark.parametrize("rule", ["majority", "absolute", "plurality"])
def test_a_question_that_nobody_judged_has_no_label(rule: Rule) -> None:
    assert consensus(np.full((3, 1), MISSING, dtype=np.int8), rule).tolist() == [MISSING]
