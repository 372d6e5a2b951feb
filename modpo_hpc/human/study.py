"""The files of a human study inside a run: ``human/`` with the sample, the key, the forms and the analysis.

Later rounds, which ask for more labels, stand in ``human/round2`` and so on, each with its own sample and key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from modpo_hpc.core.atomic import atomic_file, write_text
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.evaluation.toxicity import answers_of
from modpo_hpc.human.analysis import Tables
from modpo_hpc.human.answers import JUDGMENTS, MISSING
from modpo_hpc.human.forms import PREFIX, Form, Key, render
from modpo_hpc.human.measures import Labels
from modpo_hpc.human.sample import PolicyPair, Sample
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.run import Run
from modpo_hpc.study import Study


def rounds(run: Run) -> list[Path]:
    """The folders of the rounds that have a sample, in their order."""
    first = run.root / "human"
    later = sorted(first.glob("round*"), key=lambda path: int(path.name.removeprefix("round")))
    return [folder for folder in (first, *later) if (folder / "sample.json").exists()]


def folder_of(run: Run, number: int | None = None) -> Path:
    """The folder of round ``number`` (1, 2, ...; the newest if empty), made if need be, closed to others.

    Raises:
        InputError: there is no such round, nor is it the next one.
    """
    there = len(rounds(run))
    number = max(there, 1) if number is None else number
    if not 1 <= number <= there + 1:
        raise InputError(
            "there is no such round", field="--round", value=number, remedy=f"{run.root} has {there} of them."
        )
    folder = run.root / "human" if number == 1 else run.root / "human" / f"round{number}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def keep_sample(folder: Path, sample: Sample) -> Path:
    """Write the sample.

    Raises:
        InputError: there are forms already, which rest on another sample.
    """
    if (folder / "key.json").exists():
        raise InputError(
            "the forms of this run are made already, from another sample",
            file=folder / "key.json",
            remedy=f"Ask for more labels with --next, or remove {folder} if no form is out yet.",
        )
    return _write_json(folder / "sample.json", sample.as_json())


def load_sample(folder: Path) -> Sample:
    """The sample of a round.

    Raises:
        IncompleteError: none is drawn.
    """
    return TypeAdapter(Sample).validate_python(_load(folder / "sample.json", "modpo human sample"))


def load_key(folder: Path) -> Key:
    """The key of the forms of a round.

    Raises:
        IncompleteError: no forms are made.
    """
    return Key.from_json(_load(folder / "key.json", "modpo human forms"))


def criteria_of(study: Study, phase: str) -> tuple[str, ...]:
    """The criteria on the forms: those of the study, else what personas rank by and what the phase judges."""
    listed = (*study.criteria.rank, *study.judging.phases[phase].criteria)
    return study.human.criteria or tuple(dict.fromkeys(listed))


def texts_of(run: Run, comparison: PolicyPair) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Posts by question, and the answers of both policies by question."""
    posts = {one.question_id: one.text for one in study_questions(run, "test")}
    answers = {
        policy: {one.question_id: one.answer for one in answers_of(run, policy)}
        for policy in (comparison.a, comparison.b)
    }
    return posts, answers


def keep_forms(run: Run, folder: Path, key: Key, mark: str | None) -> list[Path]:
    """Write the key and a page for each form.

    Raises:
        InputError: there are forms already.
    """
    if (folder / "key.json").exists():
        raise InputError(
            "the forms of this run are made already",
            file=folder / "forms",
            remedy=f"New forms make answers to the old ones useless. Remove {folder} if none are out yet.",
        )
    criteria = load_criteria(run.study.criteria.files, key.criteria)
    posts, answers = texts_of(run, key.comparison)
    pages = []
    for form in key.forms:
        page = folder / "forms" / f"{form.form_id}.html"
        page.parent.mkdir(mode=0o700, exist_ok=True)
        write_text(page, render(form, key, posts, answers, criteria, run.study.human, mark))
        pages.append(page)
    _write_json(folder / "key.json", key.as_json())
    return pages


def keep_answers(folder: Path, form: Form, filled: Mapping[str, object]) -> Path:
    """Write a file of answers as a rater's browser would."""
    folder = folder / "answers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return _write_json(folder / f"{PREFIX}{form.form_id}.json", filled)


def model_labels(outcomes: pd.DataFrame, questions: Sequence[str]) -> dict[str, Labels]:
    """The model's label of each of ``questions``, by criterion; MISSING where it did not judge."""
    found = outcomes.reindex(list(questions))
    return {str(criterion): found[criterion].fillna(MISSING).to_numpy().astype(np.int8) for criterion in found.columns}


def keep_analysis(
    folder: Path, tables: Tables, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], mark: str | None
) -> Path:
    """Write every table as CSV, the judgments as Parquet and the summary as JSON."""
    folder = folder / "analysis"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, table in tables.items():
        with atomic_file(folder / f"{name}.csv", "w") as stream:
            (table.assign(note=mark) if mark else table).to_csv(stream, index=False)
    with atomic_file(folder / "judgments.parquet") as stream:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=JUDGMENTS), stream)
    _write_json(folder / "summary.json", summary)
    return folder


def _load(path: Path, command: str) -> dict[str, Any]:
    if not path.exists():
        raise IncompleteError(f"{path} is not there yet. Make it with: {command} DIR")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write_json(path: Path, content: object) -> Path:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))
    return path
