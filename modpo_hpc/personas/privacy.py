"""Whom a persona could give away: combinations of traits that few participants share (k-anonymity, Sweeney 2002)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from modpo_hpc.personas import records
from modpo_hpc.personas.answers import NOT_STATED
from modpo_hpc.personas.records import POOL
from modpo_hpc.run import Run
from modpo_hpc.study import Study

USUAL_K = 5
Traits = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Rare:
    """A combination of age group, gender and ethnicities that fewer than k participants have, and whose personas."""

    age_group: str
    gender: str
    ethnicities: tuple[str, ...]
    participants: int
    personas: tuple[str, ...]


@dataclass(frozen=True)
class Anonymity:
    """``smallest`` is the k that the personas have: the fewest participants that share the traits of any of them."""

    k: int
    smallest: int
    personas: int
    participants: int
    rare: tuple[Rare, ...]

    @property
    def exposed(self) -> int:
        """Personas with a rare combination."""
        return sum(len(one.personas) for one in self.rare)


def anonymity(pool: Sequence[Traits], personas: Sequence[tuple[str, Traits]], k: int) -> Anonymity:
    """Hold the traits of every persona against all who took the survey.

    Args:
        pool: age group, gender and ethnicities of each participant; the personas are among them.
        personas: persona id and traits.
    """
    shared = Counter(pool)
    holders: dict[Traits, list[str]] = {}
    for identity, traits in personas:
        if shared[traits] < k:
            holders.setdefault(traits, []).append(identity)
    rare = [Rare(*traits, shared[traits], tuple(ids)) for traits, ids in holders.items()]
    return Anonymity(
        k=k,
        smallest=min((shared[traits] for _, traits in personas), default=0),
        personas=len(personas),
        participants=len(pool),
        rare=tuple(sorted(rare, key=lambda one: (one.participants, one.age_group, one.gender, one.ethnicities))),
    )


def anonymity_of_run(run: Run, k: int = USUAL_K) -> Anonymity:
    """The anonymity of a run's personas among its participants; among themselves where they were imported.

    Raises:
        IncompleteError: the stage personas is not finished.
    """
    personas = run.table("personas").to_pylist()
    file = run.folder("personas") / f"{POOL}.parquet"
    pool = pq.read_table(file, partitioning=None).to_pylist() if file.exists() else personas
    chosen = [(str(one["persona_id"]), _traits(one)) for one in personas]
    return anonymity([_traits(one) for one in pool], chosen, k)


def anonymity_of_study(study: Study, k: int = USUAL_K) -> Anonymity:
    """The same before a run has begun, from the surveys."""
    built = records.build(study.personas, study.seed)
    chosen = [(str(one["persona_id"]), _traits(one)) for one in built.personas]
    return anonymity([_traits(one) for one in built.pool], chosen, k)


def warning(found: Anonymity, judge: str) -> str | None:
    """What to know before personas are sent to an outside ``judge`` (its kind); None if nobody stands out."""
    if not found.rare:
        return None
    return (
        f"privacy: {found.exposed} of {found.personas} personas have an age group, gender and ethnicity that fewer "
        f"than {found.k} of {found.participants} participants share, and the judge ({judge}) is outside. "
        "See: modpo personas check"
    )


def _traits(one: dict[str, object]) -> Traits:
    ethnicities = one["ethnicities"] or ()
    return (
        str(one["age_group"] or NOT_STATED),
        str(one["gender"]),
        tuple(sorted(str(ethnicity).casefold() for ethnicity in ethnicities)),  # type: ignore[attr-defined]
    )
