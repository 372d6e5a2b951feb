"""A rehearsal in words and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modpo_hpc.rehearsal.measure import Footprint, StageCost
from modpo_hpc.rehearsal.scaling import Prediction


@dataclass(frozen=True)
class Rehearsal:
    """All that a rehearsal found out."""

    study: str
    counts: Mapping[str, int]
    costs: Sequence[StageCost]
    run: Footprint
    logs: Footprint
    peak_files: int
    peak_bytes: int
    array_limit: int
    wall_seconds: float | None
    makespan: str
    pains: Sequence[Prediction]

    @property
    def tasks(self) -> int:
        return sum(one.shards for one in self.costs)

    @property
    def arrays(self) -> int:
        """Arrays that ``modpo submit`` hands in: one a stage, more where a stage passes the limit."""
        return sum(-(-one.shards // self.array_limit) for one in self.costs)

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            **asdict(self),
            "tasks": self.tasks,
            "arrays": self.arrays,
            "own_seconds": sum(one.own_seconds for one in self.costs),
            "stand_in_seconds": sum(one.stand_in_seconds for one in self.costs),
            "peak_memory_gb": max((one.peak_memory_gb for one in self.costs), default=0.0),
        }


def render(found: Rehearsal) -> str:
    """The report as Markdown."""
    own, stand_ins = (sum(getattr(one, name) for one in found.costs) for name in ("own_seconds", "stand_in_seconds"))
    heaviest = max(found.costs, key=lambda one: one.peak_memory_gb)
    lines = [
        f"# Rehearsal of the study {found.study}",
        "",
        "Stand-ins took the place of every model and judge, so no result here means anything. Counts, files, memory "
        "and the time in the project's own code are real.",
        "",
        ", ".join(f"{count:,} {what}" for what, count in found.counts.items()) + ".",
        "",
        "| stage | shards | rows | size | own code, all shards | stand-ins | longest shard | peak memory |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {one.stage} | {one.shards:,} | {one.rows:,} | {size(one.bytes)} | {one.own_seconds:.1f} s | "
        f"{one.stand_in_seconds:.1f} s | {one.longest_seconds:.1f} s | {one.peak_memory_gb:.2f} GB |"
        for one in found.costs
    ]
    lines += [
        "",
        f"- Scheduler: {found.tasks:,} tasks in {found.arrays} arrays of at most {found.array_limit:,}: "
        f"{found.arrays} calls of sbatch; one squeue and one sacct for each look at the run.",
        f"- Files: {found.run.files:,} in {found.run.folders:,} folders of the run, {size(found.run.bytes)}; "
        f"the fullest folder, {found.run.fullest_folder}, has {found.run.fullest:,} entries. "
        f"Logs: {found.logs.files:,} files, {size(found.logs.bytes)}.",
        f"- At the peak: {found.peak_files:,} files, {size(found.peak_bytes)}. Weights come on top: a reward model "
        "is its encoder's size, an adapter about 1% to 4% of its base model.",
        f"- Memory: {heaviest.peak_memory_gb:.2f} GB in the largest process, a shard of {heaviest.stage}.",
        f"- Time: {own:.0f} s in the project's own code and {stand_ins:.0f} s in stand-ins, over all shards"
        + (f"; {found.wall_seconds:.0f} s of wall time." if found.wall_seconds else "."),
        f"- The real study, by the speeds of the profile: {found.makespan}.",
        "",
        "## Ten and a hundred times as large",
        "",
    ]
    lines += [
        f"- {one.factor} x {one.dimension}: {one.stage} takes {', '.join(one.pains)}. {remedy(one)}"
        for one in found.pains
    ] or ["Nothing passes a limit."]
    return "\n".join(lines) + "\n"


def remedy(one: Prediction) -> str:
    """What to change so that a prediction does not come true."""
    texts = " ".join(one.pains)
    if one.dimension == "policies" and (one.factor >= 100 or one.stage == "verdicts"):
        return "Name the pairs that matter in judging.phases: not every pair of so many policies is a question."
    if one.stage in ("statistics", "report", "pairs"):
        return f"This stage is not cut by question: give it a node with memory and time (resources.{one.stage})."
    if "process" in texts or "in one shard" in texts:
        return f"Set shards.{one.stage} to about {one.factor} times what it is."
    return "Give the run a filesystem with room, and pack finished runs (modpo pack)."


def size(count: float) -> str:
    """Bytes for people."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count:.0f} B"
