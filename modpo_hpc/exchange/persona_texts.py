"""Reading personas that are texts alone: what they state of groups and ratings."""

from __future__ import annotations

import re

from modpo_hpc.exchange.names import RATED


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
    found: dict[str, int | None] = dict.fromkeys(RATED)
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
