"""A small world for training: a random Mistral, invented posts, responses, pairs and scores, in a run directory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.models import locate_model, source_file
from modpo_hpc.run import Run
from modpo_hpc.stages.stage import before_dot
from modpo_hpc.stages.texts import BASE, REWARD
from modpo_hpc.study import parse_study

CRITERIA = ("empathy", "safety", "manner")
WORDS = [
    "the",
    "day",
    "was",
    "long",
    "and",
    "my",
    "heart",
    "felt",
    "heavy",
    "so",
    "we",
    "talked",
    "about",
    "rest",
    "hope",
    "calm",
    "help",
    "your",
    "own",
    "way",
    "now",
]


def sentence(rng: np.random.Generator, words: int) -> str:
    return "".join(f" {WORDS[int(place)]}" for place in rng.integers(len(WORDS), size=words))


def study_of(model: Path, posts: Path, training: dict[str, Any] | None = None, **policies: Any) -> dict[str, Any]:
    shared = {"batch_size": 6, "micro_batch_size": 4, "learning_rate": 0.005, "beta": 0.5, "epochs": 2, "lora_rank": 4}
    return {
        "name": "tiny",
        "data": {"file": str(posts), "test_size": 8},
        "models": {"base": str(model), "reward": str(model)},
        "criteria": {"rank": list(CRITERIA)},
        "ranking": {"weights": [10, 0, -10]},
        "generation": {"responses_per_question": 3},
        "alignment": {
            "training": {**shared, **(training or {})},
            "policies": {
                "Base": {"method": "base"},
                "SFT": {"method": "sft", "criteria": {"empathy": 1}},
                "DPO": {"method": "dpo", "criteria": {"empathy": 1}},
                "DPO_Safety": {"method": "dpo", "criteria": {"safety": 1}},
                "MODPO": {"method": "modpo", "criteria": {"empathy": 0.5, "safety": 0.3, "manner": 0.2}},
                "Joint": {"method": "joint_dpo", "criteria": {"empathy": 0.5, "safety": 0.3, "manner": 0.2}},
                "Soup": {"method": "soup", "sources": {"DPO": 0.5, "DPO_Safety": 0.5}},
                **policies,
            },
        },
        "judging": {"phases": {"phase1": {"policies": ["Base", "DPO"], "criteria": ["empathy"]}}},
    }


def started_run(folder: Path, study: dict[str, Any], questions: int = 40) -> Run:
    """A run with everything that alignment needs: questions, models, responses, pairs and scores."""
    rng = np.random.default_rng(5)
    posts = Path(study["data"]["file"])
    if not posts.exists():
        rows = (f"q{number:03d},{number}{sentence(rng, 4 + 3 * (number % 7))}" for number in range(questions))
        posts.write_text("\n".join(("sp_id,seeker_post", *rows)) + "\n")
    run = Run.create(folder, parse_study(study, "test"))
    run_shard(str(folder), "questions", "all")
    sources = {BASE: locate_model(study["models"]["base"], None), REWARD: locate_model(study["models"]["reward"], None)}
    run.folder("models").mkdir()
    for role, source in sources.items():
        (run.folder("models") / source_file(role)).write_text(json.dumps(source))
    for role in sources:
        finish(run, "models", role)
    fill_tables(run, np.random.default_rng(6))
    return run


def fill_tables(run: Run, rng: np.random.Generator) -> None:
    questions = run.table("questions").to_pandas()
    training = sorted(questions[questions["split"] == "train"]["question_id"])
    count = run.study.generation.responses_per_question
    responses = [
        {
            "question_id": question,
            "response_id": f"{question}.r{place}",
            "text": sentence(rng, int(rng.integers(2, 14))),
            "finish_reason": "stop",
        }
        for question in training
        for place in range(count)
    ]
    write(run, "responses", responses)
    write(run, "rankings", [])
    for criterion in CRITERIA:
        rows = []
        for question in training:
            chosen, rejected = rng.permutation(count)[:2]
            rows.append(
                {
                    "criterion": criterion,
                    "question_id": question,
                    "chosen": f"{question}.r{chosen}",
                    "rejected": f"{question}.r{rejected}",
                }
            )
        write_shard(run, "pairs", criterion, rows)
    for stage in ("reward_trials", "rewards"):
        for shard in run.shard_ids(stage):
            finish(run, stage, shard)
    scores = [
        {
            "question_id": row["question_id"],
            "response_id": row["response_id"],
            "criterion": criterion,
            "reward": float(rng.normal()),
            "reward_raw": 0.0,
        }
        for row in responses
        for criterion in CRITERIA
    ]
    for shard in run.shard_ids("scores"):
        write_shard(run, "scores", shard, [row for row in scores if row["criterion"] == before_dot(shard)])


def write(run: Run, stage: str, rows: list[dict[str, Any]]) -> None:
    """All rows in the first shard, none in the others."""
    for number, shard in enumerate(run.shard_ids(stage)):
        write_shard(run, stage, shard, rows if number == 0 else [], like=rows)


def write_shard(run: Run, stage: str, shard: str, rows: list[dict[str, Any]], like: Any = None) -> None:
    schema = pa.Table.from_pylist(like or rows).schema if (like or rows) else pa.schema([])
    path = run.table_path(stage, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    finish(run, stage, shard)


def finish(run: Run, stage: str, shard: str) -> None:
    """Mark a shard whose files the test has made itself as finished."""
    marker = Marker(stage, shard, IMPORTED, {}, time.time(), 0.0, "here", None, 1)
    write_marker(run.folder(stage), marker)
