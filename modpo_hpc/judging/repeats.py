"""Comparisons that are asked again when all are judged: which, and in which forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from modpo_hpc.judging.requests import Panels, answers_of, verdict_requests
from modpo_hpc.judging.tables import VerdictPlace
from modpo_hpc.judging.tasks import Criterion, JudgeRequest
from modpo_hpc.run import Run
from modpo_hpc.seeds import seed_of
from modpo_hpc.study.judging import Repeats


@dataclass(frozen=True)
class Asking:
    """The comparisons of one pair of policies, asked once: as they were (``sample`` 0 is the first time) or swapped."""

    phase: str
    policy_a: str
    policy_b: str
    sample: int
    swapped: bool
    places: Sequence[VerdictPlace]
    requests: Sequence[JudgeRequest]


def askings(
    run: Run, phase: str, policy_a: str, policy_b: str, panels: Panels, calls: Sequence[tuple[Criterion, ...]]
) -> Iterator[Asking]:
    """All that is asked of the drawn comparisons of a pair, what was asked before them included.

    Args:
        panels: the questions, each with all personas that the study has judge it.
        calls: the criteria of each call.
    """
    study, wanted = run.study, run.study.judging.repeats
    assert wanted is not None
    chosen = drawn_comparisons(run, phase, policy_a, policy_b, wanted)
    questions = {question_id for question_id, _ in chosen}
    heard = [one for one in panels if one[0].question_id in questions]
    answers = {policy: answers_of(run, policy) for policy in (policy_a, policy_b)}
    forced = study.judging.forced_choice
    both = zip(*verdict_requests(policy_a, policy_b, heard, answers, calls, study.seed, forced), strict=True)
    kept = [one for one in both if (one[0].question_id, one[0].persona_id) in chosen]
    places, requests = [place for place, _ in kept], [request for _, request in kept]
    for sample in range(wanted.samples + 1):
        again = [replace(request, sample=sample) for request in requests]
        yield Asking(phase, policy_a, policy_b, sample, False, places, again)
    if wanted.swapped:
        turned = [replace(place, a_first=not place.a_first) for place in places]
        shown = [replace(request, shown=request.shown[::-1]) for request in requests]
        yield Asking(phase, policy_a, policy_b, 0, True, turned, shown)


def drawn_comparisons(run: Run, phase: str, policy_a: str, policy_b: str, wanted: Repeats) -> set[tuple[str, str]]:
    """Question and persona of the comparisons of a pair that are asked again: a draw from those that were asked.

    The draw belongs to each comparison: more of them are those of a smaller sample and others.
    """
    shards = [one for one in run.shard_ids("verdicts") if one.rpartition(".")[0] == f"{phase}.{policy_a}.{policy_b}"]
    table = run.table("verdicts", ["question_id", "persona_id", "winner"], shards)
    asked = table.filter(pc.not_equal(table["winner"], "not_asked")).to_pydict()
    comparisons = dict.fromkeys(zip(asked["question_id"], asked["persona_id"], strict=True))
    draw = sorted(comparisons, key=lambda one: seed_of(run.study.seed, "repeats", phase, policy_a, policy_b, *one))
    return {*draw[: wanted.comparisons]}
