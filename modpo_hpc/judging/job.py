"""A judging job: what one judge is asked, where its answers are kept, and who wants to hear how it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.llm.store import Store
from modpo_hpc.study.judging import Judge


@dataclass(frozen=True)
class JudgingJob:
    """The ``requests`` to one judge; their places in the sequence number them.

    Args:
        rounds: number of requests of each round: none is asked before all those of earlier rounds were judged or are
            no longer open. One round of all, if empty.
        is_open: whether a request still has to be asked; the judgment of one that has not may stay None.
        on_judgment: hears of each judgment, by number, as it is made, in no particular order.
        on_progress: called about every second.
        check: raises when the work is to stop.
    """

    requests: Sequence[JudgeRequest]
    settings: Judge
    keys: Keys
    store: Store
    rounds: Sequence[int] = ()
    is_open: Callable[[int], bool] = lambda _: True
    on_judgment: Callable[[int, Judgment], None] = lambda _, __: None
    on_progress: Callable[[Tally], None] = lambda _: None
    check: Callable[[], None] = lambda: None

    def batches(self, size: int) -> Iterator[range]:
        """The numbers of the requests, at most ``size`` at once, no batch in more than one round."""
        start = 0
        for length in self.rounds or (len(self.requests),):
            for first in range(start, start + length, size):
                yield range(first, min(first + size, start + length))
            start += length

    def begins_round(self, number: int) -> bool:
        """Whether request ``number`` is the first of a round."""
        return number in accumulate(self.rounds, initial=0)
