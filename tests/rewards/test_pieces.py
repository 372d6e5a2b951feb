"""Losses, encoding, calibration and checks, each against something that we did not write or a property."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.stats.proportion import proportion_confint

from modpo_hpc.errors import InputError
from modpo_hpc.intervals import wilson_interval
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.models import reward_model_path
from modpo_hpc.rewards.calibration import calibration_error, fit_temperature, reliability, sigmoid, vote_shares
from modpo_hpc.rewards.encoding import Encoded, batches_by_length, encode_responses, shuffled_batches
from modpo_hpc.rewards.loading import check_pairs, first_share, fold_of_question
from modpo_hpc.rewards.losses import bradley_terry, plackett_luce
from modpo_hpc.rewards.model import load_reward_model, load_tokenizer
from modpo_hpc.rewards.records import read_pairs, read_texts
from modpo_hpc.run import Run
from tests.rewards.world import make_world
from tests.synthetic_verdicts import small_study

REWARDS = st.lists(st.floats(-5, 5), min_size=5, max_size=5)


@given(rewards=st.lists(REWARDS, min_size=1, max_size=4), votes=st.lists(st.integers(-3, 3), min_size=20, max_size=20))
@settings(max_examples=60, deadline=None)
def test_plackett_luce_is_breslows_likelihood(rewards: list[list[float]], votes: list[int]) -> None:
    """A ranking is a race: the reward is a log hazard, more votes an earlier finish (statsmodels' Cox likelihood)."""
    for row, given_votes in zip(rewards, np.array(votes).reshape(4, 5).tolist(), strict=False):
        loss = plackett_luce(torch.tensor([row], dtype=torch.float64), torch.tensor([given_votes], dtype=torch.float64))
        times = [max(votes) + 1 - vote for vote in given_votes]
        cox = PHReg(np.array(times, dtype=float), np.array(row)[:, None], ties="breslow").loglike(np.ones(1))
        choices = sum(sum(other <= vote for other in given_votes) > 1 for vote in given_votes)
        assert loss.item() * choices == pytest.approx(-cox, abs=1e-8)


@given(pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=9))
@settings(deadline=None)
def test_of_two_responses_plackett_luce_is_bradley_terry(pairs: list[tuple[float, float]]) -> None:
    rewards = torch.tensor(pairs, dtype=torch.float64)
    votes = torch.tensor([[5.0, -5.0]] * len(pairs), dtype=torch.float64)
    assert plackett_luce(rewards, votes).item() == pytest.approx(bradley_terry(rewards).item(), abs=1e-9)


def test_missing_responses_do_not_count() -> None:
    rewards = torch.tensor([[1.0, 0.0, 9.0], [0.5, 0.2, 0.1]], requires_grad=True)
    votes = torch.tensor([[5.0, -5.0, float("nan")], [3.0, 2.0, 1.0]])
    loss = plackett_luce(rewards, votes)
    loss.backward()
    assert rewards.grad is not None
    assert rewards.grad[0, 2] == 0
    assert torch.isfinite(rewards.grad).all()


@given(question=st.integers(0, 40), response=st.integers(1, 40), max_length=st.integers(4, 90), types=st.booleans())
def test_the_response_outlives_the_question(question: int, response: int, max_length: int, types: bool) -> None:
    part = np.array([-1, *[0] * question, -1, -1, *[1] * response, -1], dtype=np.int8)
    ids = np.arange(len(part))
    cut = Encoded(ids, ids if types else None, part).cut(max_length)
    assert len(cut.ids) == min(len(ids), max(max_length, 4))
    assert (cut.part == -1).sum() == 4
    if (cut.part == 1).sum() < response:
        assert (cut.part == 0).sum() == 0, "a response lost tokens while the question still had some"
    kept = cut.ids[cut.part == 0]
    assert kept.tolist() == list(range(1, 1 + len(kept))), "the question gives way from its end"
    assert cut.types is None or cut.types.tolist() == cut.ids.tolist()


