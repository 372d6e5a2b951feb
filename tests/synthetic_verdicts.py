"""Verdicts of an invented judge with known habits, and run directories that hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.data import questions as posts
from modpo_hpc.generation.records import ANSWERS
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.study import Study

STRING = pa.dictionary(pa.int32(), pa.string())
VERDICTS = pa.schema(
    [
        (name, STRING)
        for name in ("phase", "policy_a", "policy_b", "question_id", "persona_id", "criterion", "winner", "first")
    ]
    + [("key", pa.string())]
)
PERSONAS = pa.schema(
    [
        ("persona_id", pa.string()),
        ("split", pa.string()),
        ("population", pa.string()),
        ("age_group", pa.string()),
        ("gender", pa.string()),
        ("primary_ethnicity", pa.string()),
        ("ethnicities", pa.list_(pa.string())),
    ]
)


def small_study(**changes: Any) -> Study:
    """Two phases of four and three policies; sections can be replaced: ``small_study(statistics={...})``."""
    policies = {
        "Base": {"method": "base"},
        "SFT_Empathy": {"method": "sft", "criteria": {"empathy": 1}},
        "DPO_Empathy": {"method": "dpo", "criteria": {"empathy": 1}},
        "MODPO_Empathy": {"method": "modpo", "criteria": {"empathy": 0.5, "safety": 0.5}},
        "MODPO_Survey": {"method": "modpo", "criteria": {"empathy": 0.5, "active_listening": 0.25, "safety": 0.25}},
    }
    document = {
        "name": "small",
        "seed": 7,
        "personas": {"select": 40, "train": 20, "test": 20},
        "criteria": {"rank": ["empathy", "active_listening", "safety"]},
        "ranking": {"personas_per_question": 10},
        "alignment": {"policies": policies},
        "judging": {
            "personas_per_question": 20,
            "phases": {
                "phase1": {"policies": list(policies)[:4], "criteria": ["empathy", "safety"]},
                "phase2": {"policies": ["Base", "MODPO_Empathy", "MODPO_Survey"], "criteria": ["overall", "safety"]},
            },
        },
        "statistics": {"draws": 200, "non_inferiority": {"safety": 0.1}},
    }
    return Study.model_validate({**document, **changes})


STRENGTH = {
    "Base": {"empathy": -1.0, "safety": -0.2, "overall": -0.8},
    "SFT_Empathy": {"empathy": -0.4, "safety": -0.2, "overall": -0.3},
    "DPO_Empathy": {"empathy": 1.2, "safety": -0.4, "overall": 0.5},
    "MODPO_Empathy": {"empathy": 0.5, "safety": 0.7, "overall": 0.6},
    "MODPO_Survey": {"empathy": 0.5, "safety": 0.7, "overall": 0.8},
}


def small_run(root: Path, study: Study | None = None, questions: int = 40, **habits: Any) -> Run:
    """A judged run of ``small_study``; ``habits`` are those of :func:`judged`."""
    study = study or small_study()
    asked = [f"q{number:03d}" for number in range(questions)]
    personas = persona_rows(study.personas.test)
    names = [row["persona_id"] for row in personas]
    verdicts = {
        phase: judged(STRENGTH, phase, one.policies, one.criteria, asked, names, seed=number, **habits)
        for number, (phase, one) in enumerate(study.judging.phases.items())
    }
    return judged_run(root, study, verdicts, asked, personas)


def judged(
    strength: Mapping[str, Mapping[str, float]],
    phase: str,
    policies: Sequence[str],
    criteria: Sequence[str],
    questions: Sequence[str],
    personas: Sequence[str],
    *,
    seed: int = 0,
    first_shown_gains: float = 0.0,
    question_spread: float = 0.6,
    persona_spread: float = 0.3,
    persona_taste: Mapping[str, Mapping[str, float]] | None = None,
    ties: float = 0.02,
    unparsed: float = 0.0,
) -> pa.Table:
    """Every judgment of a phase: logistic in the difference of ``strength[policy][criterion]`` with effects of the
    question and the persona, ``first_shown_gains`` for the answer on top, and ``persona_taste[persona][policy]``."""
    rng = np.random.default_rng(seed)
    parts = []
    q, n = len(questions), len(personas)
    for criterion in criteria:
        for a, b in combinations(policies, 2):
            taste = np.array(
                [
                    (persona_taste or {}).get(who, {}).get(a, 0.0) - (persona_taste or {}).get(who, {}).get(b, 0.0)
                    for who in personas
                ]
            )
            gap = strength[a][criterion] - strength[b][criterion]
            a_first = (np.arange(q)[:, None] + np.arange(n)[None, :]) % 2 == 0
            score = gap + taste + rng.normal(0, question_spread, (q, 1)) + rng.normal(0, persona_spread, (1, n))
            score = score + np.where(a_first, 1, -1) * first_shown_gains
            draw = rng.random((q, n))
            winner = np.where(draw < 1 / (1 + np.exp(-score)), "A", "B")
            luck = rng.random((q, n))
            winner = np.where(luck < ties, "tie", np.where(luck < ties + unparsed, "unparsed", winner))
            size = q * n
            parts.append(
                pa.table(
                    {
                        "phase": [phase] * size,
                        "policy_a": [a] * size,
                        "policy_b": [b] * size,
                        "question_id": np.repeat(questions, n),
                        "persona_id": np.tile(personas, q),
                        "criterion": [criterion] * size,
                        "winner": winner.ravel(),
                        "first": np.where(a_first, "A", "B").ravel(),
                        "key": np.arange(size).astype(str),
                    }
                ).cast(VERDICTS)
            )
    return pa.concat_tables(parts)


def persona_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Invented test personas."""
    rng = np.random.default_rng(seed)
    return [
        {
            "persona_id": f"p{number:03d}",
            "split": "test",
            "population": str(rng.choice(["online", "clinic"])),
            "age_group": str(rng.choice(["18-24", "25-34", "35-44", "45+"])),
            "gender": str(rng.choice(["woman", "man", "non-binary"], p=[0.55, 0.35, 0.1])),
            "primary_ethnicity": str(rng.choice(["White", "Black", "Asian", "Hispanic"])),
            "ethnicities": ["White"],
        }
        for number in range(count)
    ]


