"""Sequential judging: a pair of policies is judged in rounds of questions until what is asked about it is decided.

A decision is about the mean share of votes over questions and personas, by :mod:`modpo_hpc.evaluation.betting`.
Questions come in one random order, and each draws its personas anew, so that given those before it its share has that
mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modpo_hpc.evaluation.betting import StoppingRule, settled, weighted_shares
from modpo_hpc.evaluation.sequential_design import PersonaGroups
from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.judging.stop import Stop
from modpo_hpc.judging.tables import VerdictPlace, policy_of

_VOTE = {"A": 1, "tie": 0, "B": -1}


class SequentialStop(Stop):
    """Which comparisons of a shard still have to be asked: those of a call of which a criterion is open.

    Args:
        places: of all comparisons, round after round.
        rounds: number of comparisons of each round.
    """

    def __init__(
        self, places: Sequence[VerdictPlace], rounds: Sequence[int], groups: PersonaGroups, rule: StoppingRule
    ) -> None:
        self._places, self._rounds, self._groups, self._rule = places, rounds, groups, rule
        self._round_of = np.repeat(np.arange(len(rounds)), rounds)
        questions = {name: row for row, name in enumerate(dict.fromkeys(place.question_id for place in places))}
        self._question = [questions[place.question_id] for place in places]
        self._questions_by = np.zeros(len(rounds) + 1, dtype=np.int64)
        np.maximum.at(self._questions_by, self._round_of + 1, np.array(self._question, dtype=np.int64) + 1)
        self._persona = {name: column for column, name in enumerate(groups.group)}
        self._group = np.array(list(groups.group.values()), dtype=np.int64)
        criteria = dict.fromkeys(name for place in places for name in place.criteria)
        shape = (len(questions), len(self._persona))
        self._votes = {name: np.zeros(shape, dtype=np.int8) for name in criteria}
        self._cast = {name: np.zeros(shape, dtype=bool) for name in criteria}
        self._awaited = [*rounds]
        self._open: dict[tuple[tuple[str, ...], int], bool] = {}

    def anew(self) -> SequentialStop:
        return SequentialStop(self._places, self._rounds, self._groups, self._rule)

    def is_open(self, number: int) -> bool:
        """Whether comparison ``number`` has to be asked; known once the rounds before it were heard."""
        which, criteria = int(self._round_of[number]), self._places[number].criteria
        if (criteria, which) in self._open:
            return self._open[criteria, which]
        if any(self._awaited[:which]):
            return True  # a judge that does not wait for rounds asks more, and decides the same
        self._open[criteria, which] = not all(self._settled(name, which) for name in criteria)
        if not self._open[criteria, which]:
            self._skip(criteria, which)
        return self._open[criteria, which]

    def hear(self, number: int, judgment: Judgment) -> None:
        place = self._places[number]
        cell = self._question[number], self._persona[place.persona_id]
        self._awaited[self._round_of[number]] -= 1
        for criterion, opinion in zip(place.criteria, judgment.opinions, strict=True):
            winner = policy_of(opinion, place.a_first)
            if winner in _VOTE:
                self._votes[criterion][cell], self._cast[criterion][cell] = _VOTE[winner], True

    def _skip(self, criteria: tuple[str, ...], which: int) -> None:
        """Nobody waits for what a call that is closed would have said in this round."""
        numbers = np.flatnonzero(self._round_of == which)
        self._awaited[which] -= sum(self._places[number].criteria == criteria for number in numbers.tolist())

    def _settled(self, criterion: str, which: int) -> bool:
        heard = slice(0, int(self._questions_by[which]))
        shares = weighted_shares(
            self._votes[criterion][heard], self._cast[criterion][heard], self._group, self._groups.weight
        )
        shares = shares[~np.isnan(shares)]
        return bool(len(shares)) and bool(settled(shares[None], self._rule)[0, -1])
