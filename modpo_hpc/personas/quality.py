"""How complete and how consistent a participant's answers are."""

from __future__ import annotations

from dataclasses import dataclass

from modpo_hpc.personas.answers import says_nothing
from modpo_hpc.personas.columns import Check, Columns, plain
from modpo_hpc.personas.survey import Participant

COMPLETENESS_WEIGHT, CONSISTENCY_WEIGHT = 0.6, 0.4


@dataclass(frozen=True)
class Quality:
    """Shares from 0 to 1: questions answered, checks passed, and their weighted mean. ``contradictions`` are named."""

    completeness: float
    consistency: float
    contradictions: tuple[str, ...]

    @property
    def score(self) -> float:
        return COMPLETENESS_WEIGHT * self.completeness + CONSISTENCY_WEIGHT * self.consistency


def quality_of(person: Participant, columns: Columns) -> Quality:
    """The quality of ``person``'s answers.

    Completeness is the share of the survey's questions that were answered. Consistency is the share of the survey's
    checks that are passed.
    """
    answered = [
        *person.told.values(),
        *(value is not None for value in (*person.attitudes.values(), *person.importance.values())),
    ]
    contradictions = tuple(one.name for one in columns.checks if _contradicts(one, person, columns))
    return Quality(
        completeness=sum(map(bool, answered)) / len(answered),
        consistency=1 - len(contradictions) / len(columns.checks) if columns.checks else 1.0,
        contradictions=contradictions,
    )


def _contradicts(check: Check, person: Participant, columns: Columns) -> bool:
    if check.although:
        others = person.told[check.although]
        lists_nothing = bool(others) and all(says_nothing(one, columns) for one in others)
        return lists_nothing and any(check.word in plain(one).split() for one in person.told[check.field])
    nothing = [says_nothing(answer, columns) for answer in person.told[check.field]]
    return any(nothing) and not all(nothing)
