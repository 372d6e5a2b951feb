"""The audit of a run: everything in one document, from its verdicts and from what people said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from modpo_hpc.audit.correction import Confusion, correct
from modpo_hpc.audit.judges import judge_aware
from modpo_hpc.audit.prediction import prediction_powered
from modpo_hpc.audit.total_error import TotalError, by_source, purchases, total_errors, unmeasured
from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.ballots import Ballots, collect_phases
from modpo_hpc.evaluation.crossed import components
from modpo_hpc.evaluation.length_control import length_controlled
from modpo_hpc.evaluation.phase import answer_lengths
from modpo_hpc.evaluation.winrates import majorities
from modpo_hpc.human.answers import MISSING
from modpo_hpc.human.labels import HumanLabels, as_shares
from modpo_hpc.human.measures import agreement
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of

Rows = list[dict[str, Any]]


def audit(run: Run, people: HumanLabels | None, others: Sequence[Run] = (), calls: int | None = None) -> dict[str, Any]:
    """The audit as plain data.

    Args:
        people: what people said, if they were asked.
        others: runs that differ from this one in the study's seed.
        calls: judge calls that could be made; as many as a phase had if empty.

    Raises:
        IncompleteError: the verdicts are not finished.
        InputError: a run was judged sequentially.
    """
    for one in (run, *others):
        if one.study.judging.stop == "sequential":
            raise InputError(
                "this run was judged sequentially, and an audit needs every question judged by the same personas",
                file=one.root,
                field="judging.stop",
                value="sequential",
                remedy="Judge it with stop: none or exact, in a run of its own (--reuse takes over all else).",
            )
    phases = ballots_of(run)
    of_others = [{one.phase: one for one in ballots_of(other)} for other in others]
    errors = {
        one.phase: total_errors(one, run.study.judges, [other[one.phase] for other in of_others]) for one in phases
    }
    every = [one for listed in errors.values() for one in listed]
    return {
        "study": run.study.name,
        "mark": "sandbox: simulated raters" if people is not None and people.simulated else run.sandbox_mark,
        "confidence": run.study.statistics.confidence,
        "people": None if people is None else _people(run, people, phases),
        "errors": [one.row() for one in every],
        "components": [row for one in phases for row in _components(one, errors[one.phase], calls)],
        "unmeasured": unmeasured(every),
        "judges": [row for one in phases for row in _judges(run, one)],
        "abilities": [row for one in phases if one.judges for row in _abilities(run, one)],
    }


def ballots_of(run: Run) -> list[Ballots]:
    """The ballots of each phase of ``run``.

    Raises:
        IncompleteError: the verdicts are not finished.
    """
    questions = [question.question_id for question in study_questions(run, "test")]
    personas = [row["persona_id"] for row in run.table("personas").to_pylist() if row["split"] == "test"]
    return collect_phases(run, questions, personas)


def keep(run: Run, document: Mapping[str, Any]) -> Path:
    """Write the audit into the run."""
    folder = run.root / "audit"
    folder.mkdir(mode=0o700, exist_ok=True)
    with atomic_file(folder / "audit.json", "w") as stream:
        json.dump(finite(document), stream, indent=1)
    return folder / "audit.json"


def finite(value: Any) -> Any:
    """``value`` with null in place of what JSON does not know."""
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _people(run: Run, people: HumanLabels, phases: Sequence[Ballots]) -> dict[str, Any]:
    ballots = next(one for one in phases if one.phase == people.comparison.phase)
    confidence = run.study.statistics.confidence
    rows: Rows = []
    for criterion in people.labels.columns:
        if criterion not in ballots.criteria:
            continue
        labels = people.labels[criterion]
        shares = _shares(ballots, people, str(criterion))
        known = as_shares(labels).reindex(shares.index).dropna()
        labelled = shares.index.isin(known.index)
        inclusion = pd.Series(people.inclusion).reindex(shares.index).to_numpy(float)
        found = prediction_powered(
            known.reindex(shares.index[labelled]).to_numpy(float),
            shares.to_numpy(float),
            labelled,
            inclusion,
            confidence,
        )
        judged = np.sign(shares.to_numpy(float) - 0.5)
        decided = int((judged != 0).sum())
        counts = confusion_of(known, shares)
        rows.append(
            {
                "criterion": str(criterion),
                "labels": len(known),
                "counts": asdict(counts),
                "corrected": correct(counts, float((judged == 1).sum() / decided), decided, confidence).as_json()
                if decided
                else None,
                "prediction_powered": found.as_json() if found else None,
                "agreement": _agreements(ballots, people, str(criterion), labels),
            }
        )
    return {
        **asdict(people.comparison),
        "raters": people.raters,
        "simulated": people.simulated,
        "label": run.study.human.label,
        "criteria": rows,
    }


def confusion_of(labels: pd.Series, shares: pd.Series) -> Confusion:
    """Counts of people's labels (1, .5, 0) against the judge's majority, ties of either left out."""
    machine = shares.reindex(labels.index).to_numpy(float)
    person = labels.to_numpy(float)
    counts = [
        int((((person > 0.5) if is_a else (person < 0.5)) & ((machine > 0.5) if says_a else (machine < 0.5))).sum())
        for is_a in (True, False)
        for says_a in (True, False)
    ]
    return Confusion(*counts)


def _shares(ballots: Ballots, people: HumanLabels, criterion: str) -> pd.Series:
    """Share of the votes for the comparison's A by question, ties as halves; a question without votes is a draw."""
    a, b = people.comparison.a, people.comparison.b
    turned = (a, b) not in ballots.pairs
    c, p = ballots.criteria.index(criterion), ballots.pairs.index((b, a) if turned else (a, b))
    votes, cast = ballots.votes[c, p].sum(axis=-1), ballots.cast[c, p].sum(axis=-1)
    mean = np.where(cast > 0, votes / np.maximum(cast, 1), 0.0)
    return pd.Series(((-mean if turned else mean) + 1) / 2, index=list(ballots.questions)).round(12)


