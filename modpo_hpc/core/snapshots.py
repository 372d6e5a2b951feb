"""Whose answers the results of a run are: one judge's, and that judge one model throughout?

A study may have changed its judge, and an endpoint may put another model behind a name at any time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from modpo_hpc.core.changes import leaves
from modpo_hpc.core.identity import read_made_from
from modpo_hpc.core.marker_index import MarkerLine, read_lines
from modpo_hpc.core.markers import read_marker
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


def judges_of(run: Run, stage: str) -> list[str]:
    """A sentence for each way in which the results of ``stage`` come from different judges; none if from one."""
    asked: dict[str, dict[str, str]] = {}
    rows: Counter[str] = Counter()
    for shard in run.shard_ids(stage):
        marker = read_marker(run.folder(stage), shard)
        if marker is not None and marker.made_from:
            if marker.made_from not in asked:
                judges = read_made_from(run.root, marker.made_from).get("judges")
                asked[marker.made_from] = {name: str(value) for name, value in leaves(judges)}
            rows[marker.made_from] += marker.rows
    every = list(asked.values())
    names = [name for name in dict.fromkeys(chain(*every)) if len({one.get(name) for one in every}) > 1]
    heard: Counter[str] = Counter()
    for name, one in asked.items():
        heard[", ".join(f"{field} {one.get(field, 'not set')}" for field in names)] += rows[name]
    several = f"{stage} are of different judges: {'; '.join(f'{who} ({n:,})' for who, n in heard.items())}."
    lines = read_lines(run.root / stage, run.shard_ids(stage)).values()
    return [*([several] if names else []), *drift({stage: lines})]
