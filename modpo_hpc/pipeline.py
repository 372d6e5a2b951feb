"""The stages: what each needs, its shards and what a shard takes. Data, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from modpo_hpc.errors import InputError
from modpo_hpc.study import Study
from modpo_hpc.study.evaluation import Resources
from modpo_hpc.study.rewards import LOSSES

ALL = ("all",)


@dataclass(frozen=True)
class Stage:
    """A stage makes one kind of record. ``name`` is the noun and the folder, ``verb`` the script in ``jobs/``.

    ``shards`` and all else here are functions of the study alone, so that a plan needs no data. ``version`` rises
    when the recipe changes what it makes; results of an older one are then stale. ``in_ranks`` says that the recipe
    may run in several processes at once that make one shard together, ``on_ray`` that its judges can be asked from all
    nodes of a Ray cluster.
    """

    name: str
    verb: str
    needs: tuple[str, ...]
    shards: Callable[[Study], tuple[str, ...]]
    default: Resources = Resources()
    default_blocks: int = 4
    in_ranks: bool = False
    on_ray: bool = False
    uses_models: bool = False
    version: int = 1

    def resources(self, study: Study) -> Resources:
        """What one shard takes: the study's word, or the default."""
        return study.resources.get(self.name, self.default)

    def blocks(self, study: Study) -> int:
        """Number of blocks that the questions are cut into."""
        return study.shards.get(self.name, self.default_blocks)


def _whole(_: Study) -> tuple[str, ...]:
    return ALL


def _blocks(stage: str) -> Callable[[Study], tuple[str, ...]]:
    return lambda study: tuple(str(block) for block in range(stage_named(stage).blocks(study)))


def _criteria(study: Study) -> tuple[str, ...]:
    return study.criteria.rank


def _reward_trials(study: Study) -> tuple[str, ...]:
    """By trial, then by criterion: the trials that a later one learns from are long finished when it starts."""
    trials = range(study.rewards.search.trials)
    return tuple(f"{criterion}.{trial}" for trial in trials for criterion in study.criteria.rank)


def reward_parts(study: Study) -> tuple[str, ...]:
    """The models of one criterion: a fold's, a point of the learning curve (per cent), the other loss, the final."""
    rewards = study.rewards
    folds = [f"fold{fold}" for fold in range(rewards.folds)]
    curve = [f"curve{100 * share:g}" for share in rewards.learning_curve]
    other = [loss for loss in LOSSES if rewards.compare_losses and loss != rewards.loss]
    return (*folds, *curve, *other, "final")


def _reward_models(study: Study) -> tuple[str, ...]:
    return tuple(f"{criterion}.{part}" for criterion in study.criteria.rank for part in reward_parts(study))


def _policies(stage: str) -> Callable[[Study], tuple[str, ...]]:
    return lambda study: tuple(name for name, policy in study.alignment.policies.items() if policy.stage == stage)


def _policy_trials(study: Study) -> tuple[str, ...]:
    trials = range(study.alignment.search.trials)
    return tuple(f"{policy}.{trial}" for policy in study.alignment.trained for trial in trials)


def _answers(study: Study) -> tuple[str, ...]:
    blocks = range(stage_named("answers").blocks(study))
    return tuple(f"{policy}.{block}" for policy in study.alignment.policies for block in blocks)


def _answer_scores(study: Study) -> tuple[str, ...]:
    return _blocks("answer_scores")(study) if study.rewards.score_answers else ()


def _toxicity(study: Study) -> tuple[str, ...]:
    return tuple(f"{backend}.{policy}" for backend in study.toxicity.backends for policy in study.alignment.policies)


def phase_pairs(study: Study, phase: str) -> tuple[tuple[str, str], ...]:
    """Every pair (A, B) of the policies of ``phase``, in the order of the study."""
    return tuple(combinations(study.judging.phases[phase].policies, 2))


def _verdicts(study: Study) -> tuple[str, ...]:
    blocks = range(stage_named("verdicts").blocks(study))
    return tuple(
        f"{phase}.{a}.{b}.{block}"
        for phase in study.judging.phases
        for a, b in phase_pairs(study, phase)
        for block in blocks
    )


STAGES: tuple[Stage, ...] = (
    Stage("questions", "prepare", (), _whole),
    Stage("personas", "personas", (), _whole),
    Stage("models", "teach", ("questions",), _whole, uses_models=True),
    Stage("responses", "generate", ("questions", "models"), _blocks("responses"), uses_models=True),
    Stage("rankings", "rank", ("questions", "personas", "responses"), _blocks("rankings"), on_ray=True),
    Stage("pairs", "vote", ("questions", "models", "responses", "rankings"), _criteria, uses_models=True),
    Stage(
        "reward_trials",
        "tune_reward",
        ("questions", "models", "responses", "pairs"),
        _reward_trials,
        uses_models=True,
    ),
    Stage(
        "rewards",
        "train_reward",
        ("questions", "models", "responses", "pairs", "reward_trials"),
        _reward_models,
        uses_models=True,
    ),
    Stage("scores", "score", ("questions", "responses", "rewards"), _blocks("scores"), uses_models=True),
    Stage(
        "policy_trials",
        "tune_policy",
        ("questions", "models", "responses", "pairs", "scores"),
        _policy_trials,
        uses_models=True,
    ),
    Stage(
        "policies",
        "align",
        ("questions", "models", "responses", "pairs", "scores", "policy_trials"),
        _policies("policies"),
        uses_models=True,
        in_ranks=True,
    ),
    Stage("soups", "merge", ("policies",), _policies("soups"), uses_models=True),
    Stage(
        "answers", "answer", ("questions", "models", "policies", "soups"), _answers, default_blocks=1, uses_models=True
    ),
    Stage(
        "answer_scores",
        "score_answers",
        ("questions", "answers", "rewards"),
        _answer_scores,
        default_blocks=1,
        uses_models=True,
    ),
    Stage("verdicts", "judge", ("questions", "personas", "answers"), _verdicts, default_blocks=1, on_ray=True),
    Stage("toxicity", "toxicity", ("questions", "answers"), _toxicity),
    Stage("statistics", "stats", ("personas", "answers", "verdicts"), _whole),
    Stage("report", "report", ("statistics", "toxicity", "answer_scores"), _whole),
)
_BY_NAME = {stage.name: stage for stage in STAGES}


def stage_named(name: str) -> Stage:
    """The stage called ``name``.

    Raises:
        InputError: there is none.
    """
    if name not in _BY_NAME:
        raise InputError(
            "there is no such stage", field="stage", value=name, remedy=f"Stages are: {', '.join(_BY_NAME)}."
        )
    return _BY_NAME[name]


def with_needs(name: str) -> tuple[Stage, ...]:
    """``name`` and every stage that it rests on, in the order in which work flows."""
    wanted: set[str] = set()
    queue = [name]
    while queue:
        stage = stage_named(queue.pop())
        if stage.name not in wanted:
            wanted.add(stage.name)
            queue.extend(stage.needs)
    return tuple(stage for stage in STAGES if stage.name in wanted)
