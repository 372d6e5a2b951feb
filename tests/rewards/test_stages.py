"""The three stages on a small run: right, resumed with the same bytes, the same in any order and sharding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from modpo_hpc.data.questions import SCHEMA as QUESTIONS
from modpo_hpc.errors import IncompleteError, Interrupted
from modpo_hpc.generation.records import ANSWERS
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.rewards.calibration import out_of_fold
from modpo_hpc.rewards.diagnostics import losses_compared
from modpo_hpc.rewards.encoding import batches_by_length
from modpo_hpc.rewards.fitting import recipe_of
from modpo_hpc.rewards.loading import load_trial_data
from modpo_hpc.rewards.model import load_reward_model, load_tokenizer, predict
from modpo_hpc.rewards.records import read_texts
from modpo_hpc.rewards.trial import train_trial
from modpo_hpc.run import Run
from modpo_hpc.search import RunningTrial
from modpo_hpc.training import NotANumber, TrainingContext
from tests.rewards.world import attempt, make_stages, make_world, write


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run finished up to its pairs, to be copied."""
    return make_world(tmp_path_factory.mktemp("base") / "run").root


@pytest.fixture(scope="module")
def done(base: Path) -> Run:
    """The run with all three stages finished, undisturbed."""
    return finished_copy(base, "done")


def copy_of(base: Path, name: str) -> Run:
    return Run.open(shutil.copytree(base, base.parent / name))


def finished_copy(base: Path, name: str) -> Run:
    run = copy_of(base, name)
    make_stages(run, "reward_trials", "rewards", "scores")
    return run


def bytes_of(run: Run, *stages: str) -> dict[str, bytes]:
    paths = [
        path for stage in stages for path in run.folder(stage).rglob("*") if path.suffix in (".parquet", ".safetensors")
    ]
    return {str(path.relative_to(run.root)): path.read_bytes() for path in sorted(paths)}


def test_models_learn_what_the_votes_say(done: Run) -> None:
    pairs = out_of_fold(done.table("rewards").to_pandas())
    assert len(pairs) == done.table("pairs", ["margin"]).num_rows
    assert not pairs["seen"].any()
    by_criterion = (pairs["difference"] > 0).groupby(pairs["criterion"]).mean()
    assert by_criterion.min() > 0.75, by_criterion


def test_each_question_is_scored_by_the_model_that_did_not_see_it(done: Run) -> None:
    """Every raw reward of the scores is that of the fold's own model, computed anew from its folder, one at a time."""
    scores, predictions = done.table("scores").to_pandas(), done.table("rewards").to_pandas()
    assert len(scores) == 60 * 5 * 2
    assert not scores.duplicated(["response_id", "criterion"]).any()
    fold_of = out_of_fold(predictions).set_index(["criterion", "question_id"])["fold"]
    seen = predictions[predictions["part"] == "final"]
    assert set(seen["question_id"]) >= set(out_of_fold(predictions)["question_id"])
    for (criterion, response), raw in scores.set_index(["criterion", "response_id"])["reward_raw"].iloc[::37].items():
        question = response.split(".")[0]
        if (criterion, question) not in fold_of.index:
            continue
        folder = done.folder("rewards") / f"{criterion}.fold{fold_of[criterion, question]}"
        assert raw == pytest.approx(reward_one_by_one(done, folder, question, response), abs=1e-4)


def reward_one_by_one(run: Run, folder: Path, question: str, response: str) -> float:
    """As a stranger would: transformers alone."""
    texts = read_texts(run)
    return reward_of_text(folder, texts.questions[question], texts.responses[response])


def reward_of_text(folder: Path, question: str, text: str) -> float:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    length = json.loads((folder / "settings.json").read_text())["max_length"]
    batch = tokenizer(question, text, truncation="only_first", max_length=length, return_tensors="pt")
    with torch.no_grad():
        return float(model(**batch).logits[0, 0])