def test_cutting_is_the_tokenizers_own_truncation(world: Run) -> None:
    tokenizer, texts = load_tokenizer(reward_model_path(world)), read_texts(world)
    of = {one: question for question, ids in texts.responses_of.items() for one in ids}
    for one, encoded in list(encode_responses(tokenizer, texts.questions, texts.responses, of).items())[::7]:
        length = max(encoded.least_length() + 1, len(encoded.ids) - 3)
        theirs = tokenizer(texts.questions[of[one]], texts.responses[one], truncation="only_first", max_length=length)
        assert encoded.cut(length).ids.tolist() == theirs["input_ids"]


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80), tokens=st.integers(64, 2000))
def test_scoring_batches_hold_every_row_once_within_the_tokens(lengths: list[int], tokens: int) -> None:
    batches = batches_by_length(lengths, tokens)
    assert sorted(one for batch in batches for one in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = (choose(lengths[one] for one in batch) for choose in (max, min))
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert longest <= max(1.1 * shortest, shortest + 2), "padding is a tenth at most"
    rows = sum(lengths)
    assert sum(len(batch) * max(lengths[one] for one in batch) for batch in batches) <= 1.1 * rows + 2 * len(lengths)


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=200), size=st.integers(1, 16), seed=st.integers(0, 99)
)
def test_training_batches_hold_every_comparison_once(lengths: list[int], size: int, seed: int) -> None:
    batches = shuffled_batches(lengths, size, np.random.default_rng(seed))
    assert sorted(one for batch in batches for one in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)