def _agreements(ballots: Ballots, people: HumanLabels, criterion: str, labels: pd.Series) -> Rows:
    """Each judge's majority of the personas against people's labels, ties left out."""
    rows: Rows = []
    for judge in ballots.judges or ("",):
        one = ballots.of_judge(judge) if judge else ballots
        said = np.sign(_shares(one, people, criterion).reindex(labels.index).to_numpy(float) - 0.5).astype(np.int8)
        known = labels.to_numpy().astype(np.int8)
        rows.append({"judge": judge, **agreement(np.where(known == MISSING, MISSING, known), said, 2).row()})
    return rows


def _components(ballots: Ballots, errors: Sequence[TotalError], calls: int | None) -> Rows:
    rows: Rows = []
    for criterion, listed in groupby(errors, key=lambda one: one.criterion):
        part = list(listed)
        made = int(ballots.cast[ballots.criteria.index(criterion)].sum())
        more = calls or made
        rows.append(
            {
                "phase": ballots.phase,
                "criterion": criterion,
                "pairs": len(part),
                "naive": float(np.sqrt(np.mean([one.naive**2 for one in part]))),
                "total": float(np.sqrt(np.mean([one.total**2 for one in part]))),
                "sources": by_source(part),
                "calls": more,
                "purchases": [asdict(one) for one in purchases(part, more)],
            }
        )
    return rows


def _judges(run: Run, ballots: Ballots) -> Rows:
    """What moves each judge besides the answers: the place on the page, and the length."""
    lengths = answer_lengths(
        run.table("answers", ["policy", "question_id", "tokens"]), ballots.policies, list(ballots.questions)
    )
    reach = float(stats.norm.ppf((1 + run.study.statistics.confidence) / 2))
    rows: Rows = []
    for judge in ballots.judges or ("",):
        one = ballots.of_judge(judge) if judge else ballots
        for c, criterion in enumerate(one.criteria):
            decided = one.cast[c] & (one.votes[c] != 0)
            flat = decided.reshape(-1, decided.shape[-1])
            first = components((one.votes[c] == one.first[c]).reshape(flat.shape).astype(float), flat)
            rows.append(
                {
                    "phase": one.phase,
                    "criterion": criterion,
                    "judge": judge or run.study.judges[0].name,
                    "first_share": first.mean,
                    "first_low": first.mean - reach * first.error,
                    "first_high": first.mean + reach * first.error,
                    **_length_slope(one, c, lengths, run.study.statistics.confidence),
                }
            )
    return rows


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


def _abilities(run: Run, ballots: Ballots) -> Rows:
    rows: Rows = []
    for c, criterion in enumerate(ballots.criteria):
        rng = rng_of(run.study.seed, "audit", "judges", ballots.phase, criterion)
        found = judge_aware(ballots, c, rng, confidence=run.study.statistics.confidence)
        for kind, names, values in (
            ("policy", ballots.policies, (found.ability, found.ability_low, found.ability_high)),
            ("judge", ballots.judges, (found.discrimination, found.discrimination_low, found.discrimination_high)),
        ):
            rows += [
                {
                    "phase": ballots.phase,
                    "criterion": criterion,
                    "kind": kind,
                    "name": name,
                    **dict(zip(("value", "low", "high"), (float(one[place]) for one in values), strict=True)),
                }
                for place, name in enumerate(names)
            ]
    return rows