def test_calibrated_rewards_keep_margins_up_to_the_temperature(done: Run) -> None:
    scores = done.table("scores").to_pandas()
    for _, part in scores.groupby("criterion"):
        wide = part.groupby("question_id")[["reward", "reward_raw"]].agg(lambda values: values.iloc[0] - values.iloc[1])
        ratio = wide["reward"] / wide["reward_raw"]
        assert ratio.std() < 1e-6 * ratio.mean()
    assert abs(scores.groupby("criterion")["reward"].mean()).max() < 2


def test_a_loss_that_is_no_number_ends_the_training_and_names_step_questions_and_place(base: Path) -> None:
    """A rate that blows the weights up: nothing is kept, and the state before it is."""
    settings = {"learning_rate": 1e30, "batch_size": 8, "max_length": 64, "epochs": 3}
    run = make_world(base.parent / "not-a-number", {"search": {"trials": 0}, "settings": settings})
    named = r"step \d+ of \d+: the .* is (nan|inf); the questions of this step are q"
    with pytest.raises(NotANumber, match=named) as told:
        run_shard(str(run.root), "rewards", "empathy.fold0")
    checkpoints = run.folder("rewards") / ".work" / "empathy.fold0" / "checkpoints"
    assert str(checkpoints) in str(told.value)
    assert "learning rate" in str(told.value)
    assert "empathy.fold0" in run.missing("rewards")
    assert not (run.folder("rewards") / "empathy.fold0").exists()


def test_any_order_gives_the_same_bytes(base: Path, done: Run) -> None:
    run = copy_of(base, "backwards")
    for stage in ("reward_trials", "rewards", "scores"):
        for shard in reversed(run.shard_ids(stage)):
            run_shard(str(run.root), stage, shard)
    assert bytes_of(run, "reward_trials", "rewards", "scores") == bytes_of(done, "reward_trials", "rewards", "scores")


@pytest.mark.parametrize(
    ("stage", "shard"), [("reward_trials", "safety.2"), ("rewards", "empathy.fold1"), ("scores", "safety.0")]
)
def test_an_attempt_stopped_at_every_batch_ends_with_the_same_bytes(done: Run, stage: str, shard: str) -> None:
    before = bytes_of(done, stage)
    run = copy_of(done.root, f"stopped-{stage}")
    (run.folder(stage) / "markers" / f"{shard}.json").unlink()
    if stage == "reward_trials":
        shutil.rmtree(run.folder(stage) / "search")
    interruptions = 0
    for stops in range(200):
        calls = iter(range(10**6))
        try:
            attempt(run, stage, shard, lambda calls=calls, stops=stops: next(calls) == stops % 2)  # type: ignore[misc]
            break
        except Interrupted:
            interruptions += 1
    assert interruptions >= 3
    assert bytes_of(run, stage) == before


def test_scores_do_not_depend_on_the_number_of_blocks(base: Path, done: Run) -> None:
    run = copy_of(done.root, "blocks")
    study = (run.root / "study.yaml").read_text().replace("shards: {}", "shards: {scores: 3}")
    (run.root / "study.yaml").write_text(study)
    run = Run.open(run.root)
    assert len(run.shard_ids("scores")) == 3 * 2
    for shard in run.shard_ids("scores"):
        attempt(run, "scores", shard, lambda: False)
    frames = [pd.read_parquet(run.table_path("scores", shard)) for shard in run.shard_ids("scores")]
    order = ["response_id", "criterion"]
    mine = pd.concat(frames).sort_values(order).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        mine, done.table("scores").to_pandas().sort_values(order).reset_index(drop=True), check_exact=True
    )


def test_weights_that_were_removed_are_asked_for_by_name_and_come_back_the_same(base: Path, done: Run) -> None:
    run = copy_of(done.root, "removed")
    weights = run.folder("rewards") / "safety.fold1" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    assert run.missing("scores") == [], "scores that are made do not need them"
    with pytest.raises(IncompleteError, match=r"safety.fold1.*gone.*modpo rerun \S+ rewards safety.fold1$"):
        attempt(run, "scores", run.shard_ids("scores")[-1], lambda: False)
    (run.folder("rewards") / "markers" / "safety.fold1.json").unlink()
    make_stages(run, "rewards")
    assert weights.read_bytes() == before
    assert run.missing("scores") == []


