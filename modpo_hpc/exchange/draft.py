"""The files of a new study in any field: posts, criteria, people, and the study that names them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from modpo_hpc.core.atomic import atomic_file, write_text
from modpo_hpc.data.files import read_csv, read_text, write_csv
from modpo_hpc.data.questions import usable_posts
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.exports import refuse_taken
from modpo_hpc.exchange.source_card import draft_card
from modpo_hpc.personas.columns import plain
from modpo_hpc.seeds import rng_of
from modpo_hpc.study.data import INVENTED, Data
from modpo_hpc.study.judging import GENERIC

PEOPLE = 12
POSTS_OF_A_TRIAL = 200
_GROUPS = {
    "age_group": ("one", {"age", "old"}),
    "gender": ("one", {"gender", "sex"}),
    "ethnicities": ("several", {"ethnicity", "background"}),
}
"""Group -> kind of the field, and the words by which a header is known."""


@dataclass(frozen=True)
class Draft:
    """What a new study is made from. ``criteria`` is name -> definition.

    People are those of a ``survey`` (CSV), or of ``personas``: texts in the column ``persona_column``, and beside them
    columns of groups and ratings as a survey has. Without either they are invented.
    """

    name: str
    posts: Path
    id_column: str
    text_column: str
    criteria: Mapping[str, str]
    scene: str
    instruction: str
    survey: Path | None = None
    personas: Path | None = None
    persona_column: str = "text"
    model: str = "sandbox"
    judge: Mapping[str, Any] | None = None


def write_draft(draft: Draft, folder: Path) -> Path:
    """Write the study into ``folder`` and return its file.

    Raises:
        InputError: the folder holds files, or the posts, criteria or survey are wrong; nothing is written then.
    """
    refuse_taken(folder)
    if not draft.criteria:
        raise InputError("a study needs a criterion", field="criteria", remedy='Give one: "name: what is better".')
    for name in draft.criteria:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            problem = "a criterion's name has small letters, digits and _ alone"
            raise InputError(problem, field="criteria", value=name, remedy="Rename it.")
    if draft.survey and draft.personas:
        raise InputError(
            "people come from a survey or from texts, and both are given", field="personas", value=draft.personas,
            remedy="Give one of them.",
        )  # fmt: skip
    posts = _posts(draft)
    headers, people = _people(draft)
    columns = _columns(headers, draft)
    survey = str(draft.survey.resolve()) if draft.survey else "people.csv"
    with TemporaryDirectory() as scratch:
        _write(Path(scratch) / "posts.csv", posts, ("id", "text"))
        account = usable_posts(Data(file=Path(scratch) / "posts.csv", id_column="id", text_column="text"), 0)[1]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "posts.csv", posts, ("id", "text"))
    if people:
        _write(folder / survey, people, headers)
    card = draft_card(draft.name, _file_of_posts(draft), account, _file_of_people(draft, headers, columns))
    write_text(folder / "card.md", card)
    criteria = {name: {"title": name.replace("_", " ").capitalize(), "definition": text, "source": "own"}
                for name, text in draft.criteria.items()}  # fmt: skip
    _yaml(folder / "criteria.yaml", {"criteria": criteria})
    _yaml(folder / "columns.yaml", columns)
    _yaml(folder / "study.yaml", _study(draft, survey, len(posts)))
    return folder / "study.yaml"


def _posts(draft: Draft) -> list[dict[str, str]]:
    needed = (draft.text_column, *([draft.id_column] if draft.id_column else []))
    return [
        {"id": str(row[draft.id_column]) if draft.id_column else f"post{number}", "text": str(row[draft.text_column])}
        for number, row in enumerate(_rows(draft.posts, needed), start=1)
    ]


def _people(draft: Draft) -> tuple[Sequence[str], list[dict[str, str]]]:
    """The columns of the survey, and the rows that are to be written; none where it stays the file it is."""
    if draft.survey:
        return read_csv(draft.survey).header, []
    given = draft.personas
    rows = _rows(given, (draft.persona_column,)) if given else _invented_people(draft.criteria)
    headers = list(dict.fromkeys(name for row in rows for name in row))
    return headers, [{name: str(row.get(name, "")) for name in headers} for row in rows]


def _file_of_posts(draft: Draft) -> str:
    identity = f"`{draft.id_column}` (id)" if draft.id_column else "ids given by `modpo new`"
    return (
        f"File: `{draft.posts.name}`, of its columns {identity} and `{draft.text_column}` (text), kept in `posts.csv`"
    )


def _file_of_people(draft: Draft, headers: Sequence[str], columns: Mapping[str, Any]) -> str:
    file = draft.survey or draft.personas
    if file is None:
        return ""
    found = {phrase: name for name, field in columns["fields"].items() for phrase in field["phrases"]}
    listed = ", ".join(f"`{header}` ({found[plain(header)]})" for header in headers)
    return f"File: `{file.name}`, its columns and what they are read as: {listed}"


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV file, of JSON lines, or of the folder of a dataset, each with the columns ``needed``."""
    if path.suffix == ".jsonl":
        return _json_lines(path, needed)
    if not path.is_dir():
        return [row for _, row in read_csv(path, needed).rows]
    from datasets import load_dataset

    found = load_dataset(str(path), split="train")
    for name in needed:
        if name not in found.column_names:
            raise InputError(
                f"this dataset has no column {name!r}", file=path, field="column",
                remedy=f"Its columns are: {', '.join(found.column_names)}.",
            )  # fmt: skip
    return [dict(one) for one in found]


