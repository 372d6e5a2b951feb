"""An invented survey: 335 participants of two populations, as the rows that a survey tool exports.

Nobody here exists. What follows the paper exactly: the size of both populations, the share for whom empathy comes
first (62.7%) with active listening second, and a mean importance between 4.16 and 4.35 for every criterion. Ages,
genders, ethnicities and all other answers are drawn from proportions that are plausible for such a survey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from modpo_hpc.resources import resource
from modpo_hpc.seeds import rng_of

POPULATIONS: Mapping[str, int] = {"campus": 124, "community": 211}
FIRST_CHOICES: Mapping[str, int] = {
    "empathy": 210,  # of 335: 62.7%
    "active_listening": 57,
    "self_motivated_change": 26,
    "trust_rapport": 24,
    "patient_autonomy": 18,
}
MEAN_IMPORTANCE: Mapping[str, float] = {
    "empathy": 4.35,
    "active_listening": 4.30,
    "self_motivated_change": 4.16,
    "trust_rapport": 4.27,
    "patient_autonomy": 4.22,
}

CRITERIA = tuple(FIRST_CHOICES)

_AGES: Mapping[str, Mapping[str, float]] = {
    "campus": {"18-24": 0.66, "25-34": 0.25, "35-44": 0.06, "45-54": 0.03},
    "community": {"18-24": 0.10, "25-34": 0.33, "35-44": 0.27, "45-54": 0.17, "55-64": 0.09, "65+": 0.04},
}
_GENDERS: Mapping[str, float] = {"Female": 0.57, "Male": 0.37, "Non-binary": 0.06}
_ETHNICITIES: Mapping[str, Mapping[str, float]] = {
    "campus": {
        "White": 0.32, "Asian": 0.30, "Hispanic or Latino": 0.20, "Black or African American": 0.07,
        "Middle Eastern or North African": 0.05, "White; Asian": 0.03, "White; Hispanic or Latino": 0.03,
    },
    "community": {
        "White": 0.60, "Black or African American": 0.16, "Hispanic or Latino": 0.10, "Asian": 0.06,
        "Middle Eastern or North African": 0.02, "White; Black or African American": 0.03,
        "White; Hispanic or Latino": 0.03,
    },
}  # fmt: skip
_DIAGNOSES: Mapping[str, float] = {
    "Depression": 0.55, "Anxiety disorder": 0.58, "PTSD": 0.18, "ADHD": 0.22, "Bipolar disorder": 0.09,
    "Obsessive-compulsive disorder": 0.10, "Eating disorder": 0.08, "Substance use disorder": 0.06,
}  # fmt: skip
_SEVERITIES: Mapping[str, float] = {"Mild": 0.28, "Moderate": 0.52, "Severe": 0.20}
_TREATMENTS: Mapping[str, float] = {
    "Talk therapy or counselling": 0.45, "Medication": 0.48, "Support group": 0.10, "Self-help or apps": 0.22,
}  # fmt: skip
_EXPERIENCE: Mapping[str, float] = {
    "Information on mental health": 0.40, "Emotional support": 0.28, "Study or work": 0.62, "Entertainment": 0.35,
    "Help with everyday tasks": 0.50,
}  # fmt: skip
_AREAS: Mapping[str, float] = {
    "Stress and anxiety": 0.66, "Low mood": 0.48, "Sleep": 0.41, "Relationships": 0.33, "Loneliness": 0.37,
    "Addiction": 0.14, "Grief": 0.20,
}  # fmt: skip
_USES: Mapping[str, float] = {
    "Psychoeducation": 0.58, "Exercises between sessions": 0.52, "Mood tracking": 0.49, "Listening at any hour": 0.38,
    "First screening": 0.27, "Crisis support": 0.09,
}  # fmt: skip
_AGREEMENT = ("Strongly disagree", "Disagree", "Neither agree nor disagree", "Agree", "Strongly agree")
_TRUST = ("Very low trust", "Low trust", "Moderate trust", "High trust", "Very high trust")
_ATTITUDES: Mapping[str, tuple[Sequence[str], tuple[float, ...]]] = {
    "attitude_accessibility": (_AGREEMENT, (0.04, 0.09, 0.17, 0.47, 0.23)),
    "attitude_empathy": (_AGREEMENT, (0.16, 0.27, 0.24, 0.25, 0.08)),
    "attitude_errors": (_AGREEMENT, (0.03, 0.09, 0.16, 0.43, 0.29)),
    "attitude_complement": (_AGREEMENT, (0.03, 0.08, 0.15, 0.39, 0.35)),
    "attitude_trust": (_TRUST, (0.12, 0.25, 0.39, 0.19, 0.05)),
}
_SKIPPABLE = ("severity", "treatment", "attitude_trust", "helpful_areas", "appropriate_uses", "experience")
_SKIPS, _CONTRADICTS = 0.12, 0.03

Row = dict[str, str]


def invented_survey(seed: int) -> dict[str, list[Row]]:
    """Population label -> rows, each from header (the wording of the built-in column mapping) to cell."""
    fields = yaml.safe_load(resource("configs/survey/columns.yaml").read_text(encoding="utf-8"))["fields"]
    headers = {name: field["question"] for name, field in fields.items()}
    ratings = iter(_ratings(sum(POPULATIONS.values()), rng_of(seed, "survey", "ratings")))
    survey: dict[str, list[Row]] = {}
    for population, size in POPULATIONS.items():
        rows = []
        for place in range(size):
            answers = _answers(population, rng_of(seed, "survey", population, place))
            answers["participant"] = f"{population}-{place + 1:03d}"
            for criterion, rating in zip(CRITERIA, next(ratings), strict=True):
                answers[f"importance_{criterion}"] = str(rating)
            rows.append({header: answers[name] for name, header in headers.items()})
        survey[population] = rows
    return survey


def _answers(population: str, rng: np.random.Generator) -> dict[str, str]:
    """Everything but the ratings, by field of the column mapping."""
    diagnoses = _several(rng, _DIAGNOSES, otherwise="None of the above")
    answers = {
        "age_group": _one(rng, _AGES[population]),
        "gender": _one(rng, _GENDERS),
        "ethnicities": _one(rng, _ETHNICITIES[population]),
        "diagnoses": diagnoses,
        "severity": "Mild" if diagnoses == "None of the above" else _one(rng, _SEVERITIES),
        "treatment": _several(rng, _TREATMENTS, otherwise="No current treatment"),
        "experience": _several(rng, _EXPERIENCE, otherwise="I have not used them"),
        "helpful_areas": _several(rng, _AREAS, otherwise="None of the above"),
        "appropriate_uses": _several(rng, _USES, otherwise="None of the above"),
    }
    for name, (words, shares) in _ATTITUDES.items():
        answers[name] = words[int(rng.choice(len(words), p=shares))]
    if rng.random() < _SKIPS:
        answers[_SKIPPABLE[int(rng.integers(len(_SKIPPABLE)))]] = ""
    if rng.random() < _CONTRADICTS:
        answers["diagnoses"] = f"{answers['diagnoses']}; None of the above"
    return answers


def _ratings(count: int, rng: np.random.Generator) -> np.ndarray:
    """Importance 1 to 5, integers of shape (count, criteria), with ``FIRST_CHOICES`` and ``MEAN_IMPORTANCE`` exact.

    The first choice of a person is the highest rating, of several the one that the survey asks first.
    """
    order = rng.permutation(count)
    first = np.repeat(np.arange(len(CRITERIA)), [FIRST_CHOICES[name] for name in CRITERIA])[order]
    ratings = rng.choice([3, 4, 5], size=(count, len(CRITERIA)), p=[0.15, 0.4, 0.45])
    top = rng.choice([4, 5], size=count, p=[0.15, 0.85])
    for person in range(count):
        chosen = first[person]
        ratings[person] = np.minimum(ratings[person], top[person] - (np.arange(len(CRITERIA)) < chosen))
        ratings[person, chosen] = top[person]
    for place, name in enumerate(CRITERIA):
        wanted = round(MEAN_IMPORTANCE[name] * count)
        while (missing := wanted - int(ratings[:, place].sum())) != 0:
            step = 1 if missing > 0 else -1
            person = int(rng.integers(count))
            tried = ratings[person].copy()
            tried[place] += step
            if 1 <= tried[place] <= 5 and int(np.argmax(tried)) == first[person]:
                ratings[person] = tried
    return ratings


def _one(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return tuple(shares)[int(rng.choice(len(shares), p=weights / weights.sum()))]


def _several(rng: np.random.Generator, shares: Mapping[str, float], otherwise: str) -> str:
    named = [name for name, share in shares.items() if rng.random() < share]
    return "; ".join(named) or otherwise
