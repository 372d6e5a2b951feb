"""Which texts are made together: a pure function of the study, so that a rerun repeats the same arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from modpo_hpc.data.questions import Question
from modpo_hpc.generation.records import GenerationRequest
from modpo_hpc.prompts import correction
from modpo_hpc.run import Run
from modpo_hpc.seeds import seed_of

if TYPE_CHECKING:
    from modpo_hpc.judging.tasks import Criterion

ROUNDS = 4
"""Batches that one group is worth: enough for freed places to be refilled, few enough to redo after a kill."""


def response_requests(run: Run, questions: Sequence[Question]) -> list[GenerationRequest]:
    """The responses to be sampled for each training question: ``<question_id>.r0``, ``.r1``, ..."""
    numbers = range(run.study.generation.responses_per_question)
    return [
        GenerationRequest(identity, one.question_id, one.text, run.seed("responses", identity))
        for one in questions
        for identity in [f"{one.question_id}.r{number}" for number in numbers]
    ]


def answer_requests(run: Run, policy: str, questions: Sequence[Question]) -> list[GenerationRequest]:
    """One answer of ``policy`` to each test question, or all those that it chooses among."""
    count = run.study.alignment.policies[policy].answers_a_question
    return [
        GenerationRequest(identity, one.question_id, one.text, run.seed("answers", _whose(run, policy), identity))
        for one in questions
        for identity in ([one.question_id] if count == 1 else [f"{one.question_id}.a{at}" for at in range(count)])
    ]


def corrections_of(
    run: Run,
    policy: str,
    drafts: Sequence[Sequence[GenerationRequest]],
    texts: Mapping[str, str],
    criteria: Sequence[Criterion],
) -> list[list[GenerationRequest]]:
    """The groups ``drafts`` with their texts (id -> text) in them, for ``policy`` to write better ones."""
    whose = _whose(run, policy)

    def better(draft: GenerationRequest) -> GenerationRequest:
        asked = correction(draft.question, texts[draft.id], criteria)
        return replace(draft, question=asked, seed=run.seed("answers", whose, draft.id))

    return [[better(one) for one in group] for group in drafts]


def _whose(run: Run, policy: str) -> str:
    """By whose name the random numbers of an answer of ``policy`` are drawn."""
    return "every policy" if run.study.generation.common_random_numbers else policy


def groups_of(requests: Sequence[GenerationRequest], batch_size: int) -> list[list[GenerationRequest]]:
    """Cut ``requests`` into groups of about ``ROUNDS * batch_size`` that are made together and saved together.

    Questions of one length stand together, and the responses to one question are never parted. What falls into a
    group depends on the requests and the batch size alone, and shards take whole groups: so the floating-point
    shapes behind an item's text are the same however the work is cut into shards. The groups come in an order
    drawn from their contents, so that every shard gets long and short ones.
    """
    ordered = sorted(requests, key=lambda one: (len(one.question), one.question_id, one.seed))
    groups: list[list[GenerationRequest]] = []
    for _, same_question in groupby(ordered, key=lambda one: one.question_id):
        members = list(same_question)
        if not groups or len(groups[-1]) + len(members) > ROUNDS * batch_size:
            groups.append([])
        groups[-1].extend(members)
    return sorted(groups, key=lambda group: seed_of("order", *(one.id for one in group)))
