"""What raters handed in: read, checked against the key, unblinded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.human.forms import CHOICES, Form, Key
from modpo_hpc.human.sample import WORDS

WON_A, TIE, WON_B, MISSING = 1, 0, -1, 2
CODES = {word: label for label, word in WORDS.items()}

JUDGMENTS = pa.schema(
    [
        ("rater", pa.string()),
        ("form", pa.string()),
        ("question_id", pa.string()),
        ("criterion", pa.string()),
        ("winner", pa.string()),
        ("first", pa.string()),
        ("seconds", pa.float64()),
        ("simulated", pa.bool_()),
    ]
)
"""One row a rater, question and criterion. ``winner`` and ``first`` (shown as response A): "A", "B" or "tie" of the
comparison, as in verdicts."""


@dataclass(frozen=True)
class Handed:
    """One file of answers that fits its form."""

    path: Path
    form: Form
    answers: Mapping[str, Mapping[str, str]]
    seconds: Mapping[str, float]
    participant: str
    simulated: bool

    def failed_checks(self, criteria: Sequence[str]) -> int:
        """Attention checks that were not answered as asked for."""
        return sum(
            any(self.answers.get(item.item, {}).get(criterion) != item.expected for criterion in criteria)
            for item in self.form.key
            if item.expected is not None
        )


@dataclass(frozen=True)
class Ratings:
    """Everyone's judgments.

    ``labels`` is int8 (raters x questions x criteria): WON_A, WON_B, TIE, or MISSING where a rater was not asked or
    did not answer. ``excluded``: raters left out for failed attention checks, with the number they failed.
    """

    raters: tuple[str, ...]
    questions: tuple[str, ...]
    criteria: tuple[str, ...]
    labels: np.ndarray
    excluded: Mapping[str, int]
    simulated: bool


def read_answers(paths: Sequence[Path], key: Key, allow_partial: bool) -> list[Handed]:
    """The files in ``paths``, each held against the form it answers.

    Raises:
        InputError: a file that is none of this study's, of another study, a second one of the same form, or of a
            participant who handed in another form.
        IncompleteError: a partial one, unless ``allow_partial``.
    """
    forms = {form.form_id: form for form in key.forms}
    handed: dict[str, Handed] = {}
    partial: list[str] = []
    for path in paths:
        one = _read(path, key, forms)
        form_id = one.form.form_id
        if form_id in handed:
            raise InputError(
                f"form {form_id} was handed in twice, here and in {handed[form_id].path}",
                file=path,
                field="form",
                value=form_id,
                remedy="Keep the later one; two raters may not share a form.",
            )
        same = [other for other in handed.values() if one.participant and other.participant == one.participant]
        if same:
            raise InputError(
                f"the same participant handed in form {form_id} and form {same[0].form.form_id} ({same[0].path})",
                file=path,
                field="participant",
                remedy="Keep one of the two: a person may count once for a question.",
            )
        handed[form_id] = one
        wanting = [
            item.item
            for item in one.form.key
            if any(not one.answers.get(item.item, {}).get(criterion) for criterion in key.criteria)
        ]
        if wanting:
            partial.append(f"{path}: {len(wanting)} of {len(one.form.key)} questions are not complete")
    if partial and not allow_partial:
        raise IncompleteError(
            "; ".join(partial) + ". Ask the raters to go on from their files, or count what is there with --partial"
        )
    return [handed[form.form_id] for form in key.forms if form.form_id in handed]


def judgments(handed: Sequence[Handed], key: Key) -> list[dict[str, Any]]:
    """Rows of ``JUDGMENTS``, unblinded, of everyone, with those who are excluded later."""
    rows = []
    for one in handed:
        for item in one.form.key:
            if item.question_id is None:
                continue
            first, second = ("A", "B") if item.shown_as_a == key.comparison.a else ("B", "A")
            unblinded = {"A": first, "B": second, "equal": "tie"}
            for criterion in key.criteria:
                if chosen := one.answers.get(item.item, {}).get(criterion):
                    rows.append(
                        {
                            "rater": one.form.form_id,
                            "form": one.form.form_id,
                            "question_id": item.question_id,
                            "criterion": criterion,
                            "winner": unblinded[chosen],
                            "first": first,
                            "seconds": one.seconds.get(item.item),
                            "simulated": one.simulated,
                        }
                    )
    return rows


def ratings_of(handed: Sequence[Handed], key: Key, questions: Sequence[str]) -> Ratings:
    """The judgments as an array, without the raters who failed more attention checks than the study allows.

    Raises:
        IncompleteError: nobody is left.
    """
    failed = {one.form.form_id: one.failed_checks(key.criteria) for one in handed}
    excluded = {rater: count for rater, count in failed.items() if count > key.failures_allowed}
    kept = [one for one in handed if one.form.form_id not in excluded]
    if not kept:
        raise IncompleteError(f"none of {len(handed)} files can be used: all raters failed the attention checks")
    raters = tuple(one.form.form_id for one in kept)
    labels = np.full((len(raters), len(questions), len(key.criteria)), MISSING, dtype=np.int8)
    places = {question: place for place, question in enumerate(questions)}
    for row in judgments(kept, key):
        rater, criterion = raters.index(row["rater"]), key.criteria.index(row["criterion"])
        labels[rater, places[row["question_id"]], criterion] = CODES[row["winner"]]
    return Ratings(raters, tuple(questions), key.criteria, labels, excluded, any(one.simulated for one in kept))


def _read(path: Path, key: Key, forms: Mapping[str, Form]) -> Handed:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror}", file=path, remedy="Check the path.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"this is no file of answers ({error})", file=path, remedy="Ask the rater to save the answers again."
        ) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("answers"), dict) or raw.get("form") not in forms:
        raise InputError(
            "this file does not answer any form of this study",
            file=path,
            field="form",
            value=raw.get("form") if isinstance(raw, dict) else None,
            remedy=f"Forms are: {', '.join(list(forms)[:8])}{' ...' if len(forms) > 8 else ''}.",
        )
    if raw.get("stamp") != key.stamp:
        raise InputError(
            "these answers belong to forms that were made at another time",
            file=path,
            field="stamp",
            value=raw.get("stamp"),
            remedy="Analyze them in the run whose forms they answer; new forms make the old ones useless.",
        )
    form = forms[raw["form"]]
    known = {item.item for item in form.key}
    for item, given in raw["answers"].items():
        if item not in known or not isinstance(given, dict):
            raise InputError(
                "this question is not on the form", file=path, field=f"answers.{item}", remedy="Get the file again."
            )
        for criterion, choice in given.items():
            if criterion not in key.criteria or choice not in CHOICES:
                raise InputError(
                    "this is no answer of the form",
                    file=path,
                    field=f"answers.{item}.{criterion}",
                    value=str(choice)[:20],
                    remedy=f"Answers are: {', '.join(CHOICES)}. Get the file again.",
                )
    return Handed(
        path,
        form,
        raw["answers"],
        {item: float(value) for item, value in (raw.get("seconds") or {}).items()},
        str(raw.get("participant") or ""),
        bool(raw.get("simulated", False)),
    )
