"""How complete and how consistent a participant's answers are."""

from __future__ import annotations

from dataclasses import dataclass

from modpo_hpc.personas.answers import says_nothing
from modpo_hpc.personas.columns import Columns, plain
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

    Completeness is the share of the survey's questions that were answered. Consistency is the share of these checks
    that are passed: nothing is listed beside "none" (diagnoses, treatment, experience), and no severe condition is
    stated beside "no diagnosis".
    """
    answered = [
        person.age_group,
        person.gender,
        person.ethnicities,
        person.diagnoses,
        person.severity,
        person.treatment,
        person.experience,
        person.helpful_areas,
        person.appropriate_uses,
        *(value is not None for value in person.attitudes.values()),
        *(value is not None for value in person.importance.values()),
    ]
    undiagnosed = bool(person.diagnoses) and all(says_nothing(one, columns) for one in person.diagnoses)
    checks = {
        "a diagnosis beside none": _mixed(person.diagnoses, columns),
        "a treatment beside none": _mixed(person.treatment, columns),
        "a purpose beside none": _mixed(person.experience, columns),
        "a severe condition without diagnosis": undiagnosed and "severe" in plain(person.severity or "").split(),
    }
    contradictions = tuple(name for name, contradicts in checks.items() if contradicts)
    return Quality(
        completeness=sum(map(bool, answered)) / len(answered),
        consistency=1 - len(contradictions) / len(checks),
        contradictions=contradictions,
    )


def _mixed(answers: tuple[str, ...], columns: Columns) -> bool:
    nothing = [says_nothing(answer, columns) for answer in answers]
    return any(nothing) and not all(nothing)
