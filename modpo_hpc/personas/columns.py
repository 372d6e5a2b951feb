"""What the columns of a survey mean: headers are matched loosely, by a mapping that people can edit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.resources import resource

BUILT_IN = "configs/survey/columns.yaml"
GROUPS = ("age_group", "gender", "ethnicities")
"""The fields that every survey has: personas are balanced by them."""

ATTITUDE, IMPORTANCE = "attitude_", "importance_"
Kind = Literal["id", "one", "several", "agreement", "trust", "rating"]


@dataclass(frozen=True)
class Field:
    """One thing that the survey asks: how its column is found and how its answers are read."""

    name: str
    kind: Kind
    question: str
    phrases: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Line:
    """How a persona's text tells the answer to ``field``: after a label (alone where that is empty), or in the sentence
    of its level (1 to 5).

    ``none`` is the sentence for an answer that lists nothing, empty where that is told like any other.
    """

    field: str
    label: str = ""
    sentences: tuple[str, ...] = ()
    none: str = ""


@dataclass(frozen=True)
class Check:
    """A contradiction: something in ``field`` beside "none"; or ``word`` in it, although ``although`` lists none."""

    name: str
    field: str
    word: str = ""
    although: str = ""


@dataclass(frozen=True)
class Columns:
    """The mapping of a survey: its fields, the words of its answers, its checks, and the text of a persona.

    ``sections`` gives the title and the lines of each section after ``opening``. ``scales`` maps agreement, trust and
    rating to {words: 1..5}; ``groups`` maps gender and ethnicity to {group: words}, in the order in which a person
    with several answers is assigned to one group.
    """

    fields: Mapping[str, Field]
    scales: Mapping[str, Mapping[str, int]]
    groups: Mapping[str, Mapping[str, tuple[str, ...]]]
    missing: frozenset[str]
    nothing: frozenset[str]
    checks: tuple[Check, ...]
    opening: str
    sections: tuple[tuple[str, tuple[Line, ...]], ...]

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria whose importance the survey asks for."""
        return tuple(name.removeprefix(IMPORTANCE) for name in self.fields if name.startswith(IMPORTANCE))

    @property
    def told(self) -> tuple[str, ...]:
        """The fields of a person besides id and ratings."""
        return tuple(name for name, one in self.fields.items() if name in GROUPS or one.kind in ("one", "several"))


def plain(text: str) -> str:
    """``text`` in lower case, its words separated by single spaces, without accents, punctuation and numbering.

    >>> plain("7b.  Self-Motivated CHANGE?")
    'self motivated change'
    """
    folded = unicodedata.normalize("NFKD", text).casefold()
    folded = "".join(one for one in folded if not unicodedata.combining(one)).replace("'", "").replace("\u2019", "")
    folded = re.sub(r"^\W*(?:q\d+|\d+\s*[a-z]?)\s*[.):_-]+", " ", folded)
    return " ".join(re.findall(r"[^\W_]+", folded))


def load_columns(path: Path | None = None) -> Columns:
    """The mapping in ``path``, or the built-in one.

    Raises:
        InputError: the file is missing, is no YAML, or lacks something.
    """
    file = resource(BUILT_IN) if path is None else Path(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "there is no such column mapping", file=file, remedy=f"Start from a copy of {BUILT_IN}."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"the column mapping cannot be read: {error}", file=file, remedy="It must be YAML in UTF-8."
        ) from error
    try:
        fields = {name: _field(name, entry, file) for name, entry in raw["fields"].items()}
        answers = raw["answers"]
        columns = Columns(
            fields=fields,
            scales={
                scale: {words: int(level) for level, listed in answers[scale].items() for words in _plainly(listed)}
                for scale in ("agreement", "trust", "rating")
            },
            groups={
                name: {group: _plainly(listed) for group, listed in answers[name].items()}
                for name in ("gender", "ethnicity")
            },
            missing=frozenset(_plainly(answers["missing"])),
            nothing=frozenset(_plainly(answers["nothing"])),
            checks=tuple(_check(name, entry) for name, entry in raw.get("checks", {}).items()),
            opening=str(raw["persona"]["opening"]),
            sections=tuple(
                (str(section["title"]), tuple(_line(name, entry) for name, entry in section["lines"].items()))
                for section in raw["persona"]["sections"]
            ),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"the column mapping lacks or garbles something ({error!r})",
            file=file,
            remedy=f"Compare it with {BUILT_IN}.",
        ) from error
    used = {line.field for _, lines in columns.sections for line in lines}
    used |= {name for check in columns.checks for name in (check.field, check.although) if name}
    if absent := sorted((used | set(GROUPS)) - fields.keys()):
        raise InputError(
            "the column mapping has no entry for this",
            file=file,
            field=f"fields.{absent[0]}",
            remedy="Add it, or take it out of persona.sections and checks."
            if absent[0] not in GROUPS
            else "Add it: personas are balanced by it. It may be optional: true.",
        )
    return columns


