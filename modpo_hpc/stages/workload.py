"""How much work a stage is: counts from the study, tokens by rule of thumb, seconds by the speeds of a cluster."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Protocol

from modpo_hpc.prompts import judging_prompt
from modpo_hpc.study.judging import Judge, criteria_of_calls

if TYPE_CHECKING:
    from modpo_hpc.judging.tasks import Task
    from modpo_hpc.study import Study

QUESTION_TOKENS, PERSONA_TOKENS, VERDICT_TOKENS = 120, 300, 25
USED_SHARE_OF_MAX_TOKENS = 0.6
BYTES_PER_TOKEN = 4.5
ADAPTER_BYTES, REWARD_MODEL_BYTES, SANDBOX_SHARE = 90e6, 560e6, 0.01
ROW_BYTES = 60
BACKWARD_COST = 3.0


@dataclass(frozen=True)
class Counts:
    """Questions of the study."""

    train: int
    test: int


@dataclass(frozen=True)
class Workload:
    """All the work of one stage. ``seconds`` is what one worker would take for it, without start-up."""

    items: int = 0
    unit: str = ""
    tokens_read: float = 0.0
    tokens_written: float = 0.0
    calls: int = 0
    seconds: float = 0.0
    bytes: float = 0.0


class WorkerSpeeds(Protocol):
    """What one worker does in a second; a profile says it."""

    @property
    def tokens_per_second(self) -> float: ...
    @property
    def training_tokens_per_second(self) -> float: ...
    @property
    def encoder_tokens_per_second(self) -> float: ...
    @property
    def calls_per_second(self) -> float: ...


def no_work(_: Study, __: Counts, ___: WorkerSpeeds) -> Workload:
    """Of a stage that takes seconds whatever the study."""
    return Workload()


def response_tokens(study: Study) -> float:
    """Tokens of a response of the base model."""
    return USED_SHARE_OF_MAX_TOKENS * study.generation.responses.max_tokens


def answer_tokens(study: Study) -> float:
    """Tokens of an answer of a policy."""
    return USED_SHARE_OF_MAX_TOKENS * study.generation.answers.max_tokens


def responses(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    return _written(counts.train * study.generation.responses_per_question, response_tokens(study), speeds)


def answers(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    here = [policy for policy in study.alignment.policies.values() if not policy.is_remote]
    texts = _written(counts.test * sum(one.answers_a_question for one in here), answer_tokens(study), speeds)
    # of a product of experts every one writes every token, and before a correction its draft is written
    policies = study.alignment.policies
    drafters = [policies[one.drafts_of] for one in here if one.drafts_of]
    asked = [*here, *(one for one in drafters if not one.is_remote)]
    written = counts.test * sum(one.answers_a_question * max(1, len(one.experts)) for one in asked)
    return replace(texts, seconds=_written(written, answer_tokens(study), speeds).seconds)


def rankings(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    calls = counts.train * study.ranking.personas_per_question
    asked = criteria_of_calls(study.criteria.rank, study.ranking.calls)
    return _added(_judging(study, speeds, calls, criteria, "rank") for criteria in asked)


def verdicts(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    return _comparisons(study, speeds, counts.test * study.judging.personas_per_question)


def repeats(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    """A sample of the comparisons of each pair is asked again."""
    wanted = study.judging.repeats
    if wanted is None:
        return Workload()
    per_pair = min(wanted.comparisons, counts.test * study.judging.personas_per_question) * wanted.calls
    return _comparisons(study, speeds, per_pair)


def preferences(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    """Test personas rank the responses to the questions that teach their weights."""
    wanted = study.personalization
    if wanted is None:
        return Workload()
    calls = min(wanted.teach_questions, counts.train) * study.judging.personas_per_question
    return _judging(study, speeds, calls, (wanted.preference,), "rank")


def personal_verdicts(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    """Test personas rank the responses among which answers are chosen, by preference and by safety."""
    wanted = study.personalization
    if wanted is None:
        return Workload()
    calls = min(wanted.test_questions, counts.train) * study.judging.personas_per_question
    return _added(_judging(study, speeds, calls, criteria, "rank") for criteria in wanted.criteria_of_calls)


def reward_models(study: Study, counts: Counts, speeds: WorkerSpeeds, models: int, kept: int) -> Workload:
    """``models`` trainings of the encoder, of which ``kept`` are written down."""
    epochs = statistics.mean(study.rewards.search.epochs)
    tokens = models * epochs * counts.train * 2 * (QUESTION_TOKENS + response_tokens(study))
    seconds = BACKWARD_COST * tokens / speeds.encoder_tokens_per_second
    return Workload(models, "models", tokens, 0, 0, seconds, kept * REWARD_MODEL_BYTES * _size_of_weights(study))


def scored(study: Study, texts: int, tokens_of_text: float, speeds: WorkerSpeeds) -> Workload:
    """Every criterion's reward of each of ``texts``."""
    ranked = len(study.criteria.rank)
    tokens = texts * ranked * (QUESTION_TOKENS + tokens_of_text)
    seconds = tokens / speeds.encoder_tokens_per_second
    return Workload(texts * ranked, "scores", tokens, 0, 0, seconds, texts * ranked * ROW_BYTES)


