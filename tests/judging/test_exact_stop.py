"""Exact stop: the winner of every question is that of all the votes, and fewer are asked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.judging.exact_stop import ExactStop
from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.tables import VerdictPlace, policy_of
from modpo_hpc.judging.tasks import Opinion, Unparsed

CALL = ("empathy", "safety")
OPINIONS: st.SearchStrategy[Opinion] = st.sampled_from(["A", "A", "A", "B", "tie", Unparsed("x")])


def test_with_a_call_for_each_criterion_each_is_decided_by_itself() -> None:
    places = [VerdictPlace("q", f"p{judge}", True, (name,)) for name in CALL for judge in range(5)]
    said = ["A"] * 5 + ["A", "B", "A", "B", "A"]
    kept = ExactStop(places, 1).needed([Judgment((one,), (b"",)) for one in said])
    assert [one is not None for one in kept] == [True] * 3 + [False] * 2 + [True] * 5


def winner(places: list[VerdictPlace], judgments: list[Judgment | None], question: str, criterion: int) -> str:
    votes = Counter(
        policy_of(judgment.opinions[criterion], place.a_first)
        for place, judgment in zip(places, judgments, strict=True)
        if judgment is not None and place.question_id == question
    )
    return "tie" if votes["A"] == votes["B"] else max("AB", key=votes.__getitem__)


@given(data=st.data(), judges=st.integers(1, 12), questions=st.integers(1, 3), criteria=st.integers(1, 2))
def test_the_winner_is_that_of_all_votes_whatever_the_pace(
    data: st.DataObject, judges: int, questions: int, criteria: int
) -> None:
    places = [
        VerdictPlace(f"q{question}", f"p{judge}", data.draw(st.booleans()), CALL)
        for judge in range(judges)
        for question in range(questions)
    ]
    everything = [Judgment(tuple(data.draw(OPINIONS) for _ in range(criteria)), (b"",) * criteria) for _ in places]
    # answers come back out of order: up to `lag` comparisons are out at any time
    lag = data.draw(st.integers(0, 8))
    stop = ExactStop(places, criteria)
    out: list[int] = []
    got: list[Judgment | None] = [None] * len(places)

    def bring_home(most: int) -> None:
        while len(out) > most:
            number = out.pop(data.draw(st.integers(0, len(out) - 1)))
            got[number] = everything[number]
            stop.hear(number, everything[number])

    for number in range(len(places)):
        if stop.is_open(number):
            out.append(number)
        bring_home(lag)
    bring_home(0)

    kept = ExactStop(places, criteria).needed(got)
    assert kept == ExactStop(places, criteria).needed(list(everything))
    for question in range(questions):
        for criterion in range(criteria):
            full = winner(places, list(everything), f"q{question}", criterion)
            assert winner(places, kept, f"q{question}", criterion) == full


def test_fifty_judges_of_one_mind_are_asked_twenty_six_times() -> None:
    places = [VerdictPlace("q", f"p{judge}", judge % 2 == 0, ("empathy",)) for judge in range(50)]
    judgments = [Judgment(("A" if place.a_first else "B",), (b"",)) for place in places]
    assert sum(one is not None for one in ExactStop(places, 1).needed(judgments)) == 26
