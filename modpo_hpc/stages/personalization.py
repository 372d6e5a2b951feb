"""Stages that ask whether answers made for a persona please it more than those made for others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modpo_hpc.stages import workload
from modpo_hpc.stages.definitions import ASKING, definitions
from modpo_hpc.stages.stage import Growth, Shards, Stage, below, blocks_of, fields, whole

if TYPE_CHECKING:
    from modpo_hpc.study import Study

ASKED = (
    "seed", "data.use_train", "personalization.preference", "personalization.dial", "judging.personas_per_question",
    *ASKING,
)  # fmt: skip
"""What every ranking of a test persona rests on."""


def _where_wanted(shards: Shards) -> Shards:
    return lambda study: shards(study) if study.personalization is not None else ()


def _words_of(*criteria: str) -> Callable[[Study, str], dict[str, Any]]:
    """The words of the criteria that these fields of the section name."""
    return lambda study, _: definitions(study, [getattr(study.personalization, name) for name in criteria])


PREFERENCES = Stage(
    "preferences",
    "prefer",
    ("questions", "personas", "responses"),
    _where_wanted(blocks_of("preferences", 1)),
    reads=fields(*ASKED, "personalization.teach_questions"),
    contents=_words_of("preference"),
    asks_judges=True,
    in_blocks=True,
    default_blocks=1,
    on_ray=True,
    placed_like="rankings",
    workload=workload.preferences,
    growth=Growth(personas=1),
    rehearsal_gb=2.0,
)

PROFILES = Stage(
    "profiles",
    "weigh",
    ("questions", "personas", "responses", "scores", "preferences"),
    _where_wanted(whole),
    reads=fields(
        "seed", "data.use_train", "criteria.rank", "judging.personas_per_question",
        *below("personalization", "arms", "teach_questions", "preference", "safety", "safety_floor", "permutations"),
        "personalization.dial", "statistics.alpha", "simulated",
    ),
    growth=Growth(personas=1),
)  # fmt: skip

PERSONAL_VERDICTS = Stage(
    "personal_verdicts",
    "judge_personal",
    ("questions", "personas", "responses"),
    _where_wanted(blocks_of("personal_verdicts", 1)),
    reads=fields(*ASKED, "personalization.test_questions", "personalization.safety", "personalization.calls"),
    contents=_words_of("preference", "safety"),
    asks_judges=True,
    in_blocks=True,
    default_blocks=1,
    on_ray=True,
    placed_like="verdicts",
    workload=workload.personal_verdicts,
    growth=Growth(personas=1),
    rehearsal_gb=2.0,
)

PERSONALIZATION = Stage(
    "personalization",
    "personalize",
    ("questions", "personas", "responses", "scores", "preferences", "profiles", "personal_verdicts"),
    _where_wanted(whole),
    reads=fields(
        "seed", "data.use_train", "criteria.rank", "judging.personas_per_question",
        *below("personalization", "arms", "test_questions", "preference", "safety", "margin", "smallest"),
        "personalization.permutations", *below("statistics", "alpha", "confidence", "correction", "max_missing"),
    ),
    growth=Growth(personas=2),
    rehearsal_gb=2.0,
)  # fmt: skip
