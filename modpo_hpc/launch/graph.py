"""Which jobs to hand in, in which order, and what each waits for. Functions of counts and ids; no Slurm here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from modpo_hpc.errors import IncompleteError
from modpo_hpc.launch.fields import array_of
from modpo_hpc.pipeline import Stage, stage_named

Needs = Callable[[str, str], Mapping[str, Collection[str]]]
"""(stage, shard) -> need -> the shards of it that this shard reads."""


@dataclass(frozen=True)
class Work:
    """Shards of one stage to hand in together.

    ``after_jobs`` are in the queue already; ``after_shards``, each a stage and a shard, are handed in by the same
    command, before this; ``after_ended`` only have to be over, well or badly. ``again`` are those of the shards that
    are made anew although they are done.
    """

    stage: str
    shards: tuple[str, ...]
    after_jobs: tuple[str, ...]
    after_shards: tuple[tuple[str, str], ...]
    after_ended: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


Waits = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


def required(stage: str, reads: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
    """Of what a shard of ``stage`` reads, that without which it cannot begin."""
    return {need: shards for need, shards in reads.items() if need not in stage_named(stage).reads_too}


def plan_work(
    order: Sequence[Stage],
    wanted: Mapping[str, Sequence[str]],
    alive: Mapping[str, Mapping[str, str]],
    incomplete: Mapping[str, Collection[str]],
    needs: Needs,
) -> list[Work]:
    """The work to hand in so that every shard of ``wanted`` is made after all that it needs.

    Shards of one stage that wait for the same are handed in together.

    Args:
        order: all stages, in the order in which work flows.
        wanted: stage -> shards to hand in now.
        alive: stage -> shard -> job that is queued or running and can still end well.
        incomplete: stage -> shards without a fresh result.
        needs: what each shard reads.

    Raises:
        IncompleteError: something needed is neither finished, nor queued, nor handed in now.
    """
    plan = []
    for stage in order:
        together: dict[Waits, list[str]] = {}
        known: dict[int, Waits] = {}
        for shard in wanted.get(stage.name, ()):
            if shard in alive.get(stage.name, {}):
                continue
            reads = needs(stage.name, shard)
            if id(reads) not in known:
                known[id(reads)] = _waits_for(stage.name, reads, wanted, alive, incomplete)
            together.setdefault(known[id(reads)], []).append(shard)
        plan += [Work(stage.name, tuple(shards), *waits) for waits, shards in together.items()]
    return plan


def _waits_for(
    stage: str,
    reads: Mapping[str, Collection[str]],
    wanted: Mapping[str, Sequence[str]],
    alive: Mapping[str, Mapping[str, str]],
    incomplete: Mapping[str, Collection[str]],
) -> Waits:
    if unmet := unmet_needs(required(stage, reads), wanted, alive, incomplete):
        need, lacking = next(iter(unmet.items()))
        shown = ", ".join(sorted(lacking)[:5])
        raise IncompleteError(
            f"{stage} needs {need}, of which {len(lacking)} shards are neither done nor queued ({shown}). "
            f"Submit them too: leave --only out, or rerun {need} first."
        )
    jobs: dict[str, None] = {}
    new: list[tuple[str, str]] = []
    for need, shards in reads.items():
        mine = alive.get(need, {})
        jobs |= dict.fromkeys(job for shard, job in mine.items() if shard in shards)
        new += [(need, shard) for shard in wanted.get(need, ()) if shard in shards and shard not in mine]
    return tuple(jobs), tuple(new)


def unmet_needs(
    reads: Mapping[str, Collection[str]],
    wanted: Mapping[str, Collection[str]],
    alive: Mapping[str, Mapping[str, str]],
    incomplete: Mapping[str, Collection[str]],
) -> dict[str, set[str]]:
    """Need -> shards of it among ``reads`` that are neither finished, nor queued, nor handed in now."""
    lacking = {
        need: (set(shards) & set(incomplete.get(need, ()))) - set(alive.get(need, {})) - set(wanted.get(need, ()))
        for need, shards in reads.items()
    }
    return {need: shards for need, shards in lacking.items() if shards}


def dependency(jobs: Sequence[str], sizes: Mapping[str, int], kind: str = "afterok") -> str | None:
    """The ``--dependency`` of sbatch that waits until ``jobs`` have all ended well (or, ``afterany``, have ended).

    An array is named as a whole when all of its ``sizes[array]`` elements are waited for; otherwise by elements,
    since an element that has failed would keep the whole from ever being fulfilled.
    """
    arrays: dict[str, list[str]] = {}
    for job in jobs:
        arrays.setdefault(array_of(job), []).append(job)
    names: list[str] = []
    for array, members in arrays.items():
        whole = len(set(members)) == sizes.get(array, 1) or members == [array]
        names += [array] if whole else list(dict.fromkeys(members))
    return f"{kind}:{':'.join(names)}" if names else None


def split(shards: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """``shards`` in as few blocks of at most ``size`` as hold them, as even as can be."""
    blocks = -(-len(shards) // size)
    return [
        tuple(shards[block * len(shards) // blocks : (block + 1) * len(shards) // blocks]) for block in range(blocks)
    ]


def share_throttle(throttle: int, blocks: int) -> list[int]:
    """What each of ``blocks`` arrays may run at once so that together they keep to ``throttle``, one at least."""
    return [max(1, (block + 1) * throttle // blocks - block * throttle // blocks) for block in range(blocks)]
