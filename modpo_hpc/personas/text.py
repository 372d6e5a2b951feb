"""The text of a persona: what the survey's answers say, in five sections, and nothing that they do not say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from modpo_hpc.personas.answers import presentable, says_nothing
from modpo_hpc.personas.columns import CRITERIA, Columns
from modpo_hpc.personas.survey import Participant

OPENING = "You are a person with lived experience of mental health difficulties. This is how you described yourself."
SECTIONS = (
    "Who you are",
    "Your experience with AI tools",
    "What you think of AI in mental health",
    "What matters to you in therapy (importance from 1 to 5)",
    "Where you see AI as appropriate",
)
CRITERION_LABELS = {
    "empathy": "Empathy",
    "active_listening": "Active listening",
    "self_motivated_change": "Encouraging self-motivated change",
    "trust_rapport": "Building trust and rapport",
    "patient_autonomy": "Respecting your autonomy",
}
_STATEMENTS = {
    "accessibility": "language models can make support for mental health more accessible",
    "empathy": "language models can answer with empathy as a human therapist does",
    "complement": "language models should be a complement to human therapists and not a replacement",
}
_AGREEMENT = {
    1: "You strongly disagree that {}.",
    2: "You disagree that {}.",
    3: "You neither agree nor disagree that {}.",
    4: "You agree that {}.",
    5: "You strongly agree that {}.",
}
_CONCERN = {
    1: "You are not at all concerned about factual errors of language models in talks about mental health.",
    2: "You are not concerned about factual errors of language models in talks about mental health.",
    3: "You are undecided whether factual errors of language models in talks about mental health are a concern.",
    4: "You are concerned about factual errors of language models in talks about mental health.",
    5: "You are very concerned about factual errors of language models in talks about mental health.",
}
_TRUST = {1: "very low", 2: "low", 3: "moderate", 4: "high", 5: "very high"}


def persona_text(person: Participant, columns: Columns) -> str:
    """The persona of ``person`` in the five sections of the paper's Figure 7.

    A question that was not answered leaves its line out; a section without lines is left out too.
    """
    sections = (
        _background(person, columns),
        _experience(person, columns),
        _attitudes(person.attitudes),
        [f"- {CRITERION_LABELS[name]}: {value}" for name, value in person.importance.items() if value is not None],
        [
            *_listing("Areas of mental health where you think language models can help", person.helpful_areas),
            *_listing("Parts of psychotherapy for which you find language models appropriate", person.appropriate_uses),
        ],
    )
    blocks = [f"{title}\n" + "\n".join(lines) for title, lines in zip(SECTIONS, sections, strict=True) if lines]
    return "\n\n".join([OPENING, *blocks])


def ratings_in(text: str) -> dict[str, int | None]:
    """The importance ratings that a persona's text states, ours or one in another wording: {criterion: 1..5 or None}.

    A rating is the first number of a line that names the criterion before a colon ("Active listening: 4.0/5 ...").
    """
    marks = {
        "empathy": r"^\W*empathy\b",
        "active_listening": r"active listening",
        "self_motivated_change": r"self-?\s?motivated change",
        "trust_rapport": r"trust and rapport",
        "patient_autonomy": r"autonomy",
    }
    found: dict[str, int | None] = dict.fromkeys(CRITERIA)
    for line in text.splitlines():
        label, _, value = line.partition(":")
        number = re.match(r"\s*([1-5])(?:\.0+)?(?![\d.])", value)
        if number:
            for name, mark in marks.items():
                if found[name] is None and re.search(mark, label, re.IGNORECASE):
                    found[name] = int(number.group(1))
    return found


def labelled(text: str, label: str) -> str | None:
    """What a persona's text states after ``label`` and a colon at the start of a line; None if it does not."""
    match = re.search(rf"^\W*{re.escape(label)}\s*:\s*(.+?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    return match.group(1) if match else None


def _background(person: Participant, columns: Columns) -> list[str]:
    return [
        *_line("Age", person.age_group),
        *_line("Gender", person.gender and presentable(person.gender)),
        *_listing("Ethnicity", person.ethnicities),
        *_listing("Diagnoses", person.diagnoses),
        *_line("Severity of your condition", person.severity and presentable(person.severity)),
        *_listing("Current treatment", person.treatment),
    ]


def _experience(person: Participant, columns: Columns) -> list[str]:
    if person.experience and all(says_nothing(answer, columns) for answer in person.experience):
        return ["- You have not used AI tools for any of the purposes that the survey asked about."]
    return _listing("You have used AI tools for", person.experience)


def _attitudes(attitudes: Mapping[str, int | None]) -> list[str]:
    lines = []
    for name, value in attitudes.items():
        if value is None:
            continue
        if name == "errors":
            lines.append(f"- {_CONCERN[value]}")
        elif name == "trust":
            lines.append(f"- Your trust in language models to support mental health safely is {_TRUST[value]}.")
        else:
            lines.append(f"- {_AGREEMENT[value].format(_STATEMENTS[name])}")
    return lines


def _line(label: str, answer: str | None) -> list[str]:
    return [f"- {label}: {answer}"] if answer else []


def _listing(label: str, answers: Sequence[str]) -> list[str]:
    return _line(label, "; ".join(presentable(answer) for answer in answers))
