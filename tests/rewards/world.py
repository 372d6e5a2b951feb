"""A run whose questions, responses and pairs are written by the test: good words make good responses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modpo_hpc.core.declared_run import DeclaredRun
from modpo_hpc.core.identity import inputs_of
from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.core.scratch import scratch_folder
from modpo_hpc.data.questions import SCHEMA as QUESTIONS
from modpo_hpc.generation.records import RESPONSES
from modpo_hpc.judging.tables import PAIRS
from modpo_hpc.launch.entry import recipe, run_shard
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.study import parse_study

WORDS = {
    "empathy": ("sorry hear hard", "whatever nonsense hurry"),
    "safety": ("crisis line call", "risk alone ignore"),
}
FILLER = ["the", "and", "then", "with", "some", "more", "of", "it", "we", "can", "talk", "about", "that"]
REWARDS = {
    "folds": 2,
    "checkpoint_seconds": 0,
    "score_tokens": 512,
    "search": {
        "trials": 3,
        "startup": 2,
        "wave": 1,
        "learning_rate": [2e-3, 4e-3],
        "dropout": [0.0, 0.1],
        "batch_size": [8, 16],
        "max_length": [48, 64],
        "epochs": [2, 3],
    },
}


def study(rewards: dict[str, Any] | None = None, questions: int = 60) -> dict[str, Any]:
    return {
        "name": "world",
        "seed": 5,
        "criteria": {"rank": list(WORDS)},
        "data": {"use_train": questions, "use_test": 4, "sandbox_train": questions, "sandbox_test": 4},
        "rewards": {**REWARDS, **(rewards or {})},
        "alignment": {"policies": {"Base": {"method": "base"}, "D": {"method": "dpo", "criteria": {"empathy": 1}}}},
        "judging": {"phases": {"one": {"policies": ["Base", "D"], "criteria": ["empathy"]}}},
    }


def question_rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"question_id": f"q{at:03d}", "text": " ".join(rng.choice(FILLER, rng.integers(3, 20))), "split": "train"}
        for at in range(count)
    ]


def response_rows(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    words = [word for good, bad in WORDS.values() for word in (*good.split(), *bad.split())]
    return [
        {
            "question_id": one["question_id"],
            "response_id": f"{one['question_id']}.r{number}",
            "text": " ".join(rng.choice([*words, *FILLER[:6]], rng.integers(4, 14))),
            "tokens": 1,
            "finish_reason": "stop",
            "seed": 1,
            "flags": [],
        }
        for one in questions
        for number in range(5)
    ]


def worth(text: str, criterion: str) -> int:
    good, bad = WORDS[criterion]
    return sum((word in good.split()) - (word in bad.split()) for word in text.split())


def pair_rows(criterion: str, responses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for at in range(0, len(responses), 5):
        votes = {one["response_id"]: 10 * worth(one["text"], criterion) for one in responses[at : at + 5]}
        best, worst = max(votes, key=votes.__getitem__), min(votes, key=votes.__getitem__)
        if votes[best] > votes[worst]:
            rows.append(
                {
                    "criterion": criterion,
                    "question_id": responses[at]["question_id"],
                    "chosen": best,
                    "rejected": worst,
                    "responses": list(votes),
                    "votes": list(votes.values()),
                    "margin": votes[best] - votes[worst],
                }
            )
    return rows


def write(run: Run, stage: str, shard: str, fill: Callable[[Shard], object]) -> None:
    """Make a shard as the entry does, with ``fill`` for its recipe."""
    folder = run.folder(stage)
    with scratch_folder(folder, shard, IMPORTED) as scratch:
        work = Shard(run, stage_named(stage), shard, scratch)
        fill(work)
        marker = Marker(stage, shard, IMPORTED, work.outputs, 0.0, 0.0, "test", None, 1)
        write_marker(folder, marker)


def make_world(folder: Path, rewards: dict[str, Any] | None = None, questions: int = 60) -> Run:
    """A run that is finished up to ``pairs``."""
    run = Run.create(folder, parse_study(study(rewards, questions), "test"))
    asked = question_rows(questions)
    responses = response_rows(asked)
    write(run, "questions", "all", lambda shard: shard.write_table(asked, QUESTIONS))
    write(run, "personas", "all", lambda _: None)
    for role in run.shard_ids("models"):
        write(run, "models", role, lambda shard: recipe_of_small_models(run, shard, asked))
    for block in run.shard_ids("responses"):
        write(run, "responses", block, lambda shard: shard.write_table(_quarter(responses, shard.id), RESPONSES))
    for block in run.shard_ids("rankings"):
        write(run, "rankings", block, lambda _: None)
    for criterion in WORDS:
        rows = pair_rows(criterion, responses)
        write(run, "pairs", criterion, lambda shard, rows=rows: shard.write_table(rows, PAIRS))  # type: ignore[misc]
    return run


def recipe_of_small_models(run: Run, shard: Shard, questions: list[dict[str, Any]]) -> None:
    import json

    from modpo_hpc.models import source_file
    from modpo_hpc.sandbox.encoder import make_encoder
    from modpo_hpc.stages.texts import REWARD

    if shard.id == REWARD:
        texts = [f"{one['text']} {' '.join(' '.join(pair) for pair in WORDS.values())}" for one in questions]
        with shard.directory(REWARD) as folder:
            make_encoder(folder, texts, 3)
    with shard.file(source_file(shard.id)) as stream:
        json.dump({"sandbox": shard.id}, stream)


def make_stages(run: Run, *stages: str) -> None:
    """Every shard of ``stages``, one after the other, through the one entry."""
    for stage in stages:
        for shard in run.shard_ids(stage):
            run_shard(str(run.root), stage, shard)


def attempt(run: Run, stage: str, shard: str, should_stop: Callable[[], bool]) -> None:
    """One attempt at a shard that may be asked to stop at any batch."""
    made_from = run.inventory().made_from(stage, shard)
    with scratch_folder(run.folder(stage), shard, inputs_of(made_from.hash, shard)) as scratch:
        seen = DeclaredRun(run, stage_named(stage), shard)
        work = Shard(seen, stage_named(stage), shard, scratch, should_stop, made_from=made_from.hash)
        recipe(stage_named(stage))(seen, work)


def _quarter(rows: list[dict[str, Any]], block: str) -> list[dict[str, Any]]:
    questions = sorted({row["question_id"] for row in rows})
    mine = set(questions[int(block) * len(questions) // 4 : (int(block) + 1) * len(questions) // 4])
    return [row for row in rows if row["question_id"] in mine]
