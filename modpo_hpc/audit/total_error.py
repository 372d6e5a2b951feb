"""The total error of a comparison: each component where the study has the data, each named where it has not.

All is on the scale of votes: the share of the votes for A less that for B, averaged over questions, personas and
judges. A component is a variance between levels of one factor; what it does to the mean is that variance over the
number of its levels (Brennan 2001, Generalizability Theory).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.crossed import components_of_panel
from modpo_hpc.study.judging import Judge

BOUGHT = ("questions", "personas", "votes", "judges")
ANSWERS = "answers"
"""The sampling of the answers: a part of what questions make, and not told apart from it without a twin."""
NOT_APART = "each policy answers a question once; one that takes no training, named twice in a phase, would tell"


@dataclass(frozen=True)
class Component:
    """One source of error. ``variance`` is between its levels; NaN if it is not measured, and ``why`` says so."""

    source: str
    levels: int
    variance: float
    why: str = ""

    @property
    def error(self) -> float:
        """Standard error that it gives the mean."""
        return math.sqrt(self.variance / self.levels) if self.levels else math.nan


@dataclass(frozen=True)
class TotalError:
    """A comparison with its components. ``naive`` is the error if all votes were independent."""

    phase: str
    criterion: str
    policy_a: str
    policy_b: str
    difference: float
    naive: float
    components: tuple[Component, ...]

    @property
    def total(self) -> float:
        """Standard error from all components that are measured."""
        return math.sqrt(sum(one.error**2 for one in self.components if not math.isnan(one.variance)))

    def row(self) -> dict[str, object]:
        """As a row: the error by source, the total, and what is not measured."""
        return {
            **{name: value for name, value in asdict(self).items() if name != "components"},
            "total": self.total,
            **{one.source: one.error for one in self.components},
        }


def total_errors(
    ballots: Ballots,
    judges: Sequence[Judge],
    others: Sequence[Ballots] = (),
    twins: Sequence[tuple[str, str]] = (),
) -> list[TotalError]:
    """The total error of every pair and criterion of a phase.

    Args:
        judges: the study's. Those of a panel that share a model and differ in their words measure the wording, those
            that differ in nothing but their seed the judge's sampling, those of different models the judge.
        others: the same phase of runs that differ in the study's seed, which measure it with all that hangs on it:
            who the personas are, training, and the sampling of the answers.
        twins: pairs of the phase that are one model under two names. Each has answers of its own to every question,
            so what tells them apart from question to question is the sampling of the answers.
    """
    found = []
    votes, cast = ballots.by_judge()
    for c, criterion in enumerate(ballots.criteria):
        crossed_of = [components_of_panel(votes[c, p], cast[c, p]) for p in range(len(ballots.pairs))]
        sampled = [one.question for one, pair in zip(crossed_of, ballots.pairs, strict=True) if pair in twins]
        for p, (a, b) in enumerate(ballots.pairs):
            said, each, crossed = votes[c, p], cast[c, p], crossed_of[p]
            of_answers = min(float(np.mean(sampled)), crossed.question) if sampled else math.nan
            questions, personas = (int(each.any(axis=axes).sum()) for axes in ((1, 2), (0, 1)))
            by_judge = [float(said[:, j][heard].mean()) for j, heard in enumerate(each.swapaxes(0, 1)) if heard.any()]
            listed = (
                Component("questions", questions, crossed.question - (of_answers if sampled else 0.0)),
                Component(ANSWERS, questions, of_answers, NOT_APART),
                Component("personas", personas, crossed.persona),
                Component("votes", crossed.votes, crossed.residual),
                *_of_judges(by_judge, judges),
                _of_seeds(crossed.mean, [_mean(one, criterion, a, b) for one in others]),
            )
            naive = float(said[each].std() / math.sqrt(each.sum())) if each.any() else math.nan
            found.append(TotalError(ballots.phase, criterion, a, b, crossed.mean, naive, listed))
    return found


@dataclass(frozen=True)
class Purchase:
    """What a number of calls would make of the standard error if all were spent on one factor."""

    factor: str
    levels: int
    error: float


def purchases(errors: Sequence[TotalError], calls: int) -> list[Purchase]:
    """For ``calls`` more judge calls on the pairs of ``errors`` (one phase and criterion): the best factor first.

    The error is the root mean square over the pairs. More personas are asked on every question, more judges about
    everything; what is not measured is in no error, so that a factor whose component is unknown is left out.
    """
    pairs, first = len(errors), {one.source: one for one in errors[0].components}
    levels = {name: first[name].levels for name in BOUGHT}
    per_question = levels["votes"] / max(levels["questions"], 1)
    each_judge = levels["votes"] * max(levels["judges"], 1)
    more = {
        "questions": int(calls / (pairs * per_question * max(levels["judges"], 1))),
        "personas": int(levels["personas"] * calls / (pairs * each_judge)),
        "judges": int(calls / (pairs * levels["votes"])),
    }
    bought = []
    for factor, number in more.items():
        if number < 1 or math.isnan(first[factor].variance):
            continue
        grown = {factor: levels[factor] + number}
        if factor == "questions":  # each with answers of its own
            grown[ANSWERS] = grown[factor]
        if factor != "judges":
            grown["votes"] = round(levels["votes"] * (1 + number / levels[factor]))
        after = [
            replace(
                one,
                components=tuple(replace(part, levels=grown.get(part.source, part.levels)) for part in one.components),
            )
            for one in errors
        ]
        bought.append(Purchase(factor, number, _root_mean_square([one.total for one in after])))
    return sorted(bought, key=lambda one: one.error)


def by_source(errors: Sequence[TotalError]) -> dict[str, float]:
    """Root mean square error over comparisons by source; NaN where it is not measured."""
    listed: dict[str, list[float]] = defaultdict(list)
    for one in errors:
        for part in one.components:
            listed[part.source].append(part.error if not math.isnan(part.variance) else math.nan)
    return {source: _root_mean_square(values) for source, values in listed.items()}


def unmeasured(errors: Sequence[TotalError]) -> dict[str, str]:
    """Source -> why it is not measured."""
    return {part.source: part.why for one in errors for part in one.components if math.isnan(part.variance)}


def _of_judges(means: Sequence[float], judges: Sequence[Judge]) -> list[Component]:
    """Components between judges, between wordings given to one model, and between repeated questions to it."""
    groups: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
    for judge, mean in zip(judges, means, strict=False):
        groups[judge.model][(judge.scene, judge.prompt_order)].append(mean)
    models = [float(np.mean([np.mean(one) for one in words.values()])) for words in groups.values()]
    wordings = [[float(np.mean(one)) for one in words.values()] for words in groups.values()]
    repeats = [one for words in groups.values() for one in words.values()]
    rules = all(judge.kind == "rules" for judge in judges)
    return [
        _between("judges", [models], "the study has one judge: name several (a panel) to see how far they differ"),
        _between("wording", wordings, "no model is asked in two wordings: give a panel one model with two scenes"),
        Component("judge sampling", 1, 0.0, "the rules say the same each time")
        if rules
        else _between("judge sampling", repeats, "nothing is asked twice: give a panel one model with two seeds"),
    ]


def _between(source: str, groups: Sequence[Sequence[float]], why: str) -> Component:
    """Variance within ``groups`` of more than one level, pooled; their number is that of the largest group."""
    several = [one for one in groups if len(one) > 1]
    if not several:
        return Component(source, 1, math.nan, why)
    squares = sum(float(np.var(one, ddof=1)) * (len(one) - 1) for one in several)
    return Component(source, max(map(len, several)), squares / sum(len(one) - 1 for one in several))


def _of_seeds(mean: float, others: Sequence[float]) -> Component:
    if not others:
        why = "one seed: name runs of other seeds with --with, which also measures training and sampled answers"
        return Component("seed", 1, math.nan, why)
    # the study's own result rests on one seed, whatever was learned of their spread
    return Component("seed", 1, float(np.var([mean, *others], ddof=1)))


def _mean(ballots: Ballots, criterion: str, a: str, b: str) -> float:
    c, p = ballots.criteria.index(criterion), ballots.pairs.index((a, b))
    values: NDArray[np.int8] = ballots.votes[c, p][ballots.cast[c, p]]
    return float(values.mean())


def _root_mean_square(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.sqrt(np.mean(np.square(known)))) if known else math.nan
