"""Stages that ask whether answers made for a persona please it more than those made for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modpo_hpc.stages import workload
from modpo_hpc.stages.judgments import definitions
from modpo_hpc.stages.rewards import scores_of
from modpo_hpc.stages.stage import Growth, Shards, Stage, blocks_of, fields, whole

if TYPE_CHECKING:
    from modpo_hpc.study import Study

ASKED = (
    "seed", "data.use_train", "personalization.preference", "personalization.dial", "judging.personas_per_question",
    "panel", "-criteria.files", "-judge", "-models.dtype",
)  # fmt: skip
"""What every ranking of a test persona rests on."""


def _where_wanted(shards: Shards) -> Shards:
    return lambda study: shards(study) if study.personalization is not None else ()


def _preference(study: Study, _: str) -> dict[str, Any]:
    wanted = study.personalization
    return definitions(study, (wanted.preference,)) if wanted else {}


def _preference_and_safety(study: Study, _: str) -> dict[str, Any]:
    wanted = study.personalization
    return definitions(study, (wanted.preference, wanted.safety)) if wanted else {}


def _all_scores(study: Study) -> tuple[str, ...]:
    return tuple(shard for criterion in study.criteria.rank for shard in scores_of(study, criterion))


PREFERENCES = Stage(
    "preferences",
    "prefer",
    ("questions", "personas", "responses"),
    _where_wanted(blocks_of("preferences", 1)),
    reads=fields(*ASKED, "personalization.teach_questions"),
    contents=_preference,
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
        "seed", "data.use_train", "criteria.rank", "judging.personas_per_question", "personalization.arms",
        "personalization.teach_questions", "personalization.preference", "personalization.safety",
        "personalization.safety_floor",
        "personalization.permutations", "personalization.dial", "statistics.alpha", "simulated",
    ),
    needs_of=lambda study, _: {
        "questions": None, "personas": None, "responses": None, "scores": _all_scores(study), "preferences": None
    },
    growth=Growth(personas=1),
)  # fmt: skip

PERSONAL_VERDICTS = Stage(
    "personal_verdicts",
    "judge_personal",
    ("questions", "personas", "responses"),
    _where_wanted(blocks_of("personal_verdicts", 1)),
    reads=fields(
        *ASKED, "personalization.test_questions", "personalization.safety", "personalization.calls"
    ),
    contents=_preference_and_safety,
    asks_judges=True,
    in_blocks=True,
    default_blocks=1,
    on_ray=True,
    placed_like="verdicts",
    workload=workload.personal_verdicts,
    growth=Growth(personas=1),
    rehearsal_gb=2.0,
)  # fmt: skip

PERSONALIZATION = Stage(
    "personalization",
    "personalize",
    ("questions", "personas", "responses", "scores", "preferences", "profiles", "personal_verdicts"),
    _where_wanted(whole),
    reads=fields(
        "seed", "data.use_train", "criteria.rank", "judging.personas_per_question", "personalization.arms",
        "personalization.test_questions", "personalization.preference", "personalization.safety",
        "personalization.margin", "personalization.smallest", "personalization.permutations", "statistics.alpha",
        "statistics.confidence", "statistics.correction", "statistics.max_missing",
    ),
    needs_of=lambda study, _: {
        "questions": None, "personas": None, "responses": None, "scores": _all_scores(study), "preferences": None,
        "profiles": None, "personal_verdicts": None,
    },
    growth=Growth(personas=2),
    rehearsal_gb=2.0,
)  # fmt: skip