def policies(
    study: Study, counts: Counts, speeds: WorkerSpeeds, models: int, epochs: float, kept: bool = True
) -> Workload:
    """``models`` trainings of an adapter, of ``epochs`` in all."""
    tokens = epochs * counts.train * 2 * (QUESTION_TOKENS + response_tokens(study))
    disk = models * ADAPTER_BYTES * _size_of_weights(study) if kept else 0.0
    return Workload(models, "policies", tokens, 0, 0, tokens / speeds.training_tokens_per_second, disk)


def toxicity(study: Study, counts: Counts, speeds: WorkerSpeeds) -> Workload:
    readers = sum(one.kind == "citizen" for one in study.toxicity.backends.values())
    texts = readers * counts.test * len(study.alignment.policies)
    tokens = texts * (QUESTION_TOKENS + answer_tokens(study))
    return Workload(texts, "texts", tokens, 0, 0, tokens / (BACKWARD_COST * speeds.training_tokens_per_second))


def written_by(judge: Judge, calls: float, criteria: float) -> float:
    """Tokens that ``judge`` writes in ``calls``, thoughts included."""
    return calls * (criteria * VERDICT_TOKENS + judge.price.thinking)


def _written(texts: int, tokens_of_text: float, speeds: WorkerSpeeds) -> Workload:
    written = texts * tokens_of_text
    seconds = written / speeds.tokens_per_second
    return Workload(texts, "texts", texts * QUESTION_TOKENS, written, 0, seconds, written * BYTES_PER_TOKEN)


def _added(works: Iterable[Workload]) -> Workload:
    """All of ``works``, which count the same unit."""
    items, units, *amounts = zip(*(astuple(one) for one in works), strict=True)
    return Workload(sum(items), units[0], *map(sum, amounts))


def prompt_tokens(study: Study, names: Sequence[str], task: Task) -> float:
    """Tokens that a judge reads in one call besides persona, question and replies: the prompt with none in it."""
    from modpo_hpc.judging.criteria import load_criteria

    shown = [""] * (study.generation.responses_per_question if task == "rank" else 2)
    criteria, scene = load_criteria(study.criteria.files, names), study.judges[0].scene
    return len("".join(judging_prompt(task, "", criteria, "", shown, scene=scene))) / BYTES_PER_TOKEN


def _comparisons(study: Study, speeds: WorkerSpeeds, per_pair: int) -> Workload:
    return _added(
        _judging(study, speeds, len(phase.pairs) * per_pair, criteria, "judge")
        for phase in study.judging.phases.values()
        for criteria in phase.criteria_of_calls
    )


def _judging(study: Study, speeds: WorkerSpeeds, calls: int, names: Sequence[str], task: Task) -> Workload:
    judges, criteria = study.judges, len(names)
    replies = (
        study.generation.responses_per_question * response_tokens(study) if task == "rank" else 2 * answer_tokens(study)
    )
    read = prompt_tokens(study, names, task) + PERSONA_TOKENS + QUESTION_TOKENS + replies
    return Workload(
        items=len(judges) * calls * criteria,
        unit="judgments",
        tokens_read=len(judges) * calls * read,
        tokens_written=sum(written_by(judge, calls, criteria) for judge in judges),
        calls=len(judges) * calls,
        seconds=len(judges) * calls / speeds.calls_per_second,
        bytes=len(judges) * calls * criteria * (ROW_BYTES + VERDICT_TOKENS * BYTES_PER_TOKEN),
    )


def _size_of_weights(study: Study) -> float:
    return SANDBOX_SHARE if "models" in study.simulated else 1.0
