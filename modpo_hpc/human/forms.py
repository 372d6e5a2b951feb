"""The forms that raters fill in: who sees which questions, in which order, and the key that stays with the study."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import TypeAdapter

from modpo_hpc.errors import InputError
from modpo_hpc.human.sample import PolicyPair, Sample
from modpo_hpc.judging.tasks import Criterion
from modpo_hpc.seeds import rng_of
from modpo_hpc.study.human import Human

CHOICES = ("A", "B", "equal")
PREFIX = "answers_"


@dataclass(frozen=True)
class KeyItem:
    """What one item of a form is: the policy behind response A, or the answer that an attention check asks for."""

    item: str
    question_id: str | None
    shown_as_a: str | None
    expected: str | None = None


@dataclass(frozen=True)
class Form:
    """One rater's form: what its items are, in ``key``, which the page must not know."""

    form_id: str
    key: tuple[KeyItem, ...]


@dataclass(frozen=True)
class Key:
    """The key of all forms of a study. Without it the answers say nothing.

    Who stands on which side is drawn from ``secret``, so that nobody who has the page, the code and the study's seed
    can draw it again; and the stamp on the page, a hash of the key with its secret, gives no guess away as right.
    """

    comparison: PolicyPair
    criteria: tuple[str, ...]
    forms: tuple[Form, ...]
    failures_allowed: int
    completion_code: str | None
    secret: str

    @property
    def stamp(self) -> str:
        """Short hash that ties pages and answers to this key."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def as_json(self) -> dict[str, Any]:
        """The key as a JSON object."""
        return {**asdict(self), "stamp": self.stamp}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Key:
        """The key in the JSON object ``raw``."""
        return TypeAdapter(cls).validate_python(raw)


def new_secret() -> str:
    """What the blinding of one set of forms rests on: 128 bits from the machine's source of randomness."""
    return secrets.token_hex(16)


def new_code() -> str:
    """A completion code that nobody can guess: eight letters and digits that are not mistaken for one another."""
    return "".join(secrets.choice("23456789ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(8))


def forms_for_everyone(sample: Sample, raters: int, attention: int, secret: str) -> tuple[Form, ...]:
    """A form of all questions for each of ``raters``, each in an order of its own.

    Raises:
        InputError: no rater.
    """
    if raters < 1:
        raise InputError("at least one rater is needed", field="--raters", value=raters, remedy="Give 1 or more.")
    return tuple(
        _form(f"rater{number:02d}", sample.questions, sample.comparison, attention, secret)
        for number in range(1, raters + 1)
    )


def forms_for_many(
    sample: Sample, raters_per_question: int, questions_per_form: int, attention: int, secret: str
) -> tuple[Form, ...]:
    """Short forms for a crowd: each question is on exactly ``raters_per_question`` forms, never twice on one.

    For each rater that a question is to have, all questions are shuffled anew and cut into forms of about
    ``questions_per_form``.

    Raises:
        InputError: fewer than one rater a question or question a form.
    """
    for field, value in (("--raters-per-question", raters_per_question), ("--questions-per-form", questions_per_form)):
        if value < 1:
            raise InputError("this must be one or more", field=field, value=value, remedy="Give 1 or more.")
    cuts = max(1, round(len(sample.questions) / questions_per_form))
    forms: list[Form] = []
    for turn in range(raters_per_question):
        order = rng_of(secret, "human", "cut", turn).permutation(len(sample.questions))
        for cut in range(cuts):
            part = order[cut * len(order) // cuts : (cut + 1) * len(order) // cuts]
            questions = [sample.questions[place] for place in part]
            forms.append(_form(f"form{len(forms) + 1:03d}", questions, sample.comparison, attention, secret))
    return tuple(forms)


def _form(form_id: str, questions: Sequence[str], comparison: PolicyPair, attention: int, secret: str) -> Form:
    rng = rng_of(secret, "human", "form", form_id)
    order = [questions[place] for place in rng.permutation(len(questions))]
    # either policy stands on the left as often as the other, for every rater
    a_first = rng.permutation(len(order)) < (len(order) + int(rng.integers(2))) // 2
    items: list[tuple[str | None, str | None, str | None]] = [
        (question, comparison.a if first else comparison.b, None)
        for question, first in zip(order, a_first, strict=True)
    ]
    for check in range(attention):
        # spread over the form, never first: (1/n, 2/n, ...) of the way
        place = round((check + 1) * (len(order) + 1) / (attention + 1)) + check
        items.insert(min(max(place, 1), len(items)), (None, None, CHOICES[int(rng.integers(3))]))
    return Form(form_id, tuple(KeyItem(f"i{number:03d}", *item) for number, item in enumerate(items, start=1)))


def render(
    form: Form,
    key: Key,
    questions: Mapping[str, str],
    answers: Mapping[str, Mapping[str, str]],
    criteria: Sequence[Criterion],
    words: Human,
    mark: str | None,
) -> str:
    """The page of ``form``: one file that works from disk, without the names of the policies and without the key.

    Args:
        questions: question id -> post.
        answers: policy -> question id -> answer.
        words: what the study tells its raters.
    """
    environment = Environment(
        loader=PackageLoader("modpo_hpc.human"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = {
        "form": form.form_id,
        "stamp": key.stamp,
        "code": key.completion_code,
        "criteria": [{"name": one.name, "title": one.title, "definition": one.definition} for one in criteria],
        "items": [_content(item, key.comparison, questions, answers) for item in form.key],
    }
    # "<" never occurs in the data block, so no text can end it or start another element
    data = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    return environment.get_template("form.html.j2").render(
        words=words, data=data, form_id=form.form_id, mark=mark, prefix=PREFIX, crowd=key.completion_code is not None
    )


def shown(item: KeyItem, comparison: PolicyPair, answers: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """The responses A and B of an ``item`` that is no attention check; ``answers``: policy -> question id -> answer."""
    assert item.question_id is not None
    a, b = (answers[policy][item.question_id] for policy in (comparison.a, comparison.b))
    return (a, b) if item.shown_as_a == comparison.a else (b, a)


def _content(
    item: KeyItem, comparison: PolicyPair, questions: Mapping[str, str], answers: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    if item.question_id is None:
        assert item.expected is not None
        wish = {"A": "Response A", "B": "Response B", "equal": "Both equally"}[item.expected]
        return {
            "item": item.item,
            "post": f"This is an attention check, not a message. Please choose “{wish}” for every criterion below.",
            **dict.fromkeys(("a", "b"), "(There is nothing to compare here.)"),
        }
    a, b = shown(item, comparison, answers)
    return {"item": item.item, "post": questions[item.question_id], "a": a, "b": b}
