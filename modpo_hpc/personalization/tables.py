"""The tables of personalization, and the records that become their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from modpo_hpc.evaluation.tables import Rows, schema_of
from modpo_hpc.personalization.comparison import ArmComparison, Effect, Safety, is_finding
from modpo_hpc.personalization.plackett_luce import Array, Shrunk
from modpo_hpc.personalization.weights import Profiles

EVERYBODY = ""
"""``persona_id`` of the population's weights."""

PROFILES = schema_of("arm persona_id criterion", float="weight")
"""Weights of calibrated rewards; the absolute values of a persona sum to one."""

EFFECTS = schema_of("arm against", float="estimate error low high p p_adjusted differs", bool="found")
"""``against``: others (the estimand), population, or stranger (the control: another's answer in the place of the own).
``estimate``: share of preferences minus one half. ``differs``: share of comparisons of two different texts.
``found``: p adjusted over the arms at most alpha, and the interval above ``personalization.smallest``."""

SAFETY = pa.schema(
    [
        *schema_of("arm", float="margin difference low high differs", bool="non_inferior"),
        *schema_of("worst_persona", float="worst_difference worst_low worst_high worst_p"),
    ]
)
"""``difference``: share of judgments on safety that the personal answers win less those that they lose."""

PERSONAS = schema_of("arm persona_id", float="effect safety")
"""``effect``: own answers against those of others, a share minus one half. ``safety``: against the population's."""


def profile_rows(arms: Mapping[str, Profiles], ids: Sequence[str], criteria: Sequence[str]) -> Rows:
    """A row an arm, persona and criterion; those of the population first."""
    return [
        {"arm": arm, "persona_id": persona, "criterion": criterion, "weight": float(weight)}
        for arm, profiles in arms.items()
        for persona, weights in zip(
            (EVERYBODY, *ids), (profiles.population, *profiles.personas), strict=True
        )
        for criterion, weight in zip(criteria, weights, strict=True)
    ]  # fmt: skip


def profiles_of(table: pa.Table, ids: Sequence[str], criteria: Sequence[str]) -> dict[str, Profiles]:
    """Arm -> the profiles in ``table``, personas and criteria in the order given."""
    weight = {(row["arm"], row["persona_id"], row["criterion"]): row["weight"] for row in table.to_pylist()}
    return {
        arm: Profiles(
            np.array([weight[arm, EVERYBODY, criterion] for criterion in criteria]),
            np.array([[weight[arm, persona, criterion] for criterion in criteria] for persona in ids]),
        )
        for arm in dict.fromkeys(table["arm"].to_pylist())
    }


def spread_rows(shrunk: Shrunk, deviations: Array, criteria: Sequence[str]) -> Rows:
    """For each criterion: the population's coefficient of the calibrated reward, and the spread of the shrunk ones."""
    each = zip(criteria, shrunk.population / deviations, shrunk.personas.std(axis=0) / deviations, strict=True)
    return [{"criterion": name, "population": float(mean), "deviation": float(sd)} for name, mean, sd in each]


def effect_rows(
    made: Mapping[str, ArmComparison], p_adjusted: Mapping[str, float], alpha: float, smallest: float
) -> Rows:
    """Three rows an arm."""
    rows = []
    for arm, one in made.items():
        against: dict[str, Effect] = {"others": one.other, "population": one.population, "stranger": one.deranged}
        for name, effect in against.items():
            p = float(p_adjusted[arm]) if name == "others" else effect.p
            found = is_finding(effect, p, alpha, smallest)
            rows.append({"arm": arm, "against": name, **vars(effect), "p_adjusted": p, "found": found})
    return rows


def safety_rows(made: Mapping[str, Safety], ids: Sequence[str], margin: float) -> Rows:
    """A row an arm."""
    return [
        {
            "arm": arm,
            "margin": margin,
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
            "differs": one.differs,
            "non_inferior": one.non_inferior,
            "worst_persona": ids[one.worst],
            "worst_difference": one.worst_test.difference,
            "worst_low": one.worst_test.low,
            "worst_high": one.worst_test.high,
            "worst_p": one.worst_test.p,
        }
        for arm, one in made.items()
    ]


def persona_rows(made: Mapping[str, ArmComparison], safety: Mapping[str, Safety], ids: Sequence[str]) -> Rows:
    """A row an arm and persona."""
    return [
        {"arm": arm, "persona_id": persona, "effect": float(effect), "safety": float(safe)}
        for arm, one in made.items()
        for persona, effect, safe in zip(ids, one.persona_effects, safety[arm].personas, strict=True)
    ]
