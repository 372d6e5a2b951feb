"""Families of policies that differ in their weights alone: one line of the study stands for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from modpo_hpc.section import NAME, Section, no_repeats

_MOST = 500
_OVER = ("criteria", "sources")


class Sweep(Section):
    """A family of policies, one for each of a grid of weights: ordinary policies, named after their weights.

    ``{name: MODPO, method: modpo, criteria: [empathy, safety], weights: 9}`` is MODPO_90_10, MODPO_80_20, ...,
    MODPO_10_90. Fields beside these belong to each policy: ``training``, ``margins``, whatever its method knows.
    """

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="of the family; its policies are called after it and their weights in per cent")
    method: str = Field(description="of every policy of the family")
    criteria: tuple[str, ...] = Field((), description="that the weights are of, the anchor first")
    sources: tuple[str, ...] = Field((), description="in place of criteria, for soups: the policies that are weighted")
    weights: int | tuple[tuple[float, ...], ...] = Field(
        description="how many points of an even grid of weights that sum to one, or the points themselves"
    )
    ends: bool = Field(False, description="the grid has weights of zero, too, and so its ends: one criterion alone")

    _no_repeats = field_validator("criteria", "sources")(no_repeats)

    @property
    def over(self) -> tuple[str, ...]:
        """What the weights are of: criteria, or policies."""
        return self.criteria or self.sources

    @property
    def points(self) -> tuple[tuple[float, ...], ...]:
        """The weights of each policy, in the order of ``over``; the first entry falls from point to point."""
        if not isinstance(self.weights, int):
            return self.weights
        return tuple(_lattice(self.weights, len(self.over), self.ends))

    @property
    def policies(self) -> dict[str, dict[str, Any]]:
        """Name -> policy, as a study would write it."""
        field = "criteria" if self.criteria else "sources"
        rest = {"method": self.method, **(self.model_extra or {})}
        return {
            f"{self.name}_{label}": {**rest, field: dict(zip(self.over, point, strict=True))}
            for label, point in zip(_labels(self.points), self.points, strict=True)
        }

    @model_validator(mode="after")
    def _a_family(self) -> Sweep:
        if not NAME.fullmatch(self.name) or len(self.name) > 40:
            raise ValueError(
                f"name: {self.name!r} becomes a part of file names; it holds letters, digits, '_' and '-' only, at "
                "most 40, and begins with a letter or digit"
            )
        if bool(self.criteria) == bool(self.sources):
            raise ValueError("a sweep is over criteria (a list of names) or over sources (policies of a soup): one")
        if len(self.over) < 2:
            raise ValueError("a sweep is over two names at least")
        if isinstance(self.weights, int):
            _refuse_uneven(self.weights, len(self.over), self.ends)
            return self
        if not self.weights:
            raise ValueError("weights: give one point at least, or how many there are to be")
        for point in self.weights:
            if len(point) != len(self.over) or min(point) < 0 or not any(point):
                raise ValueError(
                    f"weights: {list(point)} is no point; give {len(self.over)} weights, zero or more, one above zero"
                )
        if len(set(_labels(self.weights))) < len(self.weights):
            raise ValueError("weights: a point stands there twice")
        return self


def expanded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``alignment`` with the policies of its sweeps written out among the others.

    Raises:
        ValueError: a policy of a sweep has the name of another policy.
    """
    policies = dict(raw.get("policies") or {})
    for sweep in _sweeps(raw):
        for name, policy in sweep.policies.items():
            if name in policies and _differs(policies[name], policy):
                raise ValueError(
                    f"the sweep {sweep.name} makes a policy {name}, and policies has another of that name; rename one"
                )
            policies.setdefault(name, policy)
    return {**raw, "policies": policies}


def with_families(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A raw study in which a phase may name a family: its policies stand there instead."""
    alignment, judging = raw.get("alignment"), raw.get("judging")
    if not isinstance(alignment, Mapping) or not isinstance(judging, Mapping):
        return dict(raw)
    try:
        families = {sweep.name: tuple(sweep.policies) for sweep in _sweeps(alignment)}
    except ValueError:
        return dict(raw)  # the section itself says what is wrong
    phases = judging.get("phases")
    if not families or not isinstance(phases, Mapping):
        return dict(raw)
    named = {name: _named(phase, families) for name, phase in phases.items()}
    return {**raw, "judging": {**judging, "phases": named}}


def _named(phase: Any, families: Mapping[str, Sequence[str]]) -> Any:
    listed = phase.get("policies") if isinstance(phase, Mapping) else None
    if not isinstance(listed, (list, tuple)):
        return phase
    return {**phase, "policies": [name for one in listed for name in families.get(str(one), (one,))]}


def _sweeps(raw: Mapping[str, Any]) -> list[Sweep]:
    return [one if isinstance(one, Sweep) else Sweep.model_validate(one) for one in raw.get("sweep") or ()]


def _differs(there: Any, policy: Mapping[str, Any]) -> bool:
    """Whether ``there`` says something else than ``policy``; what only its method's defaults add is no difference."""
    known = there if isinstance(there, Mapping) else there.model_dump()
    return any(known.get(field) != value for field, value in policy.items())


def _lattice(count: int, names: int, ends: bool) -> Iterator[tuple[float, ...]]:
    """The simplex lattice (Scheffe 1958) of ``count`` points: all multiples of 1/steps, above zero without ``ends``."""
    steps = next(one for one in range(1, _MOST + names + 1) if _size(one, names, ends) == count)
    shift = 1 if ends else 0
    inner = steps + names * shift
    for cuts in reversed(list(combinations(range(1, inner), names - 1))):
        edges = (0, *cuts, inner)
        yield tuple((high - low - shift) / steps for low, high in pairwise(edges))


def _size(steps: int, names: int, ends: bool) -> int:
    return comb(steps + names - 1, names - 1) if ends else comb(steps - 1, names - 1)


def _refuse_uneven(count: int, names: int, ends: bool) -> None:
    if not 1 <= count <= _MOST:
        raise ValueError(f"weights: a grid has 1 to {_MOST} points")
    sizes = sorted({_size(steps, names, ends) for steps in range(1, _MOST + names + 1)} - {0})
    if count not in sizes:
        near = [one for one in sizes if one < count][-1:] + [one for one in sizes if one > count][:1]
        raise ValueError(
            f"weights: an even grid over {names} names cannot have {count} points; next are "
            f"{' and '.join(map(str, near))}, or list the points"
        )


def _labels(points: Sequence[Sequence[float]]) -> list[str]:
    """``90_10``: the weights of each point as shares, in per cent, or in smaller parts where two would be the same."""
    labels: list[str] = []
    for digits in (2, 3, 4, 6):
        labels = ["_".join(str(round(10**digits * one / sum(point))) for one in point) for point in points]
        if len(set(labels)) == len(labels):
            break
    return labels