def fill(run: Run, stage: str, tables: Mapping[str, tuple[pa.Table | list[dict[str, Any]], pa.Schema]]) -> None:
    """Put ``tables`` (shard -> rows, schema) into ``run`` as if ``stage`` had made them."""
    for shard_id, (rows, schema) in tables.items():
        shard = Shard(run, stage_named(stage), shard_id, run.root / ".scratch")
        shard.write_table(rows, schema)
        write_marker(
            run.folder(stage),
            Marker(
                stage,
                shard_id,
                _made_from(run, stage, shard_id),
                shard.outputs,
                started=1.0,
                seconds=2.0,
                host="here",
                job=None,
                attempt=1,
            ),
        )


def judged_run(
    root: Path,
    study: Study,
    verdicts: Mapping[str, pa.Table],
    questions: Sequence[str],
    personas: list[dict[str, Any]],
    seed: int = 0,
    text_of: Callable[[str], str] | None = None,
) -> Run:
    """A run directory whose verdicts (phase -> table) are made and whose statistics are not.

    ``text_of`` gives the text of a "question" or an "answer"; without it they are short.
    """
    rng = np.random.default_rng(seed)
    run = Run.create(root, study)
    rows = [
        {"question_id": one, "text": text_of("question") if text_of else f"Question {one}.", "split": "test"}
        for one in questions
    ]
    rows += [{"question_id": f"t{k}", "text": f"Training question {k}.", "split": "train"} for k in range(8)]
    fill(run, "questions", {"all": (rows, posts.SCHEMA)})
    others = [
        {**one, "persona_id": f"x{k}", "split": "train"}
        for k, one in enumerate(persona_rows(study.personas.train, seed=1))
    ]
    fill(run, "personas", {"all": (personas + others, PERSONAS)})
    answers = {}
    for shard_id in run.shard_ids("answers"):
        policy = shard_id.rpartition(".")[0]
        length = 30 + 8 * list(study.alignment.policies).index(policy)
        answers[shard_id] = (
            [
                {
                    "policy": policy,
                    "question_id": one,
                    "text": text_of("answer") if text_of else "An answer.",
                    "tokens": int(rng.poisson(length)),
                    "finish_reason": "stop",
                }
                for one in questions
            ],
            ANSWERS,
        )
    fill(run, "answers", answers)
    made = {}
    for shard_id in run.shard_ids("verdicts"):
        phase, a, b, _ = shard_id.split(".")
        table = verdicts[phase]
        mine = pc.and_(pc.equal(table["policy_a"], a), pc.equal(table["policy_b"], b))
        made[shard_id] = (table.filter(mine), VERDICTS)
    fill(run, "verdicts", made)
    return run


def _made_from(run: Run, stage: str, shard: str) -> str:
    """What stands in the marker: posts and personas count as made here, all else as brought in."""
    return run.inputs(stage, shard) if stage in ("questions", "personas") else IMPORTED
