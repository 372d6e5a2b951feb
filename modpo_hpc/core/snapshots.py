"""Whether each judge of a run was one model throughout: an endpoint may put another behind a name at any time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from modpo_hpc.core.marker_index import MarkerLine, read_lines
from modpo_hpc.pipeline import STAGES

if TYPE_CHECKING:
    from modpo_hpc.run import Run


def drift(lines: Mapping[str, Iterable[MarkerLine]]) -> list[str]:
    """A sentence for each judge whose answers come from several snapshots, from the lines of each stage."""
    heard: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for stage, of_stage in lines.items():
        for line in of_stage:
            for judge, counts in line.snapshots.items():
                for model, judgments in counts.items():
                    heard[judge][model][stage] += judgments
    return [
        f"judge {judge} answered as several models: "
        + "; ".join(
            f"{model} ({', '.join(f'{count:,} of {stage}' for stage, count in stages.items())})"
            for model, stages in sorted(models.items())
        )
        + ". judge.snapshot holds it to one."
        for judge, models in heard.items()
        if len(models) > 1
    ]


def drift_of_judges(run: Run) -> list[str]:
    """The same of a run as it stands."""
    asked = [stage.name for stage in STAGES if stage.asks_judges]
    return drift({name: read_lines(run.root / name, run.shard_ids(name)).values() for name in asked})
