"""What people have said so far, one label a question: from the rounds of a run, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.human.answers import CODES, MISSING
from modpo_hpc.human.measures import Rule, consensus
from modpo_hpc.human.sample import PolicyPair, Sample, draw_next, llm_outcomes, llm_shares
from modpo_hpc.human.study import load_sample, rounds
from modpo_hpc.run import Run

COLUMNS = ("question_id", "criterion", "winner")


@dataclass(frozen=True)
class HumanLabels:
    """People's labels of one comparison.

    ``labels`` is questions x criteria of WON_A, WON_B, TIE or MISSING, made of ``votes``, criterion -> raters x
    questions of the same; ``inclusion`` the probability of each question of the test set to be labelled at all;
    ``simulated`` if no people were asked.
    """

    comparison: PolicyPair
    labels: pd.DataFrame
    inclusion: Mapping[str, float]
    raters: int
    simulated: bool
    votes: Mapping[str, pd.DataFrame]


def labels_of_run(run: Run, rule: Rule) -> HumanLabels:
    """The labels of all rounds that are analyzed.

    Raises:
        IncompleteError: none is.
        InputError: the rounds compare different policies.
    """
    samples, frames = list[Sample](), list[pd.DataFrame]()
    for folder in rounds(run):
        path = folder / "analysis" / "judgments.parquet"
        if path.exists():
            samples.append(load_sample(folder))
            excluded = pd.read_json(folder / "analysis" / "summary.json", typ="series")["excluded"]
            frame = pq.read_table(path).to_pandas()
            frames.append(frame[~frame["rater"].isin(list(excluded))].assign(round=len(frames)))
    if not frames:
        raise IncompleteError(f"{run.root}: no judgments by people are analyzed yet. See: modpo human sample --help")
    comparison = samples[0].comparison
    if any(one.comparison != comparison for one in samples):
        raise InputError(
            "the rounds of this run compare different policies", file=run.root / "human", remedy="Use one run for each."
        )
    judged = pd.concat(frames)
    inclusion = {
        question: 1 - float(np.prod([1 - one.inclusion.get(question, 0.0) for one in samples]))
        for question in samples[0].inclusion
    }
    votes = votes_of(judged.assign(rater=judged["round"].astype(str) + judged["rater"]))
    return HumanLabels(
        comparison,
        one_label_each(votes, rule),
        inclusion,
        judged["rater"].nunique(),
        bool(judged["simulated"].any()),
        votes,
    )


def labels_of_file(path: Path, comparison: PolicyPair, questions: list[str], rule: Rule) -> HumanLabels:
    """Labels from a CSV with the columns question_id, criterion, winner (A, B or tie) and, if several, rater.

    The questions labelled count as a random sample of ``questions``.

    Raises:
        InputError: no such file or column, an unknown winner, a question that the test set lacks.
    """
    try:
        judged = pd.read_csv(path, dtype=str)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(
            f"the labels cannot be read: {error}", file=path, remedy="It must be a CSV in UTF-8."
        ) from error
    for column in COLUMNS:
        if column not in judged:
            raise InputError("a column is missing", file=path, field=column, remedy=f"Columns: {', '.join(COLUMNS)}.")
    for field, known in (("winner", list(CODES)), ("question_id", questions)):
        strange = judged[~judged[field].isin(known)]
        if len(strange):
            raise InputError(
                f"line {strange.index[0] + 2} has a {field} that is not known",
                file=path,
                field=field,
                value=strange[field].iloc[0],
                remedy="Winners are A (the first policy), B and tie; questions are those of the test set.",
            )
    if "rater" not in judged:
        judged["rater"] = "rater"
    if judged.duplicated(["question_id", "criterion", "rater"]).any():
        raise InputError("a rater judged a question twice", file=path, field="rater", remedy="Give each rater a name.")
    share, votes = judged["question_id"].nunique() / len(questions), votes_of(judged)
    inclusion = dict.fromkeys(questions, share)
    return HumanLabels(comparison, one_label_each(votes, rule), inclusion, judged["rater"].nunique(), False, votes)


def votes_of(judged: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Criterion -> what each rater said of each question (raters x questions), from the rows of all raters."""
    found = {}
    for criterion, part in judged.groupby("criterion", sort=False):
        votes = part.assign(code=part["winner"].map(CODES)).pivot(index="rater", columns="question_id", values="code")
        found[str(criterion)] = votes.fillna(MISSING).astype(np.int8).rename(columns=str)
    return found


def one_label_each(votes: Mapping[str, pd.DataFrame], rule: Rule) -> pd.DataFrame:
    """The label of each question under each criterion (questions x criteria)."""
    found = {
        criterion: pd.Series(consensus(given.to_numpy(), rule), index=given.columns)
        for criterion, given in votes.items()
    }
    return pd.DataFrame(found).fillna(MISSING).astype(np.int8)


def as_shares(labels: pd.Series) -> pd.Series:
    """Labels that are not MISSING as shares of A: 1, .5 or 0."""
    return (labels[labels != MISSING].astype(float) + 1) / 2


def next_sample(run: Run, criterion: str, size: int) -> tuple[Sample, float]:
    """The sample of a new round of ``size`` questions, and the share of labels that it saves against a random one.

    Raises:
        InputError: the criterion was not judged by the model, or by people.
        IncompleteError: no round is analyzed yet.
    """
    known = labels_of_run(run, run.study.human.label)
    shares = llm_shares(run, known.comparison)
    for field, there in (("people", known.labels.columns), ("model", shares.columns)):
        if criterion not in there:
            raise InputError(
                f"the {field} did not judge this criterion",
                field="--next",
                value=criterion,
                remedy=f"Take one of: {', '.join(sorted(set(known.labels.columns) & set(shares.columns)))}.",
            )
    labels = as_shares(known.labels[criterion])
    return draw_next(
        llm_outcomes(run, known.comparison), shares[criterion], labels, known.comparison, size, run.study.seed
    )
