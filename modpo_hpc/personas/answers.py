"""Reading the answers of a survey: one cell at a time, without changing what the person said."""

from __future__ import annotations

import re
from bisect import bisect

from modpo_hpc.personas.columns import Columns, plain

NOT_STATED = "Not stated"
_STARTS = (18, 25, 35, 45, 55, 65)
_BANDS = ("under 18", "18-24", "25-34", "35-44", "45-54", "55-64", "65+")


def tidy(cell: str | None, columns: Columns) -> str | None:
    """The answer in ``cell`` with its spaces and dashes put in order; None where nothing was answered."""
    text = " ".join((cell or "").replace("\u2013", "-").replace("\u2014", "-").split())
    return None if not text or plain(text) in columns.missing or text == "-" else text


def several(cell: str | None, columns: Columns) -> tuple[str, ...]:
    """The answers listed in one cell, each once, in their order.

    They are parted by semicolons, bars or line ends if the cell has any, else by commas outside brackets.

    >>> several("Depression, Anxiety (social, general), depression", load_columns())
    ('Depression', 'Anxiety (social, general)')
    """
    text = cell or ""
    parts = re.split(r"[;|\n]", text) if re.search(r"[;|\n]", text) else _split_at_commas(text)
    found: dict[str, str] = {}
    for part in parts:
        if answer := tidy(part, columns):
            found.setdefault(plain(answer) or answer, answer)
    return tuple(found.values())


def level(cell: str | None, scale: str, columns: Columns) -> int | None:
    """The level from 1 to 5 that ``cell`` gives on ``scale`` (agreement, trust, rating); None if not answered.

    Words count by the column mapping, a number without them as itself ("4", "4.0", "4/5"). Where a cell has both,
    the words count: a survey may number its answers in either direction.

    Raises:
        ValueError: the answer is none that the scale knows.
    """
    answer = tidy(cell, columns)
    if answer is None:
        return None
    number = re.match(r"^([1-5])(?:\.0+)?(?:\s*/\s*5)?(?:\s*[-:=(.)](?!\d)\s*(.*))?$", answer)
    spoken = (number.group(2) or "") if number else answer
    words = plain(re.sub(r"\b(\w+)(\s+\1\b)+", r"\1", spoken, flags=re.IGNORECASE))
    if words in columns.scales[scale]:
        return columns.scales[scale][words]
    if number:
        return int(number.group(1))
    raise ValueError(f"no answer of the scale {scale!r}")


def group_of(answers: tuple[str, ...], kind: str, columns: Columns, other: str = "Other") -> str:
    """The group (of gender, ethnicity) for which a person with these ``answers`` is counted.

    Words are compared whole, so that "Caucasian" is not read as "Asian". With several answers the group that the
    mapping lists first is taken; ``other`` if none fits, ``NOT_STATED`` without an answer.
    """
    spoken = [plain(answer).split() for answer in answers]
    if not spoken:
        return NOT_STATED
    for group, phrases in columns.groups[kind].items():
        if any(_holds(words, phrase.split()) for words in spoken for phrase in phrases):
            return group
    return other


def age_band(answer: str | None) -> str | None:
    """The age group of ``answer`` in one spelling: ``25-34``, ``65+``; an age in years falls into its decade's group.

    >>> age_band("25 to 34 years"), age_band("65 or older"), age_band("41")
    ('25-34', '65+', '35-44')
    """
    if answer is None:
        return None
    numbers = [int(one) for one in re.findall(r"\d+", answer)]
    if len(numbers) == 2:
        return f"{numbers[0]}-{numbers[1]}"
    if len(numbers) == 1 and re.search(r"\+|older|over|above|more", answer, re.IGNORECASE):
        return f"{numbers[0]}+"
    return _BANDS[bisect(_STARTS, numbers[0])] if answer.strip().isdigit() else answer


def presentable(answer: str) -> str:
    """``answer`` without shouting: capitals only at its start if it was written in one case throughout."""
    rest = answer[1:].lower() if answer.isupper() and len(answer) > 4 else answer[1:]
    return answer[:1].upper() + rest


def says_nothing(answer: str, columns: Columns) -> bool:
    """Whether ``answer`` says that there is nothing to list ("None of the above")."""
    return plain(answer) in columns.nothing


def _holds(words: list[str], phrase: list[str]) -> bool:
    return any(words[start : start + len(phrase)] == phrase for start in range(len(words) - len(phrase) + 1))


def _split_at_commas(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
