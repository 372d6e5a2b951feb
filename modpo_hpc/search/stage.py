"""A stage whose shards are trials: ``ITEM.NUMBER``, one search for each item (a criterion, a policy)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from optuna.distributions import BaseDistribution

from modpo_hpc.core.identity import inputs_of
from modpo_hpc.core.scratch import scratch_folder
from modpo_hpc.run import Run, Shard
from modpo_hpc.search.plan import Objective, SearchPlan, Trial
from modpo_hpc.search.search import Search


class Searched(Protocol):
    """The part of a study's section that says how a search goes; its ranges are the section's own."""

    @property
    def trials(self) -> int: ...
    @property
    def startup(self) -> int: ...
    @property
    def wave(self) -> int: ...
    @property
    def prune_after(self) -> int | None: ...
    @property
    def retries(self) -> int: ...


def item_of(shard: Shard) -> str:
    """What the search of ``shard`` is about."""
    return shard.id.rpartition(".")[0]


def run_trial(run: Run, shard: Shard, search: Searched, space: Mapping[str, BaseDistribution], do: Objective) -> Trial:
    """The trial that ``shard`` stands for, computed by ``do`` unless another worker has done so.

    All trials of an item share one journal. The search belongs to what its trials are made from, and to nothing else.
    """
    stage, item = shard.stage.name, item_of(shard)
    plan = SearchPlan(
        name=f"{item} {shard.made_from}",
        space=space,
        trials=search.trials,
        seed=run.seed(stage, item),
        startup=search.startup,
        wave=search.wave,
        prune_after=search.prune_after,
        retries=search.retries,
    )
    journal = run.folder(stage) / "search" / f"{item}.journal"
    return Search(journal, plan, shard.check).run(int(shard.id.rpartition(".")[2]), do)


@contextmanager
def folder_of_trial(run: Run, shard: Shard, number: int) -> Iterator[Path]:
    """Where trial ``number`` of the search of ``shard`` keeps its checkpoints, whichever shard computes it."""
    name = f"{item_of(shard)}.{number}"
    if name == shard.id:
        yield shard.scratch
        return
    with scratch_folder(run.folder(shard.stage.name), name, inputs_of(shard.made_from, name)) as folder:
        yield folder
