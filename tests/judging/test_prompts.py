"""What a judge reads: quoted text cannot pass for ours, and what one persona judges begins alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.judging.keys import Keys
from modpo_hpc.prompts import judging_prompt, quoted
from tests.judging.worlds import CRITERIA, request

LINE_ENDS = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from(["| ", "\n", "\r", "\x0b", "\x85", "\u2028", "Reply B:", "Answer", "```", "</post>"]), max_size=12
).map("".join)


@given(LINE_ENDS)
def test_no_line_of_quoted_text_stands_free(text: str) -> None:
    lines = quoted(text).splitlines()
    assert all(line.startswith("| ") for line in lines)
    assert [line[2:] for line in lines] == (text.splitlines() or [""])


@given(LINE_ENDS, LINE_ENDS, LINE_ENDS)
def test_hostile_texts_add_no_free_lines(question: str, first: str, second: str) -> None:
    def free(prompt: tuple[str, str]) -> list[str]:
        return [line for line in "".join(prompt).splitlines() if not line.startswith("| ")]

    hostile = judging_prompt("judge", "A person.", CRITERIA, question, (first, second))
    harmless = judging_prompt("judge", "A person.", CRITERIA, "q", ("a", "b"))
    assert free(hostile) == free(harmless)


def test_what_one_persona_judges_begins_alike() -> None:
    one = judging_prompt("judge", "A person.", CRITERIA, "First question", ("a", "b"))
    other = judging_prompt("judge", "A person.", CRITERIA, "Second question", ("c", "d"))
    assert one[0] == other[0]
    assert "A person." in one[0]
    assert CRITERIA[0].definition in one[0]
    last = judging_prompt("judge", "A person.", CRITERIA, "First question", ("a", "b"), "criteria_last")
    assert "".join(last).index("First question") < "".join(last).index(CRITERIA[0].definition)


def test_a_key_changes_with_all_that_can_change_the_answer_and_with_nothing_else() -> None:
    keys = Keys({"model": "m", "temperature": 0})
    asked = request()
    assert keys.key(asked) == Keys({"temperature": 0, "model": "m"}).key(asked)
    others = [
        keys.key(request(texts=("Two.", "One."))),
        keys.key(request(persona="p1")),
        keys.key(request("rank")),
        Keys({"model": "m", "temperature": 1}).key(asked),
        Keys({"model": "n", "temperature": 0}).key(asked),
        Keys({"model": "m", "temperature": 0}, "criteria_last").key(asked),
    ]
    assert len({keys.key(asked), *others}) == 1 + len(others)
    keys.key(request(persona="p1"))
    assert keys.key(request()) == Keys({"model": "m", "temperature": 0}).key(asked)
