"""Whether the results of one stage were made by one state of the software."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modpo_hpc.core.marker_index import read_lines
from modpo_hpc.pipeline import STAGES

if TYPE_CHECKING:
    from modpo_hpc.run import Run


def different_code(codes: Sequence[str]) -> list[str]:
    """A sentence where the shards of a stage were made by different code (digests of the package's source)."""
    count = Counter(code for code in codes if code)
    if len(count) < 2:
        return []
    parts = ", ".join(f"{number} by {code}" for code, number in count.most_common())
    return [f"made by different code ({parts}); modpo explain tells of each shard"]


def stages_of_different_code(run: Run) -> list[str]:
    """The stages of ``run`` whose results were made by different code, a sentence each."""
    found = []
    for stage in STAGES:
        lines = read_lines(run.root / stage.name, run.shard_ids(stage.name))
        found += [f"{stage.name}: {one}" for one in different_code([line.code for line in lines.values()])]
    return found
