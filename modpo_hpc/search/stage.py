"""A stage whose shards are trials: ``ITEM.NUMBER``, one search for each item (a criterion, a policy)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution

from modpo_hpc.core.identity import inputs_of
from modpo_hpc.core.scratch import scratch_folder
from modpo_hpc.run import Run, Shard
from modpo_hpc.search.plan import Objective, SearchPlan, Trial
from modpo_hpc.search.search import Search

if TYPE_CHECKING:
    from modpo_hpc.study.alignment import PolicySearch
    from modpo_hpc.study.rewards import RewardSearch


def item_of(shard: Shard) -> str:
    """What the search of ``shard`` is about."""
    return shard.id.rpartition(".")[0]


def best_complete(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The complete trial of the highest accuracy, then the lowest loss, then the first, of the rows of an item."""
    complete = [row for row in rows if row["state"] == "complete"]
    return min(complete, key=lambda row: (-row["accuracy"], row["loss"], row["trial"]))


def run_trial(
    run: Run, shard: Shard, search: PolicySearch | RewardSearch, space: Mapping[str, BaseDistribution], do: Objective
) -> Trial:
    """The trial that ``shard`` stands for, computed by ``do`` unless another worker has done so.

    All trials of an item share one journal. The search belongs to what its trials are made from, and to nothing else.
    """
    stage, item = shard.stage.name, item_of(shard)
    plan = SearchPlan(
        name=f"{item} {shard.made_from}",
        space=space,
        seed=run.seed(stage, item),
        **search.model_dump(include={"trials", "startup", "wave", "prune_after", "retries"}),
    )
    journal = run.folder(stage) / "search" / f"{item}.journal"
    return Search(journal, plan, shard.check).run(int(shard.id.rpartition(".")[2]), do)


@contextmanager
def folder_of_trial(run: Run, shard: Shard, number: int) -> Iterator[Path]:
    """Where trial ``number`` of the search of ``shard`` keeps its checkpoints, whichever shard computes it."""
    name = f"{item_of(shard)}.{number}"
    own, stage_folder = nullcontext(shard.scratch), run.folder(shard.stage.name)
    made_from = inputs_of(shard.made_from, name)
    with own if name == shard.id else scratch_folder(stage_folder, name, made_from) as folder:
        yield folder
