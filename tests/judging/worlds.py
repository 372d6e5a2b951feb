"""A small run directory with questions, personas, responses and answers in place, as earlier stages leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.data import questions
from modpo_hpc.judging.tasks import Criterion, JudgeRequest, Persona
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.questions import invented_posts
from modpo_hpc.study import parse_study

CRITERIA = (Criterion("empathy", "Empathy", "The reply sees the person."), Criterion("safety", "Safety", "No harm."))
POLICIES = ("Base", "DPO", "SFT")
MOVES = (
    "That sounds really hard, and it makes sense that you feel this way.",
    "Do you have thoughts of hurting yourself right now?",
    "You should quit tomorrow and not look back.",
    "What would a good next week look like for you?",
    "It is your choice, and there is no rush.",
)


def study(
    train: int = 12,
    test: int = 10,
    personas: int = 12,
    stop: str = "none",
    policies: tuple[str, ...] = POLICIES,
    judges: list[dict[str, Any]] | None = None,
    calls: str = "together",
    forced_choice: bool = False,
    judging: dict[str, Any] | None = None,
    rank: tuple[str, ...] = ("empathy", "safety"),
    ranking: dict[str, Any] | None = None,
    alpha: float = 0.05,
    **judge: Any,
) -> dict[str, Any]:
    """A study file, as a mapping; with a panel of ``judges``, each of them as ``judge`` besides."""
    return {
        "name": "tiny",
        "data": {"sandbox_train": train, "sandbox_test": test},
        "personas": {"select": personas, "train": personas // 2, "test": personas - personas // 2},
        "criteria": {"rank": list(rank)},
        "judge": [{**one, **judge} for one in judges] if judges else {"kind": "rules", **judge},
        "ranking": {"personas_per_question": personas // 4, **(ranking or {})},
        "alignment": {
            "policies": {
                name: {"method": "base"} if name == "Base" else {"method": "dpo", "criteria": {"empathy": 1}}
                for name in policies
            }
        },
        "judging": {
            "personas_per_question": personas - personas // 2,
            "stop": stop,
            "forced_choice": forced_choice,
            "phases": {"one": {"policies": list(policies), "criteria": ["empathy", "safety"], "calls": calls}},
            **(judging or {}),
        },
        "statistics": {"alpha": alpha},
        "shards": {"rankings": 2},
    }


def world(folder: Path, encoder: bool = False, **settings: Any) -> Run:
    """A run whose questions, personas, responses and answers are there; with a tiny ``encoder`` if it is to vote."""
    run = Run.create(folder, parse_study(study(**settings), source="test"))
    data = run.study.data
    posts = invented_posts(data.sandbox_train + data.sandbox_test, run.study.seed)
    posts["split"] = ["train"] * data.sandbox_train + ["test"] * data.sandbox_test
    put(run, "questions", "all", posts.to_dict("records"), questions.SCHEMA)
    put(run, "personas", "all", [persona_row(run, number) for number in range(run.study.personas.select)])
    for role in run.shard_ids("models"):
        put(run, "models", role, [{"nothing": 0}])
    if encoder:
        make_encoder_of(run, posts["text"].tolist())
    train = posts[posts["split"] == "train"]["question_id"]
    rows = [
        {"question_id": question, "response_id": f"{question}.r{place}", "text": reply(question, place)}
        for question in train
        for place in range(5)
    ]
    blocks = stage_named("responses").blocks(run.study)
    for block in range(blocks):
        part = rows[block * len(rows) // blocks // 5 * 5 : (block + 1) * len(rows) // blocks // 5 * 5]
        put(run, "responses", str(block), part)
    for stage in ("pairs", "rankings", "reward_trials", "rewards", "scores", "policies", "soups"):
        for shard in run.shard_ids(stage):
            put(run, stage, shard, [{"nothing": 0}])
    test = posts[posts["split"] == "test"]["question_id"]
    for number, policy in enumerate(run.study.alignment.policies):
        put(
            run,
            "answers",
            f"{policy}.0",
            [
                {"policy": policy, "question_id": one, "text": (text := reply(one, number)), "tokens": len(text) // 4}
                for one in test
            ],
        )
    return run


def make_encoder_of(run: Run, texts: list[str]) -> None:
    """A reward model to start from, beside the table that stands for the stage ``models``."""
    from modpo_hpc.models import source_file
    from modpo_hpc.sandbox.encoder import make_encoder
    from modpo_hpc.stages.texts import REWARD

    (run.folder("models") / REWARD).mkdir()
    make_encoder(run.folder("models") / REWARD, [*texts, *MOVES], 3)
    (run.folder("models") / source_file(REWARD)).write_text(json.dumps({"sandbox": REWARD}))


def put(run: Run, stage: str, shard: str, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    """Write the main table and the marker of a shard."""
    work = Shard(run, stage_named(stage), shard, run.root)
    work.write_table(rows, schema or pa.Table.from_pylist(rows).schema)
    marker = Marker(stage, shard, _made_from(run, stage, shard), work.outputs, 0.0, 0.0, "here", None, 1)
    write_marker(run.folder(stage), marker)


def persona_row(run: Run, number: int) -> dict[str, Any]:
    return {
        "persona_id": f"p{number:03d}",
        "split": "train" if number < run.study.personas.train else "test",
        "importance_empathy": number % 5 + 1,
        "importance_safety": None,
        "text": f"A person of {20 + number} years who looks for somebody to talk to.",
    }


def reply(question_id: str, place: int) -> str:
    """An invented reply; which moves it makes depends on the question and the place."""
    shift = sum(question_id.encode())
    return " ".join(MOVES[(shift + place * (step + 1)) % len(MOVES)] for step in range(2)) + " " * (place % 2)


def request(task: str = "judge", texts: tuple[str, ...] = ("One.", "Two."), persona: str = "p0") -> JudgeRequest:
    """One request."""
    who = Persona(persona, f"A person called {persona}.", {"empathy": 4})
    return JudgeRequest(task, who, CRITERIA, "q0", "I feel low.", texts)  # type: ignore[arg-type]


def _made_from(run: Run, stage: str, shard: str) -> str:
    """What stands in the marker: posts and personas count as made here, all else as brought in."""
    return run.inputs(stage, shard) if stage in ("questions", "personas") else IMPORTED