def match_headers(headers: Sequence[str], columns: Columns, source: str | Path) -> dict[str, str]:
    """Which header holds which field: {field: header}.

    Raises:
        InputError: a field that is needed has no column, or two columns that fit it equally well.
    """
    claims: dict[str, list[tuple[int, str]]] = {}
    for header in headers:
        words = set(plain(header).split())
        fits = sorted(
            (
                (max(len(phrase.split()) for phrase in fitting), field.name)
                for field in columns.fields.values()
                if (fitting := [phrase for phrase in map(plain, field.phrases) if set(phrase.split()) <= words])
            ),
            reverse=True,
        )
        if len(fits) > 1 and fits[0][0] == fits[1][0]:
            raise InputError(
                f"this header fits two fields, {fits[0][1]} and {fits[1][1]}",
                file=source,
                field=header,
                remedy="Give one of them a longer phrase in the column mapping (personas.columns).",
            )
        if fits:
            claims.setdefault(fits[0][1], []).append((fits[0][0], header))
    found = {}
    for field in columns.fields.values():
        claimed = sorted(claims.get(field.name, ()), reverse=True)
        if not claimed and not field.optional:
            raise InputError(
                f"no column of the survey fits the field {field.name}",
                file=source,
                field=field.name,
                remedy=f"Its header should hold the words of one of: {'; '.join(field.phrases)}. Rename the column, "
                "or add a phrase to the column mapping (personas.columns).",
            )
        if len(claimed) > 1 and claimed[0][0] == claimed[1][0]:
            raise InputError(
                f"two columns fit the field {field.name}: {claimed[0][1]!r} and {claimed[1][1]!r}",
                file=source,
                field=field.name,
                remedy="Remove one, or give the field a longer phrase in the column mapping (personas.columns).",
            )
        if claimed:
            found[field.name] = claimed[0][1]
    return found


def _field(name: str, entry: Mapping[str, Any], file: Path) -> Field:
    kind, phrases = entry["kind"], entry["phrases"]
    if kind not in get_args(Kind):
        raise InputError(
            "there is no such kind of answer",
            file=file,
            field=f"fields.{name}.kind",
            value=kind,
            remedy=f"Kinds: {', '.join(get_args(Kind))}.",
        )
    if not isinstance(phrases, list) or not phrases:
        raise InputError(
            "phrases must be a list", file=file, field=f"fields.{name}.phrases", remedy="Give at least one phrase."
        )
    prefix = {"agreement": ATTITUDE, "trust": ATTITUDE, "rating": IMPORTANCE}.get(kind, "")
    if not name.startswith(prefix):
        raise InputError(
            f"a field of kind {kind} has a name that begins with {prefix}",
            file=file,
            field=f"fields.{name}",
            remedy=f"Call it {prefix}{name}.",
        )
    optional = bool(entry.get("optional", False))
    return Field(name, kind, str(entry["question"]), tuple(str(one) for one in phrases), optional)


def _plainly(listed: Iterable[object]) -> tuple[str, ...]:
    return tuple(plain(str(words)) for words in listed)


def _line(name: str, entry: Any) -> Line:
    if isinstance(entry, str):
        return Line(name, label=entry)
    if isinstance(entry, list):
        if len(entry) != 5:
            raise ValueError(f"persona.sections: {name} has {len(entry)} sentences, a scale has 5")
        return Line(name, sentences=tuple(str(one) for one in entry))
    return Line(name, label=str(entry["label"]), none=str(entry.get("none", "")))


def _check(name: str, entry: Mapping[str, Any]) -> Check:
    if "beside_none" in entry:
        return Check(name, entry["beside_none"])
    return Check(name, entry["of"], plain(str(entry["word"])), entry["although_none"])
