"""Assignments: loads equal up to one, half the personas see each side first, and nothing depends on the sharding."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.judging.assignments import assign_personas, first_shown, response_order


@given(questions=st.integers(1, 80), personas=st.integers(1, 30), share=st.floats(0.01, 1), seed=st.integers(0, 2**32))
def test_each_question_gets_different_personas_and_all_the_same_load(
    questions: int, personas: int, share: float, seed: int
) -> None:
    per_question = max(1, int(personas * share))
    names = [f"p{number}" for number in range(personas)]
    assigned = assign_personas([f"q{number}" for number in range(questions)], names, per_question, seed)
    assert all(len(set(one)) == per_question for one in assigned.values())
    load = Counter(persona for one in assigned.values() for persona in one)
    loads = [load[name] for name in names]
    assert max(loads) - min(loads) <= 1


def test_the_papers_numbers() -> None:
    assigned = assign_personas(
        [f"q{number}" for number in range(2379)], [f"p{number}" for number in range(100)], 50, seed=42
    )
    load = Counter(persona for one in assigned.values() for persona in one)
    assert set(load.values()) == {1189, 1190}
    assert sum(load.values()) == 2379 * 50


def test_more_personas_than_there_are() -> None:
    with pytest.raises(ValueError, match="3 personas a question"):
        assign_personas(["q"], ["a", "b"], 3, seed=1)


@given(question=st.text(max_size=8), personas=st.integers(1, 101), seed=st.integers(0, 2**32))
def test_half_of_the_personas_see_the_first_policy_first(question: str, personas: int, seed: int) -> None:
    first = first_shown(question, "A", "B", personas, seed)
    assert first.shape == (personas,)
    assert abs(2 * int(first.sum()) - personas) == personas % 2


def test_the_half_varies_over_questions_and_favours_no_persona() -> None:
    first = np.array([first_shown(f"q{number}", "A", "B", 50, 42) for number in range(2000)])
    assert len({row.tobytes() for row in first}) > 1990
    # a persona's share of 2000 fair draws: standard deviation 0.011
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.05


def test_every_response_is_shown_at_every_place_equally_often() -> None:
    orders = np.array([response_order(f"q{number}", "p", 5, 42) for number in range(5000)])
    counts = np.array([np.bincount(orders[:, place], minlength=5) for place in range(5)])
    assert np.abs(counts / 5000 - 0.2).max() < 0.025
