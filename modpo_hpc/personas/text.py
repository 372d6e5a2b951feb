"""The text of a persona: what the survey's answers say, in the words of its mapping, and nothing more."""

from __future__ import annotations

from modpo_hpc.personas.answers import presentable, says_nothing
from modpo_hpc.personas.columns import ATTITUDE, IMPORTANCE, Columns, Line
from modpo_hpc.personas.survey import Participant


def persona_text(person: Participant, columns: Columns) -> str:
    """The persona of ``person``; with the built-in mapping in the five sections of the paper's Figure 7.

    A question that was not answered leaves its line out; a section without lines is left out too.
    """
    sections = [
        (title, [f"- {told}" for line in lines if (told := _told(line, person, columns))])
        for title, lines in columns.sections
    ]
    blocks = ["\n".join([title, *lines]) for title, lines in sections if lines]
    return "\n\n".join([columns.opening, *blocks])


def _told(line: Line, person: Participant, columns: Columns) -> str:
    """What ``line`` says of ``person``; empty if the question was not answered."""
    for prefix, ratings in ((ATTITUDE, person.attitudes), (IMPORTANCE, person.importance)):
        if line.field.startswith(prefix):
            value = ratings[line.field.removeprefix(prefix)]
            if value is None:
                return ""
            return line.sentences[value - 1] if line.sentences else f"{line.label}: {value}"
    answers = person.told[line.field]
    if line.none and answers and all(says_nothing(one, columns) for one in answers):
        return line.none
    told = "; ".join(map(presentable, answers))
    return f"{line.label}: {told}" if line.label and told else told
