"""Reward models beside their peers: training beside TRL's RewardTrainer, scoring beside the obvious ways to do it.

A RoBERTa of the real width (768, 12 heads, vocabulary 50,265) with two layers of random weights, and texts whose
lengths spread as posts and replies do. Both trainings see the same pairs, the same batch size, dropout and optimizer.
Scoring (``reward_scoring``) is taken apart step by step, for that shape and for the sandbox's. Times are CPU times of
one thread, contenders interleaved.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from modpo_hpc.rewards.encoding import Encoded
from modpo_hpc.rewards.model import RewardModel, load_reward_model, load_tokenizer
from modpo_hpc.rewards.records import Comparison
from modpo_hpc.rewards.training import RewardLearner, comparison_loss, train
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.study.rewards import Rewards, RewardSettings
from modpo_hpc.training import TrainingContext
from tests.bench import reward_scoring
from tests.bench.measuring import cpu_seconds, tell

PAIRS, BATCH, THREADS, ROUNDS = 32, 4, 1, 3
LONGEST, PAD = reward_scoring.LONGEST, 1
WIDE = reward_scoring.SHAPES["width of RoBERTa-base"]


def main() -> None:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_encoder(folder / "tokenizer", ["a post"], seed=0)
        reward_scoring.network(WIDE, dropout=0.1).save_pretrained(folder / "model")
        tokenizer = load_tokenizer(folder / "tokenizer")
        comparisons, encoded = corpus(PAIRS)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(cpu_seconds(lambda: train_ours(folder, comparisons, encoded))[0])
            theirs.append(cpu_seconds(trl_trainer(folder, tokenizer, comparisons, encoded).train)[0])
        gap = loss_gap(folder, tokenizer, comparisons[:BATCH], encoded)
        scoring = {name: reward_scoring.measure(name, tokenizer, folder, ROUNDS) for name in reward_scoring.SHAPES}
    mine, peers = statistics.median(ours), statistics.median(theirs)
    baseline = reward_scoring.BASELINE.replace(", ", "_").replace(" ", "_")
    gains = {f"scoring_vs_{baseline} ({name})": of["times_the_obvious_way"]["ours"] for name, of in scoring.items()}
    tell(
        "rewards",
        ratios={"training_vs_trl": round(peers / mine, 2), **gains},
        absolute={
            "pairs_per_cpu_second": round(PAIRS / mine, 2),
            "pairs_per_cpu_second_trl": round(PAIRS / peers, 2),
            "loss_difference_on_the_same_batch": gap,
            "scoring": scoring,
        },
        machine=f"{os.cpu_count()} cores, {THREADS} threads, {platform.machine()}, torch {torch.__version__}",
    )


def corpus(pairs: int) -> tuple[list[Comparison], dict[str, Encoded]]:
    """Random tokens whose lengths are log-normal: median 150, a tenth above 300."""
    rng = np.random.default_rng(0)
    encoded, comparisons = {}, []
    for at in range(pairs):
        question = int(np.clip(rng.lognormal(3.9, 0.7), 8, 200))
        names = (f"q{at}.r0", f"q{at}.r1")
        for one in names:
            response = int(np.clip(rng.lognormal(4.5, 0.6), 8, LONGEST - 4 - question))
            part = np.array([-1, *[0] * question, -1, -1, *[1] * response, -1], dtype=np.int8)
            encoded[one] = Encoded(rng.integers(5, WIDE.vocabulary, len(part)), None, part)
        comparisons.append(Comparison(f"q{at}", names, (10, -10)))
    return comparisons, encoded


def train_ours(folder: Path, comparisons: list[Comparison], encoded: dict[str, Encoded]) -> None:
    model = load_reward_model(folder / "model", PAD, dropout=0.1, device=torch.device("cpu"))
    settings = RewardSettings(learning_rate=1e-5, batch_size=BATCH, max_length=LONGEST, epochs=1, dropout=0.1)
    with tempfile.TemporaryDirectory() as place:
        train(RewardLearner(model, comparisons, encoded, settings, Rewards(), 0), TrainingContext(Path(place)))


def trl_trainer(
    folder: Path, tokenizer: Any, comparisons: list[Comparison], encoded: dict[str, Encoded], dropout: float = 0.1
) -> Any:
    columns = ("chosen_ids", "rejected_ids")
    rows = [
        dict(zip(columns, (encoded[one].ids.tolist() for one in each.responses), strict=True)) for each in comparisons
    ]
    settings = RewardConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-5,
        weight_decay=0.01,
        max_length=LONGEST,
        disable_dropout=dropout == 0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    return RewardTrainer(model, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def loss_gap(folder: Path, tokenizer: Any, comparisons: list[Comparison], encoded: dict[str, Encoded]) -> float:
    """Absolute difference of the two losses of one batch with the same weights, without dropout."""
    trainer = trl_trainer(folder, tokenizer, comparisons, encoded, dropout=0.0)
    trainer.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(comparisons))])
    with torch.no_grad():
        theirs = float(trainer.compute_loss(trainer.model, batch))
        ours = float(
            comparison_loss(
                RewardModel(trainer.model, PAD, torch.device("cpu"), "float32"), comparisons, encoded, "bradley_terry"
            )
        )
    return abs(ours - theirs)


if __name__ == "__main__":
    main()