def test_the_best_trial_is_reproducible_from_its_record(done: Run, tmp_path: Path) -> None:
    shards = [f"safety.{number}" for number in range(3)]
    trials = done.table("reward_trials", shard_ids=shards).to_pandas()
    best = trials[trials["trial"] == recipe_of(done, "safety").trial].iloc[0]
    names = ("learning_rate", "weight_decay", "dropout", "batch_size", "max_length", "epochs")
    reported: dict[int, float] = {}
    again = RunningTrial(int(best["trial"]), {name: best[name].item() for name in names}, reported.__setitem__)
    accuracy = train_trial(
        load_trial_data(done, "safety"), done.study.rewards, again, int(best["seed"]), TrainingContext(tmp_path)
    )
    assert accuracy == best["accuracy"]
    assert list(reported.values()) == list(best["accuracies"])


def test_batched_rewards_are_those_of_one_at_a_time(done: Run) -> None:
    folder = done.folder("rewards") / "safety.final"
    data = load_trial_data(done, "safety")
    rows = [one.cut(64) for one in list(data.encoded.values())[:40]]
    model = load_reward_model(folder, load_tokenizer(folder).pad_token_id)
    together = predict(model, rows, batches_by_length([len(row.ids) for row in rows], 512))
    alone = predict(model, rows, [[at] for at in range(len(rows))])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_whole_ranking_can_be_learned_too(base: Path) -> None:
    run = make_world(
        base.parent / "ranking",
        {
            "loss": "plackett_luce",
            "search": {"trials": 0},
            "learning_curve": [0.5],
            "compare_losses": True,
            "score_answers": True,
            "settings": {"learning_rate": 3e-3, "batch_size": 8, "max_length": 64, "epochs": 3},
        },
    )
    make_stages(run, "rewards", "scores")
    predictions = run.table("rewards").to_pandas()
    pairs = out_of_fold(predictions)
    assert (pairs["difference"] > 0).mean() > 0.75
    for part in ("curve50", "bradley_terry"):
        extra = predictions[predictions["part"] == part]
        assert set(extra["question_id"]) == set(pairs[pairs["part"] == "fold0"]["question_id"])
        assert not extra["seen"].any()
        assert not list((run.folder("rewards") / f"empathy.{part}").glob("*.safetensors")), "no weights are kept"
    compared = losses_compared(predictions, "plackett_luce")
    assert compared["criterion"].tolist() == ["empathy", "safety"]
    assert (compared[["bradley_terry", "plackett_luce"]] > 0.6).all(axis=None)
    answers_are_scored_by_the_final_models(run)


def answers_are_scored_by_the_final_models(run: Run) -> None:
    test = [{"question_id": f"t{at}", "text": f"a test question {at}", "split": "test"} for at in range(4)]
    said = {"Base": "whatever nonsense hurry", "D": "sorry to hear that it is hard"}
    write_again(run, "questions", "all", [*run.table("questions").to_pylist(), *test], QUESTIONS)
    for policy, text in said.items():
        rows = [
            {"policy": policy, "question_id": one["question_id"], "text": text, "tokens": 5, "finish_reason": "stop"}
            for one in test
        ]
        write_again(run, "answers", f"{policy}.0", rows, ANSWERS)
    shards = [f"{policy}.0" for policy in said]
    for shard in shards:
        attempt(run, "answer_scores", shard, lambda: False)
    scores = pd.concat([pd.read_parquet(run.table_path("answer_scores", shard)) for shard in shards])
    assert len(scores) == 2 * 4 * len(run.study.criteria.rank)
    mean = scores.groupby(["policy", "criterion"])["reward"].mean()
    assert mean["D", "empathy"] > mean["Base", "empathy"] + 1
    for row in scores[::5].itertuples():
        folder = run.folder("rewards") / f"{row.criterion}.final"
        question = next(one["text"] for one in test if one["question_id"] == row.question_id)
        alone = reward_of_text(folder, question, said[row.policy])
        assert row.reward_raw == pytest.approx(alone, abs=1e-4)


def write_again(run: Run, stage: str, shard: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    write(run, stage, shard, lambda one: one.write_table(rows, schema))
