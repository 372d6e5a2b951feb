"""A judging job: what one judge is asked, where its answers are kept, and who wants to hear how it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.tasks import Request
from modpo_hpc.llm.store import Store
from modpo_hpc.study.judging import Judge


@dataclass(frozen=True)
class JudgingJob:
    """The ``requests`` to one judge; their places in the sequence number them.

    Args:
        is_open: whether a request still has to be asked; the judgment of one that has not may stay None.
        on_judgment: hears of each judgment, by number, as it is made, in no particular order.
        on_progress: called about every second.
        check: raises when the work is to stop.
    """

    requests: Sequence[Request]
    settings: Judge
    keys: Keys
    store: Store
    is_open: Callable[[int], bool] = lambda _: True
    on_judgment: Callable[[int, Judgment], None] = lambda _, __: None
    on_progress: Callable[[Tally], None] = lambda _: None
    check: Callable[[], None] = lambda: None
