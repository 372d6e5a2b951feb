"""Stages that judge and count: rankings, pairs, verdicts, repeats, toxicity, statistics, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modpo_hpc.stages import workload
from modpo_hpc.stages.definitions import ASKING, definitions
from modpo_hpc.stages.stage import ALL, Growth, Needs, Stage, before_dot, below, blocks_of, fields, whole
from modpo_hpc.stages.texts import REWARD, TOXICITY_MODEL, answers_of_policy

if TYPE_CHECKING:
    from modpo_hpc.study import Study


def _contents_of_rankings(study: Study, _: str) -> dict[str, Any]:
    asked, calls = definitions(study, study.criteria.rank), study.ranking.calls
    return asked if calls == "together" else {**asked, "calls": calls}  # no older result becomes stale by the field


RANKINGS = Stage(
    "rankings",
    "rank",
    ("questions", "personas", "responses"),
    blocks_of("rankings"),
    reads=fields(
        "seed",
        "data.use_train",
        "criteria.rank",
        "ranking.personas_per_question",
        "-ranking.calls",
        *ASKING,
    ),
    contents=_contents_of_rankings,
    asks_judges=True,
    in_blocks=True,
    on_ray=True,
    workload=workload.rankings,
    growth=Growth(questions=1, personas=1),
    rehearsal_gb=2.0,
)

PAIRS = Stage(
    "pairs",
    "vote",
    ("questions", "models", "responses", "rankings"),
    lambda study: study.criteria.rank,
    item=lambda shard: shard,
    reads=fields(
        "seed",
        "data.use_train",
        "ranking.weights",
        *below("rewards", "loss", "compare_losses", "overlong", "search.trials", "search.max_length"),
        "rewards.settings.max_length",
        "-rewards",
    ),
    needs_of=lambda study, _: {"questions": None, "models": (REWARD,), "responses": None, "rankings": None},
    uses_models=True,
    growth=Growth(questions=1, personas=1),
    rehearsal_gb=2.0,
)


def _verdicts(study: Study) -> tuple[str, ...]:
    pairs = (f"{phase}.{a}.{b}" for phase, one in study.judging.phases.items() for a, b in one.pairs)
    return VERDICTS.blocks_of_items(study, *pairs)


def verdict_item(item: str) -> tuple[str, str, str]:
    """Phase, policy A and policy B of an item of the stage ``verdicts``; names hold no dots."""
    phase, policy_a, policy_b = item.split(".")
    return phase, policy_a, policy_b


def _needs_of_verdicts(study: Study, item: str) -> Needs:
    _, policy_a, policy_b = verdict_item(item)
    answers = (*answers_of_policy(study, policy_a), *answers_of_policy(study, policy_b))
    return {"questions": None, "personas": None, "answers": answers}


def _contents_of_verdicts(study: Study, item: str) -> dict[str, Any]:
    """The criteria of the phase; where judging is sequential, what decides a pair, too."""
    phase = verdict_item(item)[0]
    asked = definitions(study, study.judging.phases[phase].criteria)
    if study.judging.stop != "sequential":
        return asked
    from modpo_hpc.evaluation.sequential_design import level_of_a_pair

    return {**asked, "level": level_of_a_pair(study, phase), **study.judging.sequential.model_dump()}


VERDICTS = Stage(
    "verdicts",
    "judge",
    ("questions", "personas", "answers"),
    _verdicts,
    item=before_dot,
    reads=lambda item: (
        "seed",
        "data.use_test",
        *below(f"judging.phases.{verdict_item(item)[0]}", "criteria", "calls"),
        f"-judging.phases.{verdict_item(item)[0]}",
        "judging.personas_per_question",
        "judging.stop",
        "-judging.sequential",
        "-statistics.alpha",
        "judging.forced_choice",
        *ASKING,
    ),
    needs_of=_needs_of_verdicts,
    contents=_contents_of_verdicts,
    asks_judges=True,
    judges_may_differ=lambda study: study.statistics.mixed_judges,
    in_blocks=True,
    default_blocks=1,
    on_ray=True,
    workload=workload.verdicts,
    growth=Growth(questions=1, personas=1, policies=2, shards=2),
    rehearsal_gb=2.0,
)


def _contents_of_repeats(study: Study, _: str) -> dict[str, Any]:
    wanted = study.judging.repeats
    judged = dict.fromkeys(name for phase in study.judging.phases.values() for name in phase.criteria)
    return {**definitions(study, (*judged,)), **(wanted.model_dump() if wanted else {})}


REPEATS = Stage(
    "repeats",
    "repeat",
    ("questions", "personas", "answers", "verdicts"),
    lambda study: ALL if study.judging.repeats else (),
    reads=fields(
        "seed", "data.use_test", "judging.phases", "judging.personas_per_question", "judging.stop",
        "judging.forced_choice", "statistics.confidence", "-judging.repeats", "-judging.sequential", *ASKING,
    ),
    contents=_contents_of_repeats,
    asks_judges=True,
    on_ray=True,
    placed_like="verdicts",
    workload=workload.repeats,
    growth=Growth(policies=2),
    rehearsal_gb=2.0,
)  # fmt: skip


def _toxicity(study: Study) -> tuple[str, ...]:
    return tuple(f"{backend}.{policy}" for backend in study.toxicity.backends for policy in study.alignment.policies)


def _needs_of_toxicity(study: Study, item: str) -> Needs:
    backend, _, policy = item.partition(".")
    model = {"models": (f"{TOXICITY_MODEL}.{backend}",)} if study.toxicity.backends[backend].has_model else {}
    return {"questions": None, "answers": answers_of_policy(study, policy), **model}


TOXICITY = Stage(
    "toxicity",
    "toxicity",
    ("questions", "models", "answers"),
    _toxicity,
    item=lambda shard: shard,
    reads=lambda item: (
        f"toxicity.backends.{item.partition('.')[0]}",
        "toxicity.threshold",
        "-judge",  # the ledger that services share
        "data.use_test",
        "seed",
    ),
    needs_of=_needs_of_toxicity,
    workload=workload.toxicity,
    growth=Growth(questions=1, policies=1, shards=1),
)

FRONTS = Stage(
    "fronts",
    "front",
    ("answer_scores",),
    lambda study: ALL if study.alignment.sweep else (),
    reads=fields(
        "seed", "alignment.policies", "alignment.sweep", "alignment.reference_point", "criteria.rank",
        "statistics.draws", "statistics.confidence", "-alignment",
    ),
    growth=Growth(questions=1, policies=1),
)  # fmt: skip

STATISTICS = Stage(
    "statistics",
    "stats",
    ("questions", "personas", "answers", "verdicts"),
    whole,
    reads=fields(
        "name", "seed", "data.use_test", "judging", "statistics", "criteria", "simulated", "panel",
        "alignment.policies", "generation", "models.base", "models.reward", "-judge", "-alignment",
    ),
    contents=lambda study, _: {"statistics.mixed_judges": True} if study.statistics.mixed_judges else {},
    asks_judges=True,
    growth=Growth(questions=1, personas=1, policies=2),
    rehearsal_gb=4.0,
)  # fmt: skip


PERSONAL = ("preferences", "profiles", "personal_verdicts", "personalization")


def _needs_of_report(study: Study, _: str) -> Needs:
    """What a study does not ask for is no part of its report's identity."""
    asked = {
        **dict.fromkeys(PERSONAL, study.personalization is not None),
        "fronts": study.alignment.sweep,
        "conditioned": any(policy.stage == "conditioned" for policy in study.alignment.policies.values()),
        "repeats": study.judging.repeats,
    }
    return {need: None for need in REPORT.needs if asked.get(need, True)}


REPORT = Stage(
    "report",
    "report",
    ("statistics", "toxicity", "answer_scores", *PERSONAL, "fronts", "conditioned", "repeats"),
    whole,
    reads=fields(
        "name", "seed", "data", "personas", "models", "generation", "criteria", "ranking", "rewards", "alignment",
        "judging", "statistics", "toxicity", "simulated", "panel", "personalization", "-judge", "-resources", "-shards",
    ),
    needs_of=_needs_of_report,
    reads_too=(
        "questions", "personas", "models", "responses", "rankings", "pairs", "reward_trials", "rewards", "scores",
        "policy_trials", "policies", "soups", "answers", "verdicts",
    ),
    asks_judges=True,
    growth=Growth(policies=2),
    rehearsal_gb=2.0,
    version=2,  # ids of facts, captions and the paragraph to copy
)  # fmt: skip
