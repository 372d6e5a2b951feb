"""The records of the stage personas: what is written of the chosen, and of everyone in the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modpo_hpc.errors import InputError
from modpo_hpc.personas.columns import IMPORTANCE, Columns, load_columns
from modpo_hpc.personas.quality import quality_of
from modpo_hpc.personas.selection import select
from modpo_hpc.personas.survey import Participant, parse_rows, read_surveys, without_copies
from modpo_hpc.personas.text import persona_text
from modpo_hpc.seeds import rng_of
from modpo_hpc.study.data import Personas

POOL, ACCOUNT = "pool", "account.json"


def schema(criteria: Iterable[str]) -> pa.Schema:
    """One row a persona of the study, with its ratings of ``criteria``.

    Gender and primary ethnicity are the groups that personas are balanced by.
    """
    identity, *rest = _who_fields(criteria)
    split, text = (pa.field(name, pa.string(), nullable=False) for name in ("split", "text"))
    return pa.schema([identity, split, *rest, text])


def pool_schema(criteria: Iterable[str]) -> pa.Schema:
    """One row a participant, copies left out. ``state`` is train, test, below_floor or left_out."""
    return pa.schema(
        [
            *_who_fields(criteria),
            pa.field("primary_preference", pa.string()),
            pa.field("completeness", pa.float64()),
            pa.field("consistency", pa.float64()),
            pa.field("quality", pa.float64()),
            pa.field("state", pa.string(), nullable=False),
        ]
    )


def _who_fields(criteria: Iterable[str]) -> list[pa.Field]:
    return [
        pa.field("persona_id", pa.string(), nullable=False),
        pa.field("population", pa.string(), nullable=False),
        pa.field("age_group", pa.string()),
        pa.field("gender", pa.string(), nullable=False),
        pa.field("primary_ethnicity", pa.string(), nullable=False),
        pa.field("ethnicities", pa.list_(pa.string())),
        *(pa.field(f"{IMPORTANCE}{criterion}", pa.int8()) for criterion in criteria),
    ]


@dataclass(frozen=True)
class Built:
    """What the surveys became: rows of the two tables, the criteria that people rated, and the account of how."""

    personas: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    criteria: tuple[str, ...]
    account: dict[str, Any]


def participants_of(settings: Personas, seed: int, columns: Columns) -> list[Participant]:
    """The survey's participants; without a survey, the sandbox's invented ones."""
    if settings.surveys:
        return read_surveys(settings.surveys, columns)
    from modpo_hpc.sandbox.survey import invented_survey

    invented = invented_survey(seed)
    return [one for population, rows in invented.items() for one in parse_rows(rows, population, columns, "sandbox")]


def build(settings: Personas, seed: int) -> Built:
    """Survey to personas: read, score, choose, divide, write down.

    Raises:
        InputError: a survey or a setting is wrong; the message says which and what to do.
    """
    columns, rng = load_columns(settings.columns), rng_of(seed, "personas")
    answered = participants_of(settings, seed, columns)
    pool, copies = without_copies(answered)
    texts = [persona_text(one, columns) for one in pool]
    qualities = [quality_of(one, columns) for one in pool]
    scores = [quality.score for quality in qualities]
    fit = [place for place, score in enumerate(scores) if score >= settings.quality_floor - 1e-9]
    if len(fit) < settings.select:
        raise InputError(
            f"{settings.select} personas are wanted, but only {len(fit)} of {len(pool)} people reach the quality floor",
            field="personas.quality_floor",
            value=settings.quality_floor,
            remedy="Lower the floor or personas.select, or add answers to the surveys.",
        )
    chosen = select(
        [pool[place] for place in fit],
        [texts[place] for place in fit],
        [scores[place] for place in fit],
        settings.train,
        settings.test,
        settings.quota,
        settings.rarest_in_test,
        rng,
    )
    states = dict.fromkeys(range(len(pool)), "below_floor") | dict.fromkeys(fit, "left_out")
    states |= {fit[place]: "train" for place in chosen.train} | {fit[place]: "test" for place in chosen.test}
    width = max(3, len(str(len(pool))))
    who = [_who(one, f"p{place + 1:0{width}d}") for place, one in enumerate(pool)]
    personas = [
        {**who[place], "split": states[place], "text": texts[place]}
        for split in ("train", "test")
        for place in range(len(pool))
        if states[place] == split
    ]
    rows = [
        {
            **who[place],
            "primary_preference": one.primary_preference,
            "completeness": qualities[place].completeness,
            "consistency": qualities[place].consistency,
            "quality": scores[place],
            "state": states[place],
        }
        for place, one in enumerate(pool)
    ]
    account = {
        "participants": len(answered),
        "copies": [{"left_out": copy, "kept": first} for copy, first in copies],
        "quality": _spread(scores),
        "quality_of_selection": _spread([scores[place] for place in states if states[place] in ("train", "test")]),
        "quality_floor": settings.quality_floor,
        "below_floor": len(pool) - len(fit),
        "contradictions": dict(sorted(Counter(name for one in qualities for name in one.contradictions).items())),
        "selected": settings.select,
        "constraints_not_met": list(chosen.reasons),
    }
    return Built(personas, rows, columns.criteria, account)


def _who(person: Participant, persona_id: str) -> dict[str, Any]:
    return {
        "persona_id": persona_id,
        "population": person.population,
        "age_group": person.age_group,
        "gender": person.gender_group,
        "primary_ethnicity": person.ethnicity_group,
        "ethnicities": list(person.told["ethnicities"]),
        **{f"{IMPORTANCE}{criterion}": rating for criterion, rating in person.importance.items()},
    }


def _spread(scores: Sequence[float]) -> dict[str, float]:
    return {
        "mean": round(float(np.mean(scores)), 4),
        "sd": round(float(np.std(scores)), 4),
        "lowest": round(min(scores), 4),
        "highest": round(max(scores), 4),
    }
