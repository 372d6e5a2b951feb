"""Exact stop: a question on which the rest of the votes can change nothing need not be judged further.

With n judges a criterion is decided once the lead of one side is larger than the number of judges still to be heard,
ties and unparsed answers included among those heard. The winner is then that of all n verdicts, provably. Vote
margins are lower bounds, and the two orders of showing need no longer balance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.stop import Stop
from modpo_hpc.judging.tables import VerdictPlace, policy_of


class ExactStop(Stop):
    """Which comparisons of a shard still have to be asked, as verdicts come in.

    Args:
        places: of all comparisons, in the order in which they are asked: one judge after the other.
        criteria: number of criteria of a call; a question is decided, for this call, when each of them is.
    """

    def __init__(self, places: Sequence[VerdictPlace], criteria: int) -> None:
        self._places, self._criteria = places, criteria
        asked = [(place.question_id, place.criteria) for place in places]
        names = {question: row for row, question in enumerate(dict.fromkeys(asked))}
        self._row = [names[one] for one in asked]
        self._remaining = np.bincount(self._row, minlength=len(names)) if places else np.zeros(0, dtype=np.int64)
        self._lead = np.zeros((len(names), criteria), dtype=np.int64)

    def anew(self) -> ExactStop:
        return ExactStop(self._places, self._criteria)

    def is_open(self, number: int) -> bool:
        """Whether comparison ``number`` can still change a winner."""
        row = self._row[number]
        return bool((np.abs(self._lead[row]) <= self._remaining[row]).any())

    def hear(self, number: int, judgment: Judgment) -> None:
        row = self._row[number]
        self._remaining[row] -= 1
        for criterion, opinion in enumerate(judgment.opinions):
            winner = policy_of(opinion, self._places[number].a_first)
            self._lead[row, criterion] += (winner == "A") - (winner == "B")