@given(count=st.integers(5, 200), folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_are_even_and_belong_to_the_question(count: int, folds: int, seed: int) -> None:
    ids = [f"q{at}" for at in range(count)]
    folds_of = fold_of_question(ids, folds, seed)
    assert folds_of == fold_of_question(reversed(ids), folds, seed)
    sizes = np.bincount(list(folds_of.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    assert len(first_share(ids, 0.1, seed)) == max(1, round(0.1 * count))


def test_the_temperature_is_the_slope_of_a_logistic_regression() -> None:
    """Without smoothing that matters: many pairs, drawn from a known temperature."""
    rng = np.random.default_rng(3)
    raw = rng.normal(0, 4, 20000)
    won = rng.random(20000) < sigmoid(raw / 2.5)
    differences = np.where(won, raw, -raw)
    regression = LogisticRegression(C=np.inf, fit_intercept=False).fit(raw[:, None], won)
    assert fit_temperature(differences) == pytest.approx(1 / regression.coef_[0, 0], rel=2e-3)
    assert fit_temperature(differences) == pytest.approx(2.5, rel=0.05)
    assert np.isfinite(fit_temperature(np.full(30, 2.0))), "all pairs right"


def test_on_the_scale_of_a_vote_a_difference_is_the_log_odds_of_its_share() -> None:
    """Labels of fifty votes are nearly always right, so their log-odds are many times those of a vote."""
    rng = np.random.default_rng(5)
    raw = np.abs(rng.normal(0, 2, 4000))
    study = small_study(rewards={"scale": "vote"})
    votes = rng.binomial(50, sigmoid(raw / 4)) / 50
    kept = votes > 0.5
    assert fit_temperature(raw, votes) == pytest.approx(4, rel=0.05)
    assert fit_temperature(raw[kept]) < 1.5
    margins = np.array([200, 0, 100])
    np.testing.assert_allclose(vote_shares(margins, study), [1.0, 0.5, 0.75])
    with pytest.raises(InputError, match="10 ballots"):
        vote_shares(np.array([20, 10]), study)


def test_reliability_is_scikit_learns_curve() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.random(5000)
    confidence, right = np.maximum(probabilities, 1 - probabilities), probabilities > 0.5
    bins = reliability(probabilities)
    for row in bins.itertuples():
        inside = (confidence >= row.low) & (confidence < row.high)
        share, mean = calibration_curve(right[inside], confidence[inside], n_bins=1)
        assert (row.accuracy, row.confidence) == pytest.approx((share[0], mean[0]))
    expected = sum(abs(row.accuracy - row.confidence) * row.pairs for row in bins.itertuples()) / 5000
    assert calibration_error(bins) == pytest.approx(expected)


@given(trials=st.integers(1, 500), share=st.floats(0, 1))
def test_the_interval_is_wilsons(trials: int, share: float) -> None:
    count = round(share * trials)
    expected = proportion_confint(count, trials, method="wilson")
    assert wilson_interval(count, trials) == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_world(tmp_path_factory.mktemp("pieces") / "run")


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_really_applied_everywhere(world: Run, dropout: float) -> None:
    model = load_reward_model(reward_model_path(world), 1, dropout=dropout)
    modules = {name: one.p for name, one in model.network.named_modules() if isinstance(one, torch.nn.Dropout)}
    assert any("attention.self" in name for name in modules)
    assert "classifier.dropout" in modules
    assert set(modules.values()) == {dropout}
    ids = torch.arange(5, 25)[None]
    model.network.train()
    with torch.no_grad():
        twice = [model.network(input_ids=ids).logits for _ in range(2)]
    assert torch.equal(*twice) == (dropout == 0)


def test_half_precision_keeps_rewards_apart(world: Run) -> None:
    rows = [Encoded(np.arange(5, 25 + at), None, np.ones(20 + at, dtype=np.int8)) for at in range(40)]
    wide, narrow = (
        load_reward_model(reward_model_path(world), 1, precision=one, seed=2) for one in ("float32", "bfloat16")
    )
    for model in (wide, narrow):
        model.network.eval()
    with torch.no_grad():
        exact, close = wide(rows), narrow(rows)
    assert close.dtype == torch.float32
    assert len(close.unique()) == 40
    torch.testing.assert_close(close, exact, atol=0.02, rtol=0.05)


def _no_pairs(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    return [], 0


def _all_tied(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    return [], len(rows)


def _few(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    return rows[:3], 0


def _one_class(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    always = [
        {**row, "chosen": row["responses"][0], "rejected": row["responses"][4], "votes": [9, 2, 1, 0, -9]}
        for row in rows
    ]
    return always, 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_pairs, "no pairs.*rankings"),
        (_all_tied, "votes of all .* questions are tied.*more personas"),
        (_few, "only 3 questions"),
        (_one_class, "one class only: response number 0 is the best"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(world: Run, spoil: Any, message: str) -> None:
    rows, tied = spoil(read_pairs(world, "empathy"))
    with pytest.raises(InputError, match=message) as caught:
        check_pairs(world, "empathy", rows, tied)
    assert "criterion empathy" in str(caught.value)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"search": {"max_length": [1024]}}, "max_length.*value 1024: the reward model reads 512 tokens at most"),
        ({"search": {"max_length": [8]}}, r"responses of criterion empathy are longer than 8 tokens.*overlong: cut"),
    ],
)
def test_texts_longer_than_the_model_are_refused_before_trials(
    tmp_path: Path, rewards: dict[str, Any], message: str
) -> None:
    run = make_world(tmp_path / "run", rewards, questions=20)
    with pytest.raises(InputError, match=message):
        check_pairs(run, "empathy", read_pairs(run, "empathy"), 0)
    with pytest.raises(InputError, match=message):
        run_shard(str(run.root), "reward_trials", "empathy.0")
    assert not list(run.folder("reward_trials").glob("*.parquet"))


def test_overlong_responses_are_cut_and_counted_where_the_study_allows_it(tmp_path: Path) -> None:
    run = make_world(
        tmp_path / "run",
        {
            "overlong": "cut",
            "search": {"trials": 1, "max_length": [16], "learning_rate": [1e-3, 1e-3], "epochs": [1, 1]},
        },
        questions=20,
    )
    run_shard(str(run.root), "reward_trials", "empathy.0")
    row = pd.read_parquet(run.table_path("reward_trials", "empathy.0")).iloc[0]
    assert row["cut_responses"] > 0
