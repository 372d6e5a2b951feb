"""Sets of criteria: YAML files that people edit, read into records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.judging.tasks import Criterion
from modpo_hpc.resources import resource

_FIELDS = {"title", "definition", "better", "worse", "source"}


def load_criteria(files: Sequence[Path], names: Sequence[str]) -> tuple[Criterion, ...]:
    """The criteria called ``names``, in that order, from ``files`` (a later file may not repeat a name).

    Raises:
        InputError: unreadable file, unknown or missing field, a name that no file defines or two define.
    """
    known: dict[str, Criterion] = {}
    for file in files:
        for criterion in _read(file):
            if criterion.name in known:
                raise InputError(
                    "this criterion is defined twice",
                    file=file,
                    field=f"criteria.{criterion.name}",
                    remedy="Give one of them another name, or leave one of the files out of criteria.files.",
                )
            known[criterion.name] = criterion
    for name in names:
        if name not in known:
            raise InputError(
                "no file of the study defines this criterion",
                file=", ".join(str(file) for file in files),
                field="criteria",
                value=name,
                remedy=f"Defined are: {', '.join(known)}. Correct the name, or define it in a file of criteria.files.",
            )
    return tuple(known[name] for name in names)


def _read(file: Path) -> list[Criterion]:
    try:
        path = file if file.is_absolute() else resource(str(file))
        path.stat()
    except (InputError, OSError) as error:
        raise InputError(
            "there is no such file of criteria",
            file=file,
            field="criteria.files",
            remedy="Correct the path, from the folder of the study file; configs/criteria/... come with the project.",
        ) from error
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError, OSError) as error:
        raise InputError(
            f"the criteria cannot be read: {error}", file=path, remedy="It must be YAML in UTF-8."
        ) from error
    entries = raw.get("criteria") if isinstance(raw, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise InputError(
            "this file has no mapping 'criteria'", file=path, remedy="Start from configs/criteria/therapeutic.yaml."
        )
    return [_criterion(path, str(name), entry) for name, entry in entries.items()]


def _criterion(path: Path, name: str, entry: Any) -> Criterion:
    field = f"criteria.{name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("definition"), str) or not entry["definition"].strip():
        raise InputError("this criterion has no definition", file=path, field=field, remedy="Say what it means.")
    if unknown := sorted(set(entry) - _FIELDS):
        raise InputError(
            f"this criterion has a field that is not known: {unknown[0]}",
            file=path,
            field=field,
            remedy=f"Fields are: {', '.join(sorted(_FIELDS))}.",
        )
    signs = {side: entry.get(side, []) for side in ("better", "worse")}
    for side, phrases in signs.items():
        if not isinstance(phrases, list) or any(not isinstance(phrase, str) for phrase in phrases):
            raise InputError(
                "this is not a list of phrases",
                file=path,
                field=f"{field}.{side}",
                remedy="Write one phrase a line, each after '- '.",
            )
    return Criterion(
        name=name,
        title=str(entry.get("title", name.replace("_", " ").capitalize())),
        definition=" ".join(entry["definition"].split()),
        better=tuple(" ".join(sign.split()) for sign in signs["better"]),
        worse=tuple(" ".join(sign.split()) for sign in signs["worse"]),
    )
