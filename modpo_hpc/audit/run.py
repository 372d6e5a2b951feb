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

from modpo_hpc.audit.correction import confusion_of, correct
from modpo_hpc.audit.judge_rows import abilities, biases, favours
from modpo_hpc.audit.prediction import prediction_powered
from modpo_hpc.audit.total_error import TotalError, by_source, purchases, total_errors, unmeasured
from modpo_hpc.core.atomic import write_text
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.ballots import Ballots, collect_phases
from modpo_hpc.evaluation.tables import Rows, finite
from modpo_hpc.human.alternative import raters_alpha
from modpo_hpc.human.labels import HumanLabels, as_shares
from modpo_hpc.human.measures import agreement
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study

VERSION = 3
"""Of the document; one that another version kept is not read."""
DRAWS = 1000
"""Times that questions are drawn again for the interval of the raters' agreement."""


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
        one.phase: total_errors(
            one, run.study.judges, [other[one.phase] for other in of_others], twins_of(run.study, one.pairs)
        )
        for one in phases
    }
    every = [one for listed in errors.values() for one in listed]
    return {
        "version": VERSION,
        "study": run.study.name,
        "mark": "sandbox: simulated raters" if people is not None and people.simulated else run.sandbox_mark,
        "confidence": run.study.statistics.confidence,
        "people": None if people is None else _people(run, people, phases),
        "errors": [one.row() for one in every],
        "components": [row for one in phases for row in _components(one, errors[one.phase], calls)],
        "unmeasured": unmeasured(every),
        "judges": [row for one in phases for row in biases(run, one)],
        "families": [row for one in phases for row in favours(run.study, one)],
        "abilities": [row for one in phases if one.judges for row in abilities(run, one)],
    }


def twins_of(study: Study, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are one model under two names: made the same, by nothing that draws at random (training does)."""
    policies, remote = study.alignment.policies, study.generation.remote
    return [
        (a, b)
        for a, b in pairs
        if policies[a] == policies[b] and policies[a].stage in (None, "soups") and remote.get(a) == remote.get(b)
    ]


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
    write_text(folder / "audit.json", json.dumps(finite(document), indent=1))
    return folder / "audit.json"


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
        said, votes = known.reindex(shares.index[labelled]).to_numpy(float), shares.to_numpy(float)
        found = prediction_powered(said, votes, labelled, inclusion, confidence)
        judged = np.sign(votes - 0.5)
        decided = int((judged != 0).sum())
        counts = confusion_of(said, votes[labelled], inclusion[labelled])
        rows.append(
            {
                "criterion": str(criterion),
                "labels": len(known),
                "counts": asdict(counts),
                "corrected": correct(
                    counts, float((judged == 1).sum() / decided), decided, drawn=True, confidence=confidence
                ).as_json()
                if decided
                else None,
                "prediction_powered": asdict(found) if found else None,
                "agreement": _agreements(ballots, people, str(criterion), labels),
                "raters": _raters(people, str(criterion), run.study),
            }
        )
    return {
        **asdict(people.comparison),
        "raters": people.raters,
        "simulated": people.simulated,
        "label": run.study.human.label,
        "criteria": rows,
    }


def _raters(people: HumanLabels, criterion: str, study: Study) -> dict[str, Any]:
    """Whether the raters agree with each other beyond chance; where they do not, their labels are no measure."""
    votes = people.votes[criterion].to_numpy()
    draws = rng_of(study.seed, "audit", "raters", criterion).integers(0, votes.shape[1], (DRAWS, votes.shape[1]))
    found = raters_alpha(votes, draws, study.statistics.confidence, len(people.votes))
    return {**asdict(found), "at_odds": found.at_odds}


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
    known = labels.to_numpy().astype(np.int8)
    for judge in ballots.judges or ("",):
        one = ballots.of_judge(judge) if judge else ballots
        said = np.sign(_shares(one, people, criterion).reindex(labels.index).to_numpy(float) - 0.5).astype(np.int8)
        rows.append({"judge": judge, **agreement(known, said, 2).row()})
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
