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
from modpo_hpc.judging.tables import VerdictPlace, policy_of

_VOTE = {"A": 1, "tie": 0, "B": -1}


class SequentialStop:
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
        for number, which in enumerate(self._round_of):
            self._questions_by[which + 1] = max(self._questions_by[which + 1], self._question[number] + 1)
        self._persona = {name: column for column, name in enumerate(groups.group)}
        self._group = np.array(list(groups.group.values()), dtype=np.int64)
        criteria = dict.fromkeys(name for place in places for name in place.criteria)
        shape = (len(questions), len(self._persona))
        self._votes = {name: np.zeros(shape, dtype=np.int8) for name in criteria}
        self._cast = {name: np.zeros(shape, dtype=bool) for name in criteria}
        self._awaited = [0] * len(rounds)
        for which in self._round_of:
            self._awaited[which] += 1
        self._open: dict[tuple[tuple[str, ...], int], bool] = {}

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
        """Take in the verdicts of comparison ``number``."""
        place = self._places[number]
        cell = self._question[number], self._persona[place.persona_id]
        self._awaited[self._round_of[number]] -= 1
        for criterion, opinion in zip(place.criteria, judgment.opinions, strict=True):
            winner = policy_of(opinion, place.a_first)
            if winner in _VOTE:
                self._votes[criterion][cell], self._cast[criterion][cell] = _VOTE[winner], True

    def needed(self, judgments: Sequence[Judgment | None]) -> list[Judgment | None]:
        """``judgments`` without those of rounds that came after the decision, whatever the pace and the judge."""
        stop = SequentialStop(self._places, self._rounds, self._groups, self._rule)
        kept: list[Judgment | None] = []
        for number, judgment in enumerate(judgments):
            use = stop.is_open(number)
            kept.append(judgment if use else None)
            if use and judgment is not None:
                stop.hear(number, judgment)
        return kept

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
