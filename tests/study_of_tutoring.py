"""Invented pupils, parents and questions for configs/tutoring, which brings none."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

HEADERS = (
    "Participant ID", "How old are you?", "What is your gender?", "What is your background?",
    "In which subjects is homework hard?", "Who helps with homework?", "A language model can explain homework well.",
    "How important: patience", "How important: correctness", "How important: that the solution is not given away",
)  # fmt: skip


def write_survey(path: Path, age: str, count: int) -> Path:
    choices = itertools.product(
        ("girl", "boy"), ("born here", "born elsewhere"), ("maths", "maths; reading", "history"), ("Nobody", "a friend")
    )
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADERS)
        for number, (gender, background, subjects, helps) in enumerate(itertools.islice(choices, count)):
            ratings = [1 + (number + place) % 5 for place in range(3)]
            attitude = ("agree", "neutral", "strongly disagree")[number % 3]
            writer.writerow([f"{age}{number}", age, gender, background, subjects, helps, attitude, *ratings])
    return path


def write_questions(path: Path, count: int) -> Path:
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "question"))
        for number in range(count):
            writer.writerow((f"h{number}", f"How do I divide {7 * number + 3} by {number % 5 + 2}? I forgot the rule."))
    return path
