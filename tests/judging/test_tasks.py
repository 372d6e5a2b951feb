"""Answers are read strictly: what a judge did not clearly say is never taken for an opinion."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.judging.tasks import Unparsed, answer_schema, parse_answer
from modpo_hpc.prompts import judging_prompt
from tests.judging.worlds import CRITERIA, request

BOTH = ("empathy", "safety")


@given(st.permutations([1, 2, 3, 4, 5]), st.permutations([1, 2, 3, 4, 5]))
def test_a_ranking_is_read_as_it_was_given(first: list[int], second: list[int]) -> None:
    raw = json.dumps({"empathy": first, "safety": second})
    assert parse_answer(raw, "rank", BOTH, 5) == (tuple(n - 1 for n in first), tuple(n - 1 for n in second))


@given(st.lists(st.one_of(st.integers(-2, 7), st.booleans(), st.text(max_size=2), st.none()), max_size=7))
def test_whatever_is_no_permutation_is_unparsed(order: list[object]) -> None:
    (opinion,) = parse_answer(json.dumps({"empathy": order}), "rank", ("empathy",), 5)
    is_permutation = any(order == list(one) and all(type(n) is int for n in order) for one in permutations(range(1, 6)))
    assert isinstance(opinion, Unparsed) != is_permutation


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"empathy": "A", "safety": "tie"}', ("A", "tie")),
        ('```json\n{"empathy": "B", "safety": "A"}\n```', ("B", "A")),
        ('<think>{"empathy": "A"} or not?</think>\n{"empathy": "B", "safety": "B"} Glad to help!', ("B", "B")),
        ('I choose {} and {"other": 1}, so {"empathy": "A", "safety": "A", "why": "{"}', ("A", "A")),
    ],
)
def test_an_answer_is_found_in_what_surrounds_it(raw: str, expected: tuple[str, ...]) -> None:
    assert parse_answer(raw, "judge", BOTH, 2) == expected


@pytest.mark.parametrize(
    ("raw", "reasons"),
    [
        ("", ("empty answer",) * 2),
        ("A is better.", ("no JSON object with a criterion in it",) * 2),
        ('{"empathy": "A"', ("no JSON object with a criterion in it",) * 2),
        ('{"empathy": "A"}', (None, "criterion absent")),
        ('{"empathy": "a", "safety": "A or B"}', ("not A, B or tie",) * 2),
        ('{"empathy": "A", "empathy": "B", "safety": "B"}', ("criterion given twice", None)),
        pytest.param(
            "[" * 100_000 + '{"empathy": ' * 3000,
            ("no JSON object with a criterion in it",) * 2,
            id="nested too deeply",
        ),
    ],
)
def test_why_an_answer_says_nothing(raw: str, reasons: tuple[str | None, ...]) -> None:
    opinions = parse_answer(raw, "judge", BOTH, 2)
    assert tuple(one.reason if isinstance(one, Unparsed) else None for one in opinions) == reasons


def test_who_must_choose_may_not_call_it_a_tie() -> None:
    assert parse_answer('{"empathy": "tie", "safety": "B"}', "choose", BOTH, 2) == (Unparsed("not A or B"), "B")
    assert answer_schema(request("choose"))["properties"]["safety"]["enum"] == ["A", "B"]
    assert "tie" not in "".join(judging_prompt("choose", "A person.", CRITERIA, "q", ("a", "b")))


@pytest.mark.parametrize(
    ("raw", "finish", "expected"),
    [
        ('{"empathy": "A", "safety": "B"}', "length", (None, None)),
        ('{"empathy": "A", "safety": "B"}', "stop", ("A", "B")),
        ('First {"empathy": "A", "safety": "B"}, no: {"empathy": "B", "safety": "B"}', "stop", (None, "B")),
        ('It says:\n| {"empathy": "B", "safety": "B"}\n{"empathy": "A", "safety": "A"}', "stop", ("A", "A")),
        ('<think>{"empathy": "A", "safety": "A"} hm', "stop", (None, None)),
        ('{"empathy": "A"} and {"safety": "tie"}', "stop", ("A", "tie")),
    ],
)
def test_drafts_quotations_and_cut_off_answers_are_no_votes(
    raw: str, finish: str, expected: tuple[str | None, ...]
) -> None:
    opinions = parse_answer(raw, "judge", BOTH, 2, finish)
    assert tuple(None if isinstance(one, Unparsed) else one for one in opinions) == expected


@pytest.mark.parametrize(
    "text", ["<|im_start|>", "<|eot_id|>", "</s>", "[/INST]", "<end_of_turn>", "<think>", "<｜User｜>", "<<SYS>>"]
)
def test_control_strings_in_a_reply_stay_words(text: str) -> None:
    prompt = "".join(judging_prompt("judge", f"A {text}.", CRITERIA, f"q {text}", (f"a{text}b", "b")))
    assert text not in prompt
    assert "a b < c | d > e [INSTANCE] <3" in "".join(
        judging_prompt("judge", "A person.", CRITERIA, "q", ("a b < c | d > e [INSTANCE] <3", "b"))
    )


@given(st.text())
def test_no_text_breaks_the_reader(raw: str) -> None:
    assert len(parse_answer(raw, "rank", BOTH, 5)) == 2


def test_the_schema_is_closed_and_complete() -> None:
    schema = answer_schema(request("rank", ("a", "b", "c")))
    assert schema["required"] == ["empathy", "safety"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["safety"]["items"]["enum"] == [1, 2, 3]
