"""A stop: when enough was heard of some comparisons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from modpo_hpc.judging.opinions import Judgment


class Stop(ABC):
    """Says which comparisons still have to be asked. It does not depend on the pace: :meth:`needed` has the word."""

    @abstractmethod
    def anew(self) -> Stop:
        """The same stop, before it has heard anything."""

    @abstractmethod
    def is_open(self, number: int) -> bool:
        """Whether comparison ``number`` still has to be asked."""

    @abstractmethod
    def hear(self, number: int, judgment: Judgment) -> None:
        """Take in the verdicts of comparison ``number``."""

    def needed(self, judgments: Sequence[Judgment | None]) -> list[Judgment | None]:
        """``judgments`` without those past the point at which, heard in their order, enough was heard.

        Calls that were out at that moment have come back all the same; without them the result does not depend on
        pace.
        """
        stop = self.anew()
        kept: list[Judgment | None] = []
        for number, judgment in enumerate(judgments):
            use = stop.is_open(number)
            kept.append(judgment if use else None)
            if use and judgment is not None:
                stop.hear(number, judgment)
        return kept
