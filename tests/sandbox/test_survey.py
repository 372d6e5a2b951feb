"""The invented survey has the marginals that the paper gives."""

from __future__ import annotations

import statistics
from collections import Counter

import pytest

from modpo_hpc.personas.columns import load_columns
from modpo_hpc.personas.survey import parse_rows, without_copies
from modpo_hpc.sandbox.survey import POPULATIONS, invented_survey


@pytest.mark.parametrize("seed", [42, 7])
def test_marginals_of_the_paper(seed: int) -> None:
    columns = load_columns()
    survey = invented_survey(seed)
    people = [one for name, rows in survey.items() for one in parse_rows(rows, name, columns)]
    assert {name: len(rows) for name, rows in survey.items()} == dict(POPULATIONS)
    assert sorted(POPULATIONS.values()) == [124, 211]
    first = Counter(person.primary_preference for person in people).most_common()
    assert first[0] == ("empathy", 210)
    assert round(100 * 210 / 335, 1) == 62.7
    assert first[1][0] == "active_listening"
    for criterion in load_columns().criteria:
        given = [rating for person in people if (rating := person.importance[criterion]) is not None]
        assert len(given) == 335
        assert set(given) <= {1, 2, 3, 4, 5}
        assert 4.155 <= statistics.mean(given) <= 4.355
    assert without_copies(people)[1] == []


def test_the_same_seed_gives_the_same_people_and_another_gives_others() -> None:
    assert invented_survey(1) == invented_survey(1)
    assert invented_survey(1) != invented_survey(2)


def test_answers_are_as_incomplete_and_inconsistent_as_answers_are() -> None:
    rows = [row for rows in invented_survey(42).values() for row in rows]
    gaps = sum(any(cell == "" for cell in row.values()) for row in rows)
    assert 0.05 < gaps / len(rows) < 0.2
    assert any(cell.endswith("; None of the above") for row in rows for cell in row.values())
