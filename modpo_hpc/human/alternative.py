"""The alternative annotator test: may the model stand in for a rater? (Calderon, Reichart and Dror, ACL 2025)

The test asks whether the model agrees with the others about as well as a rater does. Raters who click at random agree
with nobody, so that any model passes; and where one answer is nearly always right, so does a constant. What the test
found therefore counts only where the raters agree beyond chance and the model beats the best constant answer.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, wilcoxon

from modpo_hpc.human.answers import MISSING
from modpo_hpc.human.measures import CLASSES, Labels
from modpo_hpc.intervals import percentiles

FEWEST_FOR_T = 30


@dataclass(frozen=True)
class AlternativeTest:
    """The outcome. ``winning_rate`` is the share of raters against whom the model holds its own; at a half or more the
    model passes. ``advantage`` is the mean probability that it agrees with the others at least as well.
    """

    raters: int
    winning_rate: float
    advantage: float
    passes: bool


@dataclass(frozen=True)
class RatersAlpha:
    """Krippendorff's alpha of raters among themselves, with an interval over questions drawn again.

    NaN where no question has two raters.
    """

    alpha: float
    alpha_low: float
    alpha_high: float

    @property
    def at_odds(self) -> bool:
        """Whether they were seen to agree no better than chance; False where nothing is known of it."""
        return self.alpha_low <= 0


@dataclass(frozen=True)
class Grounds(RatersAlpha):
    """What a replacement must rest on, with intervals over questions drawn again.

    ``gain`` is the mean share of the raters that the model agrees with, less that of the best constant answer.
    """

    gain: float
    gain_low: float
    gain_high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the raters agree more than chance would have it."""
        return self.alpha_low > 0

    @property
    def beats_constant(self) -> bool:
        """Whether the model says more than one answer given always."""
        return self.gain_low > 0


def alternative_annotator_test(
    human: Labels, model: Labels, epsilon: float = 0.2, level: float = 0.05
) -> AlternativeTest:
    """Test the model against each rater in turn, on how well either agrees with the remaining ones.

    For rater j and question i, the agreement of x is the share of the other raters with x's label. The differences
    "rater at least as good" minus "model at least as good" are tested for a mean below ``epsilon`` (t-test; Wilcoxon's
    under 30 questions), and the p-values adjusted after Benjamini and Yekutieli.

    Args:
        human: raters x questions.
        model: questions.
        epsilon: what the cheaper model may cost in agreement; the authors propose 0.2 for experts, 0.1 for a crowd.
        level: false discovery rate.
    """
    p_values, advantages = [], []
    for rater in range(human.shape[0]):
        others = np.delete(human, rater, axis=0)
        present = (others != MISSING).sum(axis=0)
        usable = (human[rater] != MISSING) & (model != MISSING) & (present > 0)
        if usable.sum() < 2:
            continue
        agree_model = (others == model).sum(axis=0)[usable] / present[usable]
        agree_rater = (others == human[rater]).sum(axis=0)[usable] / present[usable]
        model_wins = (agree_model >= agree_rater).astype(float)
        rater_wins = (agree_rater >= agree_model).astype(float)
        advantages.append(float(model_wins.mean()))
        p_values.append(_p_value(rater_wins - model_wins, epsilon))
    if not p_values:
        return AlternativeTest(0, math.nan, math.nan, False)
    rejected = _benjamini_yekutieli(np.array(p_values), level)
    rate = float(rejected.mean())
    return AlternativeTest(len(p_values), rate, float(np.mean(advantages)), rate >= 0.5)


def raters_alpha(human: Labels, draws: NDArray[np.int64], confidence: float, criteria: int = 1) -> RatersAlpha:
    """Alpha of ``human`` (raters x questions); ``draws`` as in :func:`grounds`.

    Its interval holds for all ``criteria`` of the study at once (Bonferroni): of seven on which raters click at random,
    one would often look as if they agreed.
    """
    counts, weights = _counted(human, draws)
    judged = counts.sum(axis=1)
    paired = (judged > 1).astype(float)
    if not paired.any():
        return RatersAlpha(math.nan, math.nan, math.nan)
    agreeing = paired * (counts * (counts - 1)).sum(axis=1) / np.maximum(judged - 1, 1)
    labels = weights @ (counts * paired[:, None])
    total = labels.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (labels * (labels - 1)).sum(axis=1) / (total * (total - 1))
        alpha = (weights @ agreeing / total - expected) / (1 - expected)
    return RatersAlpha(float(alpha[0]), *percentiles(alpha[1:], (1 - confidence) / 2 / criteria))


def _counted(human: Labels, draws: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels of each class (questions x classes), and times that each question counts: once, then as drawn."""
    counts = np.stack([(human == one).sum(axis=0) for one in CLASSES], axis=1).astype(float)
    questions = counts.shape[0]
    return counts, np.vstack([np.ones(questions), *(np.bincount(one, minlength=questions) for one in draws)])


def grounds(human: Labels, model: Labels, draws: NDArray[np.int64], confidence: float, criteria: int = 1) -> Grounds:
    """The grounds for a replacement.

    Args:
        human: raters x questions.
        model: questions.
        draws: replicates x questions, places of the questions drawn again.
        criteria: how many the raters judged, as in :func:`raters_alpha`.
    """
    counts, weights = _counted(human, draws)
    judged = counts.sum(axis=1)
    usable = ((judged > 0) & (model != MISSING)).astype(float)
    shares = usable[:, None] * counts / np.maximum(judged, 1)[:, None]
    agreed = (shares * (model[:, None] == np.array(CLASSES))).sum(axis=1)
    number = weights @ usable
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = weights @ agreed / number - (weights @ shares / number[:, None]).max(axis=1)
    raters = asdict(raters_alpha(human, draws, confidence, criteria))
    low, high = percentiles(gain[1:], (1 - confidence) / 2)
    return Grounds(**raters, gain=float(gain[0]), gain_low=low, gain_high=high)


def _p_value(differences: np.ndarray, epsilon: float) -> float:
    moved = differences - epsilon
    if np.ptp(moved) == 0:
        return 0.0 if moved[0] < 0 else 1.0
    if len(moved) >= FEWEST_FOR_T:
        return float(ttest_1samp(moved, 0.0, alternative="less").pvalue)
    return float(wilcoxon(moved, alternative="less").pvalue)


def _benjamini_yekutieli(p_values: np.ndarray, level: float) -> np.ndarray:
    """Which hypotheses are rejected at false discovery rate ``level`` under any dependence."""
    count = len(p_values)
    order = np.argsort(p_values)
    harmonic = (1 / np.arange(1, count + 1)).sum()
    below = np.flatnonzero(p_values[order] <= np.arange(1, count + 1) * level / (count * harmonic))
    rejected = np.zeros(count, dtype=bool)
    if len(below):
        rejected[order[: below[-1] + 1]] = True
    return rejected
