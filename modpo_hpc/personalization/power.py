"""How many questions show that personas prefer their own answers, before anybody was asked."""

from __future__ import annotations

import math

from scipy import stats

from modpo_hpc.study import Study

VARIANCE = 0.04  # of one persona's own answer to one question, judged against those of all others
PERSONA, QUESTION = 0.005, 0.02  # shares of it that are of personas, and of questions
"""Rounded up from what the sandbox shows where the effect is of two points; a run has its own in its standard errors.
"""


def error(personas: int, questions: int) -> float:
    """Standard error of the effect, with personas and questions as crossed random effects."""
    residual = 1 - PERSONA - QUESTION
    share = PERSONA / personas + QUESTION / questions + residual / (personas * questions)
    return math.sqrt(VARIANCE * share)


def questions_needed(personas: int, distance: float, alpha: float, power: float) -> int | None:
    """Questions for which the interval of an effect lies above a point ``distance`` below the truth, with ``power``.

    None if no number does, because the personas are too few.
    """
    reach = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    left = (distance / reach) ** 2 / VARIANCE - PERSONA / personas
    if left <= 0:
        return None
    return math.ceil((QUESTION + (1 - PERSONA - QUESTION) / personas) / left)


def sentences(study: Study) -> list[str]:
    """For a plan: what the study's personas and questions can show, and what its difference would take."""
    wanted = study.personalization
    if wanted is None:
        return []
    settings, personas = study.statistics, study.judging.personas_per_question
    distance = wanted.difference - wanted.smallest
    if distance <= 0:
        return [
            f"personalization.difference ({wanted.difference:g}) is not above personalization.smallest "
            f"({wanted.smallest:g}), so no number of questions shows it"
        ]
    needed = questions_needed(personas, distance, settings.alpha, settings.power)
    takes = (
        f"takes {needed:,} questions that {personas} personas rank"
        if needed is not None
        else f"takes more than {personas} personas, however many questions they rank"
    )
    reach = float(stats.norm.ppf(1 - settings.alpha / 2) + stats.norm.ppf(settings.power))
    shown = wanted.smallest + reach * error(personas, wanted.test_questions)
    return [
        f"to show that personas prefer their own answers by {wanted.difference:.1%} of the comparisons, above the "
        f"{wanted.smallest:.1%} that count as an effect, {takes}, for a power of {settings.power:.0%}; the "
        f"{wanted.test_questions:,} of this study show {shown:.1%} (if a judged answer has a variance of "
        f"{VARIANCE:g}, of which personas have {PERSONA:.1%} and questions {QUESTION:.0%})",
        "answers for personas are chosen among the responses that are there: no text is generated for them, and "
        "personas whose weights choose alike share a text at no loss",
    ]
