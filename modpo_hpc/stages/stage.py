"""What a stage is: everything that the rest of the house must know of it stands on this object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modpo_hpc.stages.workload import Counts, WorkerSpeeds, Workload, no_work
from modpo_hpc.study.evaluation import Resources

if TYPE_CHECKING:
    from modpo_hpc.study import Study

ALL = ("all",)

Needs = Mapping[str, "tuple[str, ...] | None"]
"""Stage -> the shards of it that are read; None: all of them."""
Shards = Callable[["Study"], "tuple[str, ...]"]


def before_dot(shard: str) -> str:
    """The item of a shard whose id ends in a block or a number: ``DPO.3`` -> ``DPO``."""
    return shard.rpartition(".")[0]


@dataclass(frozen=True)
class Growth:
    """By which power the work of a stage grows with the questions, the personas and the policies of a study.

    ``shards`` is the power by which the number of its shards grows with the policies; all else makes shards longer.
    """

    questions: int = 0
    personas: int = 0
    policies: int = 0
    shards: int = 0


@dataclass(frozen=True)
class Stage:
    """A stage makes one kind of record. ``name`` is the noun and the folder, ``verb`` the script in ``jobs/``.

    Everything here is a function of the study alone, so that a plan needs no data. What a shard is made from follows
    from its *item*, the part of its id that decides what it reads (a criterion, a policy, a pair of policies; nothing
    where shards are blocks of questions).

    Attributes:
        needs: stages whose results are read; in the order of the flow.
        shards: ids of the shards, in their canonical order.
        item: id of a shard -> its item.
        reads: item -> fields of the study that the recipe reads, dotted; they are part of a shard's identity. A field
            with a ``-`` before it may be read and is not: what counts of it is in ``contents``, or nothing does.
        needs_of: item -> of each stage in ``needs``, the shards that are read. All, where it is not given.
        reads_too: stages whose results are read where they are there, and whose absence is no hindrance.
        contents: item -> JSON values that count beside the fields: contents of files, definitions of criteria.
        asks_judges: the judges that are really asked are part of the identity.
        judges_may_differ: whether a result of a judge that is asked no more still counts.
        in_blocks: the id of a shard ends in the number of its block of questions.
        default: what a shard takes where the study does not say.
        placed_like: the stage whose resources and place in a cluster's profile it takes where none are named for it.
        workload: how much work all its shards are.
        growth: how that grows with the study.
        rehearsal_gb: memory of a shard in a rehearsal.
        in_ranks: the recipe may run in several processes at once that make one shard together.
        on_one_base: its shards put adapters on the base model; one process can make several and keep the model.
        on_one_server: where a server answers, one can answer for several shards, with the adapters of all.
        on_ray: its judges can be asked from all nodes of a Ray cluster.
        uses_models: its processes load torch.
        version: rises when the recipe makes something else from the same; older results are then stale.
    """

    name: str
    verb: str
    needs: tuple[str, ...]
    shards: Shards
    reads: Callable[[str], tuple[str, ...]]
    item: Callable[[str], str] = lambda _: ""
    needs_of: Callable[[Study, str], Needs] | None = None
    contents: Callable[[Study, str], dict[str, Any]] = lambda _, __: {}
    reads_too: tuple[str, ...] = ()
    asks_judges: bool = False
    judges_may_differ: Callable[[Study], bool] = lambda _: False
    in_blocks: bool = False
    default: Resources = Resources()
    default_blocks: int = 4
    in_ranks: bool = False
    on_one_base: bool = False
    on_one_server: bool = False
    on_ray: bool = False
    uses_models: bool = False
    placed_like: str | None = None
    workload: Callable[[Study, Counts, WorkerSpeeds], Workload] = no_work
    growth: Growth = Growth()
    rehearsal_gb: float = 1.0
    version: int = 1

    def resources(self, study: Study) -> Resources:
        """What one shard takes: the study's word, or the default."""
        return study.resources.get(self.name) or study.resources.get(self.placed_like or "") or self.default

    def blocks(self, study: Study) -> int:
        """Number of blocks that the questions are cut into."""
        return study.shards.get(self.name, self.default_blocks)

    def blocks_of_items(self, study: Study, *items: str) -> tuple[str, ...]:
        """The shards of ``items``: each is cut into blocks of questions."""
        return tuple(f"{item}.{block}" for item in items for block in range(self.blocks(study)))

    def needs_of_item(self, study: Study, item: str) -> dict[str, tuple[str, ...] | None]:
        """Of each stage that a shard of ``item`` reads: its shards, or None for all."""
        needs = dict.fromkeys(self.needs) if self.needs_of is None else dict(self.needs_of(study, item))
        return {**dict.fromkeys(self.reads_too), **needs}

    def needed_stages(self, study: Study) -> set[str]:
        """The stages that any shard of this one cannot do without."""
        items = dict.fromkeys(self.item(shard) for shard in self.shards(study))
        return {need for item in items for need in self.needs_of_item(study, item)} - set(self.reads_too)

    def fields_of_item(self, item: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Fields of the study that are part of the identity of a shard of ``item``, and all that it may read."""
        reads = self.reads(item)
        return tuple(one for one in reads if not one.startswith("-")), tuple(one.removeprefix("-") for one in reads)


def fields(*names: str) -> Callable[[str], tuple[str, ...]]:
    """``reads`` of a stage whose shards all read the same."""
    return lambda _: names


def below(section: str, *names: str) -> tuple[str, ...]:
    """The fields ``names`` of a section of the study, dotted."""
    return tuple(f"{section}.{name}" for name in names)


def blocks_of(name: str, default: int = 4) -> Shards:
    """``shards`` of the stage ``name`` whose shards are blocks of questions and nothing else."""
    return lambda study: tuple(str(block) for block in range(study.shards.get(name, default)))


def whole(_: Study) -> tuple[str, ...]:
    return ALL
