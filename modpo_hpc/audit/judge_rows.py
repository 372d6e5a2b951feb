"""What is to say of the judges of a run besides their verdicts: a row each."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from modpo_hpc.audit.judges import family_of, judge_aware, own_family
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.length_control import length_controlled
from modpo_hpc.evaluation.phase import answer_lengths
from modpo_hpc.evaluation.tables import Rows
from modpo_hpc.evaluation.winrates import majorities
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study


def biases(run: Run, ballots: Ballots) -> Rows:
    """What moves each judge besides the answers: the place on the page, and the length."""
    lengths = answer_lengths(
        run.table("answers", ["policy", "question_id", "tokens"]), ballots.policies, list(ballots.questions)
    )
    confidence, rows = run.study.statistics.confidence, Rows()
    for judge in ballots.judges or ("",):
        one = ballots.of_judge(judge) if judge else ballots
        for c, criterion in enumerate(one.criteria):
            decided = one.cast[c] & (one.votes[c] != 0)
            flat = decided.reshape(-1, decided.shape[-1])
            first = components((one.votes[c] == one.first[c]).reshape(flat.shape).astype(float), flat)
            low, high = first.interval(confidence)
            rows.append(
                {
                    "phase": one.phase,
                    "criterion": criterion,
                    "judge": judge or run.study.judges[0].name,
                    "first_share": first.mean,
                    "first_low": low,
                    "first_high": high,
                    **_length_slope(one, c, lengths, confidence),
                }
            )
    return rows


def favours(study: Study, ballots: Ballots) -> Rows:
    """The favour of each judge for its own family of models; a row without numbers where it cannot be told."""
    families = {
        name: family_of(study.generation.remote[name].model if policy.is_remote else study.models.base)
        for name, policy in study.alignment.policies.items()
    }
    families |= {one.name: family_of(one.model) for one in study.judges}
    return [
        {"phase": ballots.phase, "criterion": criterion, "judge": judge.name, **asdict(found)}
        for c, criterion in enumerate(ballots.criteria)
        for judge in study.judges
        if judge.kind != "rules"
        and (found := own_family(ballots, c, judge.name, families, study.statistics.confidence))
    ]


def _length_slope(ballots: Ballots, criterion: int, lengths: np.ndarray, confidence: float) -> dict[str, float]:
    """Log-odds of winning a question for one standard deviation more of length than is usual for the pair."""
    a, b = np.array(ballots.places).T
    outcomes = (majorities(ballots.votes[criterion]).astype(float) + 1) / 2
    longer = lengths[a] - lengths[b]
    there = ~np.isnan(longer)
    if not there.any():
        return dict.fromkeys(("length_slope", "length_low", "length_high"), float("nan"))
    # within a pair, so that policies which are better and longer do not count as a judge that likes length
    longer = longer - np.nanmean(longer, axis=1, keepdims=True)
    found = length_controlled(outcomes[there], longer[there], np.zeros(int(there.sum())), confidence)
    return {"length_slope": found.slope, "length_low": found.slope_low, "length_high": found.slope_high}


def abilities(run: Run, ballots: Ballots) -> Rows:
    """Judge-aware Bradley-Terry: abilities of the policies, discriminations of the judges of a panel."""
    rows: Rows = []
    for c, criterion in enumerate(ballots.criteria):
        rng = rng_of(run.study.seed, "audit", "judges", ballots.phase, criterion)
        found = judge_aware(ballots, c, rng, confidence=run.study.statistics.confidence)
        for kind, names, *values in (
            ("policy", ballots.policies, found.ability, found.ability_low, found.ability_high),
            ("judge", ballots.judges, found.discrimination, found.discrimination_low, found.discrimination_high),
        ):
            head = {"phase": ballots.phase, "criterion": criterion, "kind": kind}
            rows += [
                {**head, "name": name, "value": float(value), "low": float(low), "high": float(high)}
                for name, value, low, high in zip(names, *values, strict=True)
            ]
    return rows