def _json_lines(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"line {number}, column {error.colno}: this is no JSON ({error.msg})", file=path, remedy="Mend it."
            ) from error
        if absent := [name for name in needed if not isinstance(row, dict) or name not in row]:
            raise InputError(f"line {number} has no {absent[0]!r}", file=path, field=absent[0], remedy="Add it.")
        rows.append(row)
    return rows


def _invented_people(criteria: Iterable[str]) -> list[dict[str, str]]:
    rng = rng_of("invented people")
    return [
        {
            "How old are you?": str(rng.integers(18, 80)),
            "What is your gender?": ("woman", "man")[number % 2],
            **{f"How important: {one.replace('_', ' ')}": str(rng.integers(1, 6)) for one in criteria},
        }
        for number in range(2 * PEOPLE)
    ]


def _columns(headers: Sequence[str], draft: Draft) -> dict[str, Any]:
    """A mapping of the survey: groups and ratings by the words of the headers, all else told as it was answered."""
    fields: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for header in headers:
        if draft.personas and header == draft.persona_column:
            fields["told_text"] = {"kind": "one", "question": "who this person is", "phrases": [plain(header)]}
            lines["told_text"] = ""
            continue
        words = set(plain(header).split())
        name, kind = "told_" + re.sub(r"\W+", "_", plain(header))[:40], "several"
        if group := next((one for one, (_, marks) in _GROUPS.items() if words & marks and one not in fields), None):
            name, kind = group, _GROUPS[group][0]
        elif rated := next((one for one in draft.criteria if set(one.split("_")) <= words), None):
            name, kind = f"importance_{rated}", "rating"
        fields[name] = {"kind": kind, "question": header, "phrases": [plain(header)], "optional": True}
        lines[name] = header
    for group, (kind, _) in _GROUPS.items():
        absent = {"kind": kind, "question": group, "phrases": [f"no column of {group}"], "optional": True}
        fields.setdefault(group, absent)
    return {
        "fields": fields,
        "answers": {
            "missing": ["n/a", "no answer"],
            "agreement": {},
            "trust": {},
            "rating": {1: ["not important"], 2: ["a little important"], 3: ["somewhat important"], 4: ["important"],
                       5: ["very important"]},
            "gender": {"Female": ["female", "woman", "girl"], "Male": ["male", "man", "boy"],
                       "Non-binary": ["non binary"]},
            "ethnicity": {},
            "nothing": ["none"],
        },
        "persona": {
            "opening": "You are this person. This is how you described yourself.",
            "sections": [{"title": "What you said", "lines": lines}],
        },
    }  # fmt: skip


def _study(draft: Draft, survey: str, posts: int) -> dict[str, Any]:
    criteria = list(draft.criteria)
    policies: dict[str, Any] = {"Base": {"method": "base"}, "SFT": {"method": "sft", "criteria": {criteria[0]: 1.0}},
                                "DPO": {"method": "dpo", "criteria": {criteria[0]: 1.0}}}  # fmt: skip
    if len(criteria) > 1:
        policies["MODPO"] = {"method": "modpo", "criteria": {one: round(1 / len(criteria), 4) for one in criteria}}
    used = min(posts, POSTS_OF_A_TRIAL)
    test = max(4, used // 4)
    study: dict[str, Any] = {
        "name": draft.name,
        "data": {"file": "posts.csv", "id_column": "id", "text_column": "text", "card": "card.md",
                 "test_size": max(4, posts // 4), "use_train": used - test, "use_test": test},
        "personas": {"surveys": {"people" if draft.survey or draft.personas else INVENTED: survey},
                     "columns": "columns.yaml", "select": PEOPLE, "train": PEOPLE // 2,
                     "test": PEOPLE // 2, "quality_floor": 0.0},
        "models": {"base": draft.model, "reward": "sandbox" if draft.model == "sandbox" else "FacebookAI/roberta-base"},
        "generation": {"instruction": draft.instruction},
        "criteria": {"files": ["criteria.yaml"], "rank": criteria},
        "judge": {**(draft.judge or {"kind": "rules", "model": GENERIC}), "scene": draft.scene},
        "ranking": {"personas_per_question": PEOPLE // 2},
        "alignment": {"policies": policies},
        "judging": {"personas_per_question": PEOPLE // 2,
                    "phases": {"main": {"policies": list(policies), "criteria": criteria}}},
        "human": {"title": "Which answer is better?"},
        "toxicity": {"backends": {}},
    }  # fmt: skip
    if draft.model == "sandbox":
        study["models"]["teach_steps"] = 100
        study["generation"] |= {"responses": {"max_tokens": 40, "batch_size": 64},
                                "answers": {"max_tokens": 40, "batch_size": 64}}  # fmt: skip
        study["rewards"] = {
            "folds": 2,
            "overlong": "cut",
            "search": {"trials": 1, "learning_rate": [2.0e-3, 2.0e-3], "dropout": [0.0, 0.0], "batch_size": [16],
                       "max_length": [96], "epochs": [2, 2]},
        }  # fmt: skip
        study["alignment"]["training"] = {"beta": 1.0, "learning_rate": 1.0e-3, "epochs": 2, "batch_size": 16,
                                          "micro_batch_size": 16, "max_length": 512}  # fmt: skip
    return study


def _write(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    with atomic_file(path, "w") as stream:
        write_csv(stream, columns, rows)


def _yaml(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_file(path, "w") as stream:
        yaml.dump(dict(content), stream, _PlainDumper, sort_keys=False, allow_unicode=True, width=110)


class _PlainDumper(yaml.SafeDumper):
    """Writes what stands twice twice: anchors are hard to edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
