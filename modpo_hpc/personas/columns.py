"""What the columns of a survey mean: headers are matched loosely, by a mapping that people can edit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.resources import resource

BUILT_IN = "configs/survey/columns.yaml"
CRITERIA = ("empathy", "active_listening", "self_motivated_change", "trust_rapport", "patient_autonomy")
ATTITUDES = ("accessibility", "empathy", "errors", "complement", "trust")
KNOWN = {
    *("participant", "age_group", "gender", "ethnicities", "diagnoses", "severity", "treatment", "experience"),
    *(f"attitude_{name}" for name in ATTITUDES),
    *(f"importance_{name}" for name in CRITERIA),
    *("helpful_areas", "appropriate_uses"),
}
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
class Columns:
    """The mapping of a survey: its fields, and the words of its answers.

    ``scales`` maps agreement, trust and rating to {words: 1..5}; ``groups`` maps gender and ethnicity to
    {group: words}, in the order in which a person with several answers is assigned to one group.
    """

    fields: Mapping[str, Field]
    scales: Mapping[str, Mapping[str, int]]
    groups: Mapping[str, Mapping[str, tuple[str, ...]]]
    missing: frozenset[str]
    nothing: frozenset[str]


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
                scale: {plain(str(words)): int(level) for level, listed in answers[scale].items() for words in listed}
                for scale in ("agreement", "trust", "rating")
            },
            groups={
                name: {group: tuple(plain(str(words)) for words in listed) for group, listed in answers[name].items()}
                for name in ("gender", "ethnicity")
            },
            missing=frozenset(plain(str(words)) for words in answers["missing"]),
            nothing=frozenset(plain(str(words)) for words in answers["nothing"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"the column mapping lacks or garbles something ({error!r})",
            file=file,
            remedy=f"Compare it with {BUILT_IN}.",
        ) from error
    needed = {"age_group", "gender", "ethnicities", *(f"importance_{name}" for name in CRITERIA)}
    if absent := sorted(needed - fields.keys()):
        raise InputError(
            "the column mapping has no entry for this",
            file=file,
            field=f"fields.{absent[0]}",
            remedy="Add it.",
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
    optional = bool(entry.get("optional", False))
    return Field(name, kind, str(entry["question"]), tuple(str(one) for one in phrases), optional)
