"""A shard's groups, completed one after the other by whatever engine there is, and saved after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from modpo_hpc.generation.records import Completion, Request
from modpo_hpc.run import Shard


class Engine(Protocol):
    """Makes a text for every request of a group, in any order of work."""

    def complete(self, requests: Sequence[Request], on_done: Callable[[int], None]) -> list[Completion]:
        """Completions in the order of ``requests``; ``on_done`` hears how many are finished."""
        ...


def complete_groups(
    shard: Shard,
    groups: Sequence[Sequence[Request]],
    open_engine: Callable[[], AbstractContextManager[Engine]],
) -> list[tuple[Request, Completion]]:
    """Complete every group of this shard, saving after each; what an earlier attempt saved is not made again.

    The engine is opened only when something is left to make. Returns pairs sorted by question and item.
    """
    total = sum(len(group) for group in groups)
    with shard.journal("completions.jsonl") as journal:
        saved = {row["group"]: row["completions"] for row in journal.rows}
        left = [number for number in range(len(groups)) if number not in saved]
        done = total - sum(len(groups[number]) for number in left)
        shard.progress(done, total, "texts")
        if left:
            with open_engine() as engine:
                for number in left:
                    shard.check()
                    made = engine.complete(groups[number], _report(shard, done, total))
                    saved[number] = [one.as_row() for one in made]
                    journal.append([{"group": number, "completions": saved[number]}])
                    done += len(made)
                    shard.progress(done, total, "texts")
    pairs = [
        (request, Completion(**row))
        for number, group in enumerate(groups)
        for request, row in zip(group, saved[number], strict=True)
    ]
    return sorted(pairs, key=lambda pair: (pair[0].question_id, pair[0].id))


def _report(shard: Shard, before: int, total: int) -> Callable[[int], None]:
    return lambda finished: shard.progress(before + finished, total, "texts")
