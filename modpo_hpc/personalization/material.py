"""What a run gives to personalization: which questions teach, which test, and its tables as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modpo_hpc.data.questions import Question, study_questions
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import ask_judges
from modpo_hpc.judging.requests import judging_personas, ranking_requests, responses_by_question
from modpo_hpc.judging.tables import rankings_table
from modpo_hpc.judging.tasks import Persona
from modpo_hpc.personalization.plackett_luce import Array
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import seed_of


@dataclass(frozen=True)
class CandidateRewards:
    """Calibrated out-of-fold rewards (questions, candidates, criteria) of ``responses`` of ``questions``."""

    questions: tuple[str, ...]
    responses: tuple[tuple[str, ...], ...]
    values: Array


@dataclass(frozen=True)
class Places:
    """Place of each candidate, 0 for the best (personas, questions, candidates), where a ranking was ``cast``."""

    places: NDArray[np.int64]
    cast: NDArray[np.bool_]


def teaching_questions(run: Run) -> list[Question]:
    """The questions whose rankings teach weights: first in an order of their own, as in the study in canonical order.

    Raises: see ``_of_its_own_order``.
    """
    return _of_its_own_order(run, "teach_questions", first=True)


def testing_questions(run: Run) -> list[Question]:
    """The questions on which answers are compared: last in that order, so that more of the one move none of the other.

    Raises: see ``_of_its_own_order``.
    """
    return _of_its_own_order(run, "test_questions", first=False)


def _of_its_own_order(run: Run, field: str, first: bool) -> list[Question]:
    """As many training questions as ``field`` of the study says, first or last by a hash of seed and id.

    Raises:
        InputError: there are fewer.
    """
    questions, count = study_questions(run, "train"), getattr(run.study.personalization, field)
    if count > len(questions):
        raise InputError(
            f"this many questions are wanted, and there are {len(questions)} training questions",
            field=f"personalization.{field}",
            value=count,
            remedy="Lower it, or raise data.use_train.",
        )
    order = sorted(questions, key=lambda one: seed_of(run.study.seed, "personalization", one.question_id))
    chosen = {one.question_id for one in (order[:count] if first else order[-count:])}
    return [one for one in questions if one.question_id in chosen]


def refuse_shared(teaching: Sequence[str], testing: Sequence[str]) -> None:
    """Refuse questions that both teach weights and test them.

    Raises:
        InputError: names one.
    """
    if shared := sorted(set(teaching) & set(testing)):
        raise InputError(
            f"{len(shared)} questions both teach a persona's weights and test them, {shared[0]} for one",
            field="personalization.test_questions",
            remedy="Lower personalization.teach_questions or personalization.test_questions, so that both fit.",
        )


def personas_of(run: Run) -> list[Persona]:
    """The test personas, as the dial of the sandbox has them weigh criteria, if it is set."""
    personas, wanted = judging_personas(run), run.study.personalization
    assert wanted is not None
    return personas if wanted.dial is None else [dialled(one, wanted.dial) for one in personas]


def dialled(persona: Persona, kappa: float) -> Persona:
    """``persona`` with a softmax of ``kappa`` times the centred ratings for ratings; its text says so.

    The text is what answers in the ledger are known by.
    """
    ratings = persona.importance
    centre = float(np.mean(list(ratings.values()))) if ratings else 0.0
    stretched = {name: float(np.exp(kappa * (rating - centre))) for name, rating in ratings.items()}
    return replace(persona, text=f"{persona.text}\n(sandbox: kappa {kappa:g})", importance=stretched)


def ratings_of(personas: Sequence[Persona], criteria: Sequence[str]) -> Array:
    """Stated ratings (personas, criteria), NaN where there is none."""
    return np.array([[float(one.importance.get(name, np.nan)) for name in criteria] for one in personas])


def ask(run: Run, shard: Shard, questions: Sequence[Question], calls: Sequence[tuple[str, ...]]) -> pa.Table:
    """Rankings of the responses to ``questions`` by every test persona, by the criteria of each of ``calls``."""
    study, personas, responses = run.study, personas_of(run), responses_by_question(run)
    everyone = tuple(one.persona_id for one in personas)
    assigned = {one.question_id: everyone for one in questions}
    asked = [load_criteria(study.criteria.files, names) for names in calls]
    places, requests = ranking_requests(questions, assigned, personas, responses, asked, study.seed)
    (heard,) = ask_judges(run, shard, requests)
    return rankings_table(places, heard)


def rewards_of(run: Run, questions: Sequence[Question], criteria: Sequence[str]) -> CandidateRewards:
    """The rewards of the responses to ``questions`` by each of ``criteria``."""
    table = run.table("scores", ["response_id", "criterion", "reward"]).to_pydict()
    keys = zip(table["response_id"], table["criterion"], strict=True)
    reward = dict(zip(keys, table["reward"], strict=True))
    listed = responses_by_question(run)
    ids = tuple(tuple(one for one, _ in listed[question.question_id]) for question in questions)
    values = [[[reward[response, criterion] for criterion in criteria] for response in of] for of in ids]
    return CandidateRewards(tuple(one.question_id for one in questions), ids, np.array(values))


def places_of(table: pa.Table, rewards: CandidateRewards, personas: Sequence[Persona], criterion: str) -> Places:
    """The rankings of ``table`` by ``criterion``, in the order of ``rewards`` and ``personas``."""
    question_at = {one: at for at, one in enumerate(rewards.questions)}
    persona_at = {one.persona_id: at for at, one in enumerate(personas)}
    candidate_at = [{one: at for at, one in enumerate(of)} for of in rewards.responses]
    shape = (len(personas), len(rewards.questions), rewards.values.shape[1])
    places, cast = np.zeros(shape, dtype=np.int64), np.zeros(shape[:2], dtype=bool)
    rows = table.select(["question_id", "persona_id", "criterion", "order", "state"]).to_pydict()
    for question, persona, by, order, state in zip(*rows.values(), strict=True):
        if by != criterion or state != "ok":
            continue
        at = persona_at[persona], question_at[question]
        cast[at] = True
        for place, response in enumerate(order):
            places[at][candidate_at[at[1]][response]] = place
    return Places(places, cast)


def refuse_missing(cast: NDArray[np.bool_], criterion: str, most: float, where: str) -> None:
    """Refuse rankings of which more than a share of ``most`` could not be read.

    Raises:
        IncompleteError: they are.
    """
    missing = 1 - float(cast.mean())
    if missing > most:
        raise IncompleteError(
            f"{missing:.1%} of the rankings by {criterion} could not be read, more than statistics.max_missing "
            f"({most:.1%}). Ask again: modpo rerun {where} personal_verdicts"
        )


def ordered(rewards: CandidateRewards, places: Places) -> tuple[Array, Array]:
    """Standardized rewards in the order of each ranking (personas, questions, candidates, criteria), and their units.

    Rewards are centred within a question, since only differences there count; the units are standard deviations.
    """
    centred = rewards.values - rewards.values.mean(axis=1, keepdims=True)
    deviations = centred.std(axis=(0, 1))
    deviations = np.where(deviations > 0, deviations, 1.0)
    order = np.argsort(places.places, axis=2, kind="stable")
    items = np.take_along_axis((centred / deviations)[None], order[..., None], axis=2)
    return items, deviations
