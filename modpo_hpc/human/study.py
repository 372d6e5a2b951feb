"""The files of a human study inside a run: ``human/`` with the sample, the key, the forms and the analysis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.evaluation.toxicity import answers_of
from modpo_hpc.human.analysis import Tables
from modpo_hpc.human.answers import JUDGMENTS, MISSING
from modpo_hpc.human.forms import PREFIX, Form, Key, render
from modpo_hpc.human.measures import Labels
from modpo_hpc.human.sample import Comparison, Sample
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.run import Run
from modpo_hpc.shards import atomic_file


def folder_of(run: Run) -> Path:
    """Where a run keeps its human study, closed to others."""
    folder = run.root / "human"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def keep_sample(run: Run, sample: Sample) -> Path:
    """Write the sample.

    Raises:
        InputError: there are forms already, which rest on another sample.
    """
    folder = folder_of(run)
    if (folder / "key.json").exists():
        raise InputError(
            "the forms of this run are made already, from another sample",
            file=folder / "key.json",
            remedy="Remove the folder human/ if no answers are out yet, or use another run.",
        )
    return _write_json(folder / "sample.json", sample.as_json())


def load_sample(run: Run) -> Sample:
    """The sample of the run.

    Raises:
        IncompleteError: none is drawn.
    """
    raw = _load(run, "sample.json", "modpo human sample")
    return Sample(
        Comparison(**raw["comparison"]),
        tuple(raw["questions"]),
        tuple(raw["strata"]),
        tuple(raw["profile"]),
        raw["seed"],
    )


def load_key(run: Run) -> Key:
    """The key of the run's forms.

    Raises:
        IncompleteError: no forms are made.
    """
    return Key.from_json(_load(run, "key.json", "modpo human forms"))


def texts_of(run: Run, comparison: Comparison) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Posts by question, and the answers of both policies by question."""
    posts = {one.question_id: one.text for one in study_questions(run, "test")}
    answers = {
        policy: {one.question_id: one.answer for one in answers_of(run, policy)}
        for policy in (comparison.a, comparison.b)
    }
    return posts, answers


def keep_forms(run: Run, key: Key, title: str, mark: str | None) -> list[Path]:
    """Write the key and a page for each form.

    Raises:
        InputError: there are forms already.
    """
    folder = folder_of(run)
    if (folder / "key.json").exists():
        raise InputError(
            "the forms of this run are made already",
            file=folder / "forms",
            remedy="New forms make answers to the old ones useless. Remove the folder human/ if none are out yet.",
        )
    criteria = load_criteria(run.study.criteria.files, key.criteria)
    posts, answers = texts_of(run, key.comparison)
    pages = []
    for form in key.forms:
        page = folder / "forms" / f"{form.form_id}.html"
        page.parent.mkdir(mode=0o700, exist_ok=True)
        with atomic_file(page, "w") as stream:
            stream.write(render(form, key, posts, answers, criteria, title, mark))
        pages.append(page)
    _write_json(folder / "key.json", key.as_json())
    return pages


def keep_answers(run: Run, form: Form, filled: Mapping[str, object]) -> Path:
    """Write a file of answers as a rater's browser would."""
    folder = folder_of(run) / "answers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return _write_json(folder / f"{PREFIX}{form.form_id}.json", filled)


def model_labels(outcomes: pd.DataFrame, questions: Sequence[str]) -> dict[str, Labels]:
    """The model's label of each of ``questions``, by criterion; MISSING where it did not judge."""
    found = outcomes.reindex(list(questions))
    return {str(criterion): found[criterion].fillna(MISSING).to_numpy().astype(np.int8) for criterion in found.columns}


def keep_analysis(
    run: Run, tables: Tables, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], mark: str | None
) -> Path:
    """Write every table as CSV, the judgments as Parquet and the summary as JSON."""
    folder = folder_of(run) / "analysis"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, table in tables.items():
        with atomic_file(folder / f"{name}.csv", "w") as stream:
            (table.assign(note=mark) if mark else table).to_csv(stream, index=False)
    with atomic_file(folder / "judgments.parquet") as stream:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=JUDGMENTS), stream)
    _write_json(folder / "summary.json", summary)
    return folder


def _load(run: Run, name: str, command: str) -> dict[str, Any]:
    path = run.root / "human" / name
    if not path.exists():
        raise IncompleteError(f"{path} is not there yet. Make it with: {command} {run.root}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write_json(path: Path, content: object) -> Path:
    with atomic_file(path, "w") as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False)
    return path
