"""Reading headers and cells: nobody's meaning is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.errors import InputError
from modpo_hpc.exchange.persona_texts import labelled, ratings_in
from modpo_hpc.personas.answers import age_band, group_of, level, several
from modpo_hpc.personas.columns import Columns, load_columns, match_headers, plain
from modpo_hpc.personas.survey import Participant, parse_rows
from modpo_hpc.personas.text import persona_text
from tests.conftest import REPOSITORY

COLUMNS = load_columns()
QUESTIONS = {name: field.question for name, field in COLUMNS.fields.items()}
# how the survey of the paper words its questions, as far as its public description tells
OTHER_WORDING = {
    "age_group": "1. What is your age group?",
    "gender": "2. What is your GENDER?",
    "ethnicities": "3. How would you describe your ethnicity/race? (Check all that apply)",
    "diagnoses": "4.Have you ever been diagnosed by a professional with any of these mental health conditions?",
    "severity": "5. How would you describe the severity of your mental health condition?",
    "treatment": "6. Are you currently receiving treatment for your mental health condition(s)? If so, of what type?",
    "experience": "6.  Have you ever interacted with an automated system or an LLM for any of these purposes?",
    "attitude_accessibility": "7a. LLMs can help address mental health by offering accessible support.",
    "attitude_empathy": "7b. LLMs can provide empathetic responses similar to human therapists.",
    "attitude_errors": "7c. I am concerned about LLMs making factual errors",
    "attitude_complement": "7d. LLMs only as a complement to human therapists",
    "attitude_trust": "7e. To what extent do you trust LLMs with mental health support?",
    "importance_empathy": "Empathy in responses (warmth)",
    "importance_active_listening": "Active listening (reflecting the patient\u2019s feelings)",
    "importance_self_motivated_change": "Encouraging self-motivated change",
    "importance_trust_rapport": "Building trust and rapport",
    "importance_patient_autonomy": "Respecting patient autonomy",
    "helpful_areas": "12. In your opinion, in which areas could LLMs be helpful?",
    "appropriate_uses": "13. In which aspects of psychotherapy is it appropriate to use LLMs?",
}


def person(**answers: str) -> Participant:
    row = {question: answers.get(name, "") for name, question in QUESTIONS.items()}
    return parse_rows([row], "A", COLUMNS)[0]


def test_headers_are_found_whatever_their_wording_case_and_numbering() -> None:
    assert match_headers(list(QUESTIONS.values()), COLUMNS, "x") == QUESTIONS
    shouted = {name: f"  Q12) {header.upper()} " for name, header in OTHER_WORDING.items()}
    for headers in (OTHER_WORDING, shouted):
        found = match_headers(["Timestamp", *headers.values(), "Any comments?"], COLUMNS, "x")
        assert found == headers


def test_a_missing_and_a_double_column_are_named() -> None:
    without = [header for name, header in QUESTIONS.items() if name != "gender"]
    with pytest.raises(InputError, match="no column of the survey fits the field gender"):
        match_headers(without, COLUMNS, "survey.csv")
    with pytest.raises(InputError, match="two columns fit the field gender"):
        match_headers([*QUESTIONS.values(), "gender (again)"], COLUMNS, "survey.csv")


def test_a_mapping_of_ones_own_is_used(tmp_path: Path) -> None:
    text = Path("configs/survey/columns.yaml").read_text()
    own = tmp_path / "columns.yaml"
    own.write_text(text.replace("phrases: [gender]", "phrases: [geschlecht]"))
    headers = [QUESTIONS[name] if name != "gender" else "2. Geschlecht" for name in QUESTIONS]
    assert match_headers(headers, load_columns(own), "x")["gender"] == "2. Geschlecht"
    own.write_text(text.replace("kind: rating", "kind: stars"))
    with pytest.raises(InputError, match="stars"):
        load_columns(own)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Strongly disagree", 1),
        ("STRONGLY  DISAGREE", 1),
        ("Disagree", 2),
        ("neither agree nor disagree", 3),
        ("Somewhat agree", 4),
        ("strongly agree.", 5),
        ("4", 4),
        ("4.0", 4),
        ("5 - Strongly disagree", 1),
        ("", None),
        ("N/A", None),
    ],
)
def test_agreement_keeps_its_direction(cell: str, expected: int | None) -> None:
    assert level(cell, "agreement", COLUMNS) == expected


@pytest.mark.parametrize("cell", ["6", "0", "maybe", "4.5", "-1"])
def test_an_answer_outside_the_scale_is_refused_not_guessed(cell: str) -> None:
    with pytest.raises(InputError, match=r"line 2.*") as caught:
        person(importance_empathy=cell)
    assert caught.value.field == QUESTIONS["importance_empathy"]


def test_who_disagrees_that_errors_are_a_concern_is_not_said_to_have_it() -> None:
    lines = {
        answer: [
            line for line in persona_text(person(attitude_errors=answer), COLUMNS).splitlines() if "errors" in line
        ]
        for answer in ("Strongly disagree", "Disagree", "Neutral", "Agree", "Strongly agree", "")
    }
    assert "not at all concerned" in lines["Strongly disagree"][0]
    assert "not concerned" in lines["Disagree"][0]
    assert "undecided" in lines["Neutral"][0]
    assert "not" not in lines["Agree"][0].split()
    assert "very concerned" in lines["Strongly agree"][0]
    assert lines[""] == []


@given(st.sampled_from([name for name in COLUMNS.fields if name.startswith("attitude_")]), st.integers(1, 5))
def test_every_level_of_every_attitude_reads_differently(field: str, chosen: int) -> None:
    texts = {persona_text(person(**{field: str(value)}), COLUMNS) for value in range(1, 6)}
    assert len(texts) == 5
    assert persona_text(person(**{field: str(chosen)}), COLUMNS) in texts


def test_several_answers_in_one_cell() -> None:
    assert several("Depression; Anxiety;depression ;", COLUMNS) == ("Depression", "Anxiety")
    assert several("Therapy (single, group), Medication", COLUMNS) == ("Therapy (single, group)", "Medication")
    assert several("White, caucasian\nAsian", COLUMNS) == ("White, caucasian", "Asian")
    assert several(" n/a ", COLUMNS) == ()


def test_ethnicity_is_read_by_whole_words_and_in_the_order_of_the_mapping() -> None:
    assert group_of(("Caucasian",), "ethnicity", COLUMNS) == "White"
    assert group_of(("White", "Hispanic or Latino"), "ethnicity", COLUMNS) == "Hispanic"
    assert group_of(("ASIAN",), "ethnicity", COLUMNS) == "Asian"
    assert group_of(("Martian",), "ethnicity", COLUMNS) == "Other"
    assert group_of((), "ethnicity", COLUMNS) == "Not stated"
    assert person(gender="  female ").gender_group == "Female"
    assert person(gender="Prefer not to say").gender_group == "Not stated"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("25\u201334", "25-34"),
        ("25 to 34 years", "25-34"),
        ("65 and over", "65+"),
        ("18", "18-24"),
        ("70", "65+"),
        (None, None),
    ],
)
def test_age_groups_get_one_spelling(answer: str | None, expected: str | None) -> None:
    assert age_band(answer) == expected


def test_unanswered_questions_leave_their_lines_out() -> None:
    text = persona_text(person(gender="Female", importance_empathy="5"), COLUMNS)
    assert [line for line in text.splitlines() if line.startswith("- ")] == ["- Gender: Female", "- Empathy: 5"]
    assert "None" not in text


def test_the_text_gives_back_what_was_answered() -> None:
    ratings = {f"importance_{name}": str(value) for name, value in zip(COLUMNS.criteria, (5, 4, 3, 2, 1), strict=True)}
    text = persona_text(person(age_group="25-34", **ratings), COLUMNS)
    assert ratings_in(text, COLUMNS) == dict(zip(COLUMNS.criteria, (5, 4, 3, 2, 1), strict=True))
    assert labelled(text, "Age") == "25-34"
    other = "\u2022 Empathy and warmth: 5.0/5 importance\n\u2022 AI Empathy: You think so\n\u2022 Patient autonomy: 2/5"
    assert ratings_in(other, COLUMNS)["empathy"] == 5
    assert ratings_in(other, COLUMNS)["patient_autonomy"] == 2
    assert ratings_in(other, COLUMNS)["active_listening"] is None


@given(st.text(max_size=40))
def test_plain_words_are_stable(text: str) -> None:
    once = plain(f"x {text}")
    assert plain(once) == once


def test_primary_preference_goes_to_the_criterion_asked_first_among_equals() -> None:
    tied = person(importance_empathy="4", importance_active_listening="5", importance_patient_autonomy="5")
    assert tied.primary_preference == "active_listening"
    assert replace(tied, importance={}).primary_preference is None


def test_columns_are_data() -> None:
    assert isinstance(COLUMNS, Columns)
    assert set(COLUMNS.scales["agreement"].values()) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("importance_empathy: Empathy", "importance_tempo: Tempo"), "fields.importance_tempo"),
        (("{beside_none: treatment}", "{beside_none: treatments}"), "fields.treatments"),
        (("  attitude_trust:\n    kind", "  trusting:\n    kind"), "fields.trusting"),
        (
            (
                "          - You are concerned about factual errors of language models in talks about mental health.\n",
                "",
            ),
            "5",
        ),
        (("  opening: You", "  opened: You"), "opening"),
    ],
)
def test_a_wrong_mapping_is_refused_by_the_name_of_what_is_wrong(change: tuple[str, str], named: str, tmp_path) -> None:
    text = (REPOSITORY / "configs" / "survey" / "columns.yaml").read_text()
    assert text.count(change[0]) == 1
    path = tmp_path / "columns.yaml"
    path.write_text(text.replace(*change))
    with pytest.raises(InputError, match=named):
        load_columns(path)
