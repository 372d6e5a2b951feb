"""A shard's groups, completed by whatever engine there is, and saved as each is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Protocol

from modpo_hpc.generation.records import Completion, GenerationRequest
from modpo_hpc.run import Shard


class GenerationEngine(Protocol):
    """Makes a text for every request, in any order of work."""

    has_queue: bool
    """Whether it is best given all there is at once. Others are given one group after another: which texts are
    decoded together is a part of their bits."""

    def complete(
        self,
        requests: Sequence[GenerationRequest],
        on_done: Callable[[int], None],
        on_text: Callable[[Completion], None],
    ) -> list[Completion]:
        """Completions in the order of ``requests``; ``on_done`` hears how many are finished, ``on_text`` gets each."""
        ...


def complete_groups(
    shard: Shard,
    groups: Sequence[Sequence[GenerationRequest]],
    open_engine: Callable[[], AbstractContextManager[GenerationEngine]],
    kept_in: str = "completions.jsonl",
) -> list[tuple[GenerationRequest, Completion]]:
    """Complete every group of this shard, saving each in the journal ``kept_in``; what is there is not made again.

    The engine is opened only when something is left to make. Returns pairs sorted by question and item.
    """
    total = sum(len(group) for group in groups)
    with shard.journal(kept_in) as journal:
        saved = {row["group"]: row["completions"] for row in journal.rows}
        left = [number for number in range(len(groups)) if number not in saved]
        done = total - sum(len(groups[number]) for number in left)
        shard.progress(done, total, "texts")
        if left:
            with open_engine() as engine:
                made: dict[str, Completion] = {}
                group_of = {one.id: number for number in left for one in groups[number]}
                missing = {number: len(groups[number]) for number in left}

                def keep(text: Completion) -> None:
                    made[text.id], number = text, group_of[text.id]
                    missing[number] -= 1
                    if not missing[number]:
                        saved[number] = [asdict(made[one.id]) for one in groups[number]]
                        journal.append([{"group": number, "completions": saved[number]}])

                for part in [left] if engine.has_queue else [[number] for number in left]:
                    shard.check()
                    requests = [one for number in part for one in groups[number]]
                    engine.complete(requests, _report(shard, done, total), keep)
                    done += len(requests)
                    shard.progress(done, total, "texts")
    pairs = [
        (request, Completion(**row))
        for number, group in enumerate(groups)
        for request, row in zip(group, saved[number], strict=True)
    ]
    return sorted(pairs, key=lambda pair: (pair[0].question_id, pair[0].id))


def _report(shard: Shard, before: int, total: int) -> Callable[[int], None]:
    return lambda finished: shard.progress(before + finished, total, "texts")
