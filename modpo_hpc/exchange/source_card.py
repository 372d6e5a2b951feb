"""The card of the posts and people that a user brings: drafted by ``modpo new``, filled in by the user, and carried
into the cards of every export."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from modpo_hpc.data.files import read_text
from modpo_hpc.data.questions import RowAccount
from modpo_hpc.errors import InputError
from modpo_hpc.study import Study

TO_FILL_IN = "TO FILL IN"
_HEAD = re.compile(r"---\n(.*?)^---\n+", re.DOTALL | re.MULTILINE)
_ONLY_YOU_KNOW = f"""- What this is: {TO_FILL_IN}
- Where it comes from, and who agreed to this use: {TO_FILL_IN}
- Licence, and what it allows: {TO_FILL_IN}
- Personal or sensitive (yes or no, and who may see it): {TO_FILL_IN}
"""


@dataclass(frozen=True)
class SourceCard:
    """The fields of the card's header (licence, language), its text, and how many entries nobody has filled in yet."""

    head: Mapping[str, Any]
    text: str
    unfilled: int


def draft_card(name: str, posts: str, account: RowAccount, people: str) -> str:
    """The card of a new study, with what is known and marks for what only the user knows.

    Args:
        posts: the file of posts as it was brought, and its columns.
        people: the same of the survey or the texts; empty for invented people.
    """
    asked = f"{_ONLY_YOU_KNOW}- {people}\n" if people else "Invented by `modpo new`: nobody was asked.\n"
    return (
        f"---\nlicense: unknown\n---\n\n# Where the data of {name} come from\n\n"
        f"## Posts\n\n{_ONLY_YOU_KNOW}- {posts}\n- {account.sentence()}\n\n"
        f"## People\n\n{asked}\n"
        f"## Not for\n\nThe care of people, and decisions about anyone in these data. Beyond that: {TO_FILL_IN}\n"
    )


def read_card(study: Study) -> SourceCard | None:
    """The card that the study names (``data.card``); None if it names none.

    Raises:
        InputError: there is no such file, or its header is no YAML.
    """
    file = study.data.card
    if file is None:
        return None
    text = read_text(file).replace("\r\n", "\n")
    found = _HEAD.match(text)
    try:
        head = (yaml.safe_load(found[1]) or {}) if found else {}
    except yaml.YAMLError as error:
        raise InputError(f"the header of this card is no YAML: {error}", file=file, field="data.card",
                         remedy="Mend what stands between the two lines of three dashes.") from error  # fmt: skip
    if not isinstance(head, dict):
        raise InputError("the header of this card is no mapping", file=file, field="data.card", value=head,
                         remedy="Write it as lines of name: value, or leave it out.")  # fmt: skip
    body = text[found.end() :] if found else text
    return SourceCard(head, body.strip() + "\n", text.count(TO_FILL_IN))
