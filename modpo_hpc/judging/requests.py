"""What a study asks its judges: the requests of a shard, and where each answer belongs in the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

import pandas as pd

from modpo_hpc.data.questions import Question
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.sequential_design import drawn_personas, groups_of_personas, question_order
from modpo_hpc.judging.assignments import first_shown, response_order
from modpo_hpc.judging.tables import RankingPlace, VerdictPlace
from modpo_hpc.judging.tasks import Criterion, JudgeRequest, Persona, Task
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from modpo_hpc.stages.judgments import verdict_item
from modpo_hpc.stages.stage import before_dot

T = TypeVar("T")
Panels = Sequence[tuple[Question, Sequence[Persona]]]
"""Questions, each with the personas that judge it."""
_IMPORTANCE = "importance_"


def study_personas(run: Run, split: str) -> list[Persona]:
    """The personas of ``split`` ("train" or "test"), in the order of the personas table.

    Raises:
        InputError: a persona has no text.
    """
    table = run.table("personas").to_pandas()
    chosen = table[table["split"] == split]
    rated = [column for column in chosen.columns if column.startswith(_IMPORTANCE)]
    personas = []
    for row in chosen.to_dict("records"):
        if not isinstance(row["text"], str) or not row["text"].strip():
            raise InputError(
                "this persona has no text, so nobody can judge as this person would",
                file=run.table_path("personas", "all"),
                field="text",
                value=row["persona_id"],
                remedy=f"Correct the survey or its column mapping, then: modpo rerun {run.quoted} personas",
            )
        ratings = {name.removeprefix(_IMPORTANCE): int(row[name]) for name in rated if not pd.isna(row[name])}
        personas.append(Persona(row["persona_id"], row["text"], ratings))
    return personas


def judging_personas(run: Run) -> list[Persona]:
    """The test personas that judge the policies where nothing is drawn: the same ones for every pair and question."""
    personas = study_personas(run, "test")
    wanted = run.study.judging.personas_per_question
    if wanted >= len(personas):
        return personas
    chosen = rng_of(run.study.seed, "judging_personas").permutation(len(personas))[:wanted]
    return [personas[position] for position in sorted(chosen)]


def judging_rounds(run: Run, questions: Sequence[Question]) -> list[Panels]:
    """The rounds in which ``questions`` are judged, the same for every pair: all at once, unless judging is sequential.

    Raises:
        InputError: fewer personas a question than populations.
    """
    judging, seed = run.study.judging, run.study.seed
    if judging.stop != "sequential":
        personas = judging_personas(run)
        return [[(question, personas) for question in questions]]
    groups = groups_of_personas(run)
    if judging.personas_per_question < len(groups):
        raise InputError(
            f"each question hears every population, and there are {len(groups)}",
            field="judging.personas_per_question",
            value=judging.personas_per_question,
            remedy=f"Take {len(groups)} or more, or judging.stop: exact.",
        )
    everyone, by_id = study_personas(run, "test"), {question.question_id: question for question in questions}
    panels = []
    for name in question_order(list(by_id), seed):
        drawn = drawn_personas(name, groups, judging.personas_per_question, seed)
        panels.append((by_id[name], [persona for persona in everyone if persona.persona_id in drawn]))
    size = judging.sequential.questions_per_round
    return [panels[start : start + size] for start in range(0, len(panels), size)]


def verdict_shard(shard: str) -> tuple[str, str, str]:
    """Phase, policy A and policy B of a shard of the stage ``verdicts``."""
    return verdict_item(before_dot(shard))


def responses_by_question(run: Run) -> dict[str, list[tuple[str, str]]]:
    """Question id -> (response id, text) of each response, in the order of the responses table."""
    table = run.table("responses", ["question_id", "response_id", "text"]).to_pydict()
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for question_id, response_id, text in zip(table["question_id"], table["response_id"], table["text"], strict=True):
        found[question_id].append((response_id, text))
    return dict(found)


def answers_of(run: Run, policy: str) -> dict[str, str]:
    """Question id -> the answer of ``policy``."""
    shards = [shard for shard in run.shard_ids("answers") if shard.rpartition(".")[0] == policy]
    table = run.table("answers", ["question_id", "text"], shards).to_pydict()
    return dict(zip(table["question_id"], table["text"], strict=True))


def ranking_requests(
    questions: Sequence[Question],
    assigned: Mapping[str, Sequence[str]],
    personas: Sequence[Persona],
    responses: Mapping[str, Sequence[tuple[str, str]]],
    calls: Sequence[tuple[Criterion, ...]],
    seed: int,
) -> tuple[list[RankingPlace], list[JudgeRequest]]:
    """The rankings of ``questions``, one persona after the other, so that servers reuse what they read of each.

    ``calls`` as in :func:`verdict_requests`.

    Raises:
        InputError: a question has no responses.
    """
    places, requests = [], []
    for criteria in calls:
        names = tuple(criterion.name for criterion in criteria)
        for persona in personas:
            for question in questions:
                identity = question.question_id
                if persona.persona_id not in assigned[identity]:
                    continue
                given = _given(responses, identity, "responses")
                order = response_order(identity, persona.persona_id, len(given), seed)
                ids, texts = zip(*(given[at] for at in order), strict=True)
                places.append(RankingPlace(identity, persona.persona_id, ids, names))
                requests.append(JudgeRequest("rank", persona, criteria, identity, question.text, texts))
    return places, requests


def verdict_requests(
    policy_a: str,
    policy_b: str,
    panels: Panels,
    answers: Mapping[str, Mapping[str, str]],
    calls: Sequence[tuple[Criterion, ...]],
    seed: int,
    forced_choice: bool = False,
) -> tuple[list[VerdictPlace], list[JudgeRequest]]:
    """The comparisons of two policies on each question by the personas of its panel, one persona after the other.

    ``calls`` are the criteria of each call; one call on all comparisons comes after the other, in the same order of
    showing. With ``forced_choice`` a persona may not call two answers equal.

    Raises:
        InputError: a policy has no answer to a question.
    """
    texts: dict[str, tuple[str, ...]] = {}
    a_first: dict[str, dict[str, bool]] = {}
    for question, panel in panels:
        name = question.question_id
        texts[name] = tuple(_given(answers[policy], name, f"answers of {policy}") for policy in (policy_a, policy_b))
        order = first_shown(name, policy_a, policy_b, len(panel), seed).tolist()
        a_first[name] = {persona.persona_id: first for persona, first in zip(panel, order, strict=True)}
    everyone = {persona.persona_id: persona for _, panel in panels for persona in panel}
    task: Task = "choose" if forced_choice else "judge"
    places, requests = [], []
    for criteria in calls:
        names = tuple(criterion.name for criterion in criteria)
        for persona_id, persona in everyone.items():
            for question, _ in panels:
                identity = question.question_id
                a_is_first = a_first[identity].get(persona_id)
                if a_is_first is None:  # not on the panel of this question
                    continue
                shown = texts[identity] if a_is_first else texts[identity][::-1]
                places.append(VerdictPlace(identity, persona_id, a_is_first, names))
                requests.append(JudgeRequest(task, persona, criteria, identity, question.text, shown))
    return places, requests


def _given(texts: Mapping[str, T], question_id: str, whose: str) -> T:
    if question_id not in texts:
        raise InputError(
            f"the {whose} lack this question",
            field="question_id",
            value=question_id,
            remedy="Make that stage again (modpo rerun DIR STAGE): every policy must answer every question.",
        )
    return texts[question_id]
