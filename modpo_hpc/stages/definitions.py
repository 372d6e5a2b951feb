"""What judging rests on, as a part of what results are made from: fields, and the words of criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modpo_hpc.core.contents import hash_of

if TYPE_CHECKING:
    from modpo_hpc.study import Study

ASKING = ("panel", "-criteria.files", "-judge", "-models.dtype")
"""Fields that every stage reads that asks judges."""


def definitions(study: Study, names: Sequence[str]) -> dict[str, Any]:
    """Criterion -> hash of its words, whatever file they are in."""
    from modpo_hpc.judging.criteria import load_criteria

    return {f"criterion {one.name}": hash_of(asdict(one)) for one in load_criteria(study.criteria.files, names)}
