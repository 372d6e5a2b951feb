"""Reading personas that are texts alone: what they state of groups and ratings."""

from __future__ import annotations

import re

from modpo_hpc.personas.columns import IMPORTANCE, Columns, plain


def ratings_in(text: str, columns: Columns) -> dict[str, int | None]:
    """The importance ratings that a persona's text states, ours or one in another wording: {criterion: 1..5 or None}.

    A rating is the first number of a line that names the criterion before a colon, by a phrase or the label of
    the column mapping ("Active listening: 4.0/5 ...").
    """
    labels = {line.field: line.label for _, lines in columns.sections for line in lines if line.label}
    phrases = {}
    for name in columns.criteria:
        field = f"{IMPORTANCE}{name}"
        phrases[name] = [*columns.fields[field].phrases, *([labels[field]] if field in labels else [])]
    found: dict[str, int | None] = dict.fromkeys(columns.criteria)
    for line in text.splitlines():
        label, _, value = line.partition(":")
        number = re.match(r"\s*([1-5])(?:\.0+)?(?![\d.])", value)
        if number is None:
            continue
        for name, marks in phrases.items():
            if found[name] is None and any(f" {plain(mark)} " in f" {_words(label)} " for mark in marks):
                found[name] = int(number.group(1))
    return found


def labelled(text: str, label: str) -> str | None:
    """What a persona's text states after ``label`` and a colon at the start of a line; None if it does not."""
    match = re.search(rf"^\W*{re.escape(label)}\s*:\s*(.+?)\s*$", text, re.IGNORECASE | re.MULTILINE)
    return match.group(1) if match else None


def _words(label: str) -> str:
    return " ".join(word for word in plain(label).split() if word != "and")
