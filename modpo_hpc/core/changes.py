"""What becomes of each shard when a run follows a study, and why: shown before anything happens, and afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modpo_hpc.core.identity import ABSENT, Inventory, read_made_from
from modpo_hpc.core.markers import MARKERS, read_marker
from modpo_hpc.core.reuse import Shelves, shelves_of
from modpo_hpc.pipeline import STAGES

if TYPE_CHECKING:
    from modpo_hpc.run import Run

Fate = Literal["kept", "back", "adopted", "again", "new", "gone"]
FATES: Mapping[Fate, str] = {
    "kept": "stay",
    "back": "come back from what was set aside",
    "adopted": "are taken from other runs",
    "again": "are made again, the present result is set aside",
    "new": "are made for the first time",
    "gone": "belong to this study no more and stay where they are",
}
SHOWN = 4


@dataclass(frozen=True)
class ShardChange:
    """What becomes of one shard; ``why`` in words, most telling first (empty where it stays)."""

    stage: str
    shard: str
    fate: Fate
    why: tuple[str, ...] = ()


def changes(run: Run, others: Sequence[Path] = ()) -> list[ShardChange]:
    """What becomes of every shard of ``run`` under the study that it is given (see ``Run.envisage``).

    A shard that reads one that is made again counts as made again; where that one comes out the same, it will stay.
    """
    shelves = Shelves(run, [*shelves_of(run).others, *others])
    inventory = run.inventory(shelves)
    found: list[ShardChange] = []
    for stage in (one.name for one in STAGES):
        wanted = run.shard_ids(stage)
        finished = {path.stem for path in (run.folder(stage) / MARKERS).glob("*.json")}
        found += [_change(inventory, shelves, stage, shard) for shard in wanted]
        found += [ShardChange(stage, shard, "gone") for shard in sorted(finished.difference(wanted))]
    return found


def _change(inventory: Inventory, shelves: Shelves, stage: str, shard: str) -> ShardChange:
    if inventory.fresh(stage, shard):
        return ShardChange(stage, shard, "kept")
    inputs = inventory.inputs(stage, shard)
    if inputs is not None and (found := shelves.look(stage, shard, inputs)) is not None:
        return ShardChange(stage, shard, "back" if found.run == inventory.run.root else "adopted", (str(found.run),))
    if inventory.line(stage, shard) is None:
        return ShardChange(stage, shard, "new")
    return ShardChange(stage, shard, "again", tuple(why_stale(inventory, stage, shard)))


def why_stale(inventory: Inventory, stage: str, shard: str) -> list[str]:
    """What is different between what the result of ``shard`` was made from and what it would be made from now."""
    marker = read_marker(inventory.run.folder(stage), shard)
    now = inventory.made_from(stage, shard)
    before = {} if marker is None else read_made_from(inventory.run.root, marker.made_from)
    if not before:
        return ["what it was made from was not written down (an earlier version of the software)"]
    return list(differences_of(before, now.document))


def differences_of(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Two documents of what a shard is made from, compared: causes first, then what they brought about upstream."""
    if before.get("recipe") != now.get("recipe"):
        yield f"the recipe: {before.get('recipe')} -> {now.get('recipe')}"
    for section in ("fields", "contents", "judges", "blocks"):
        left, right = dict(leaves(before.get(section))), dict(leaves(now.get(section)))
        for name in sorted(left.keys() | right.keys()):
            if left.get(name, ABSENT) != right.get(name, ABSENT):
                yield f"{_called(section, name)}: {left.get(name, ABSENT)} -> {right.get(name, ABSENT)}"
    left, right = before.get("needs", {}), now.get("needs", {})
    for stage in [*right, *(one for one in left if one not in right)]:
        old, new = left.get(stage, {}), right.get(stage, {})
        if old == new:
            continue
        other = [shard for shard in new if old.get(shard) != new[shard]]
        again = [shard for shard in other if new[shard] == ABSENT]
        if again:
            yield f"it reads {stage} {_some(again)}, to be made again"
        elif other:
            yield f"it reads {stage} {_some(other)}, with another result or not read before"
        else:
            yield f"it read more of {stage} before"


def _called(section: str, name: str) -> str:
    called = {"contents": f"the content of {name}", "judges": f"the judge that is asked, {name}"}
    return called.get(section, name or section)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The single values in a document, each with the names on the way to it, joined by dots."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(one, Mapping) for one in tree):
        for number, value in enumerate(tree):
            yield from leaves(value, f"{prefix}.{number}" if prefix else str(number) if len(tree) > 1 else "")
    elif tree is not None:
        yield prefix, tree


def counted(found: Sequence[ShardChange]) -> dict[Fate, int]:
    """How many shards share each fate; those of none are left out."""
    count = Counter(one.fate for one in found)
    return {fate: count[fate] for fate in FATES if count[fate]}


def causes(found: Sequence[ShardChange]) -> dict[str, list[ShardChange]]:
    """The first reason of what is made again -> those that are, in the order of the flow.

    A reason that is itself a consequence (a need that is made again) is left out where there is another.
    """
    grouped: dict[str, list[ShardChange]] = {}
    for one in found:
        if one.fate == "again":
            own = [why for why in one.why if not why.startswith("it read")]
            grouped.setdefault(own[0] if own else "they read what is made again", []).append(one)
    return grouped
