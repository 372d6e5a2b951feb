"""Which jobs to hand in, in which order, and what each waits for. Functions of counts and ids; no Slurm here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modpo_hpc.errors import IncompleteError
from modpo_hpc.pipeline import Stage, stage_named


@dataclass(frozen=True)
class Work:
    """Shards of one stage to hand in together.

    ``after_jobs`` are in the queue already; ``after_stages`` are handed in by the same command, before this.
    """

    stage: str
    shards: tuple[str, ...]
    after_jobs: tuple[str, ...]
    after_stages: tuple[str, ...]


def plan_work(
    order: Sequence[Stage],
    wanted: Mapping[str, Sequence[str]],
    alive: Mapping[str, Mapping[str, str]],
    incomplete: Mapping[str, Sequence[str]],
    shard_counts: Mapping[str, int],
) -> list[Work]:
    """The work to hand in so that every shard of ``wanted`` is made after all that it needs.

    Args:
        order: all stages, in the order in which work flows.
        wanted: stage -> shards to hand in now.
        alive: stage -> shard -> job that is queued or running and can still end well.
        incomplete: stage -> shards without a fresh result.
        shard_counts: stage -> number of its shards.

    Raises:
        IncompleteError: something needed is neither finished, nor queued, nor handed in now.
    """
    plan = []
    for stage in order:
        chosen = tuple(shard for shard in wanted.get(stage.name, ()) if shard not in alive.get(stage.name, {}))
        if not chosen:
            continue
        jobs: list[str] = []
        stages: list[str] = []
        if unmet := unmet_needs(stage, wanted, alive, incomplete, shard_counts):
            need, lacking = next(iter(unmet.items()))
            shown = ", ".join(sorted(lacking)[:5])
            raise IncompleteError(
                f"{stage.name} needs {need}, of which {len(lacking)} shards are neither done nor queued ({shown}). "
                f"Submit them too: leave --only out, or rerun {need} first."
            )
        for need in _needs(stage, shard_counts):
            mine = alive.get(need, {})
            jobs += mine.values()
            if any(shard not in mine for shard in wanted.get(need, ())):
                stages.append(need)
        plan.append(Work(stage.name, chosen, tuple(dict.fromkeys(jobs)), tuple(stages)))
    return plan


def unmet_needs(
    stage: Stage,
    wanted: Mapping[str, Sequence[str]],
    alive: Mapping[str, Mapping[str, str]],
    incomplete: Mapping[str, Sequence[str]],
    shard_counts: Mapping[str, int],
) -> dict[str, set[str]]:
    """Need of ``stage`` -> its shards that are neither finished, nor queued, nor handed in now (see ``plan_work``)."""
    lacking = {
        need: set(incomplete.get(need, ())) - set(alive.get(need, {})) - set(wanted.get(need, ()))
        for need in _needs(stage, shard_counts)
    }
    return {need: shards for need, shards in lacking.items() if shards}


def dependency(jobs: Sequence[str], sizes: Mapping[str, int]) -> str | None:
    """The ``--dependency`` of sbatch that waits until ``jobs`` have all ended well.

    An array is named as a whole when all of its ``sizes[array]`` elements are waited for; otherwise by elements,
    since an element that has failed would keep the whole from ever being fulfilled.
    """
    arrays: dict[str, list[str]] = {}
    for job in jobs:
        arrays.setdefault(job.partition("_")[0], []).append(job)
    names: list[str] = []
    for array, members in arrays.items():
        whole = len(set(members)) == sizes.get(array, 1) or members == [array]
        names += [array] if whole else list(dict.fromkeys(members))
    return f"afterok:{':'.join(names)}" if names else None


def split(shards: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """``shards`` in as few blocks of at most ``size`` as hold them, as even as can be."""
    blocks = -(-len(shards) // size)
    return [
        tuple(shards[block * len(shards) // blocks : (block + 1) * len(shards) // blocks]) for block in range(blocks)
    ]


def share_throttle(throttle: int, blocks: int) -> list[int]:
    """What each of ``blocks`` arrays may run at once so that together they keep to ``throttle``, one at least."""
    return [max(1, (block + 1) * throttle // blocks - block * throttle // blocks) for block in range(blocks)]


def downstream(stage: str, order: Sequence[Stage]) -> list[str]:
    """Every stage that rests on ``stage``, in the order in which work flows."""
    found = {stage}
    for one in order:
        if found & set(one.needs):
            found.add(one.name)
    return [one.name for one in order if one.name in found and one.name != stage]


def _needs(stage: Stage, shard_counts: Mapping[str, int]) -> list[str]:
    """What ``stage`` waits for: its needs, and what they need where they have no shards in this study."""
    needs: list[str] = []
    for need in stage.needs:
        needs += [need] if shard_counts[need] else _needs(stage_named(need), shard_counts)
    return list(dict.fromkeys(needs))
