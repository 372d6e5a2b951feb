"""How near ``configs/paper.yaml`` is to the paper, as a page: ``make fidelity``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from modpo_hpc.resources import resource
from modpo_hpc.study.file import load_study
from modpo_hpc.study.model import Study

TABLE, STUDY = "configs/fidelity.yaml", "configs/paper.yaml"

REPOSITORY = "https://github.com/mehrabbz/MODPO-Therapeutic-AI"

HEAD = f"""# How near the paper's study is to the paper

`configs/paper.yaml` is meant to be the study of Beikzadeh et al. 2026
([arXiv 2602.16053](https://arxiv.org/abs/2602.16053)) and nothing else. Where the paper is silent, the code that its
authors published decides
([mehrabbz/MODPO-Therapeutic-AI]({REPOSITORY})). Facts come from there, sentences and code do not.
This page is made from `configs/fidelity.yaml` (`make fidelity`), and a test holds `paper.yaml` to it.
"""


@dataclass(frozen=True)
class Statement:
    """One statement of the paper or of its authors' code; fields as ``configs/fidelity.yaml`` says."""

    statement: str
    source: str
    theirs: Any
    had: Literal["yes", "near", "no"]
    field: str = ""
    ours: Any = None
    note: str = ""

    @property
    def expected(self) -> Any:
        """The value that the study's field must have."""
        return self.theirs if self.had == "yes" else self.ours


def statements(file: Path | None = None) -> list[Statement]:
    """All statements, in the order of the file."""
    return [Statement(**one) for one in yaml.safe_load((file or resource(TABLE)).read_text(encoding="utf-8"))]


def value_of(study: Study, field: str) -> Any:
    """The value of ``field`` (a path with dots) in ``study``, as plain data.

    Raises:
        KeyError: the study has no such field.
    """
    place: Any = study.model_dump(mode="json")
    for name in field.split("."):
        place = place[name]
    return place


def drift(study: Study, table: list[Statement]) -> list[str]:
    """One line for each field of ``study`` that is not what ``table`` says."""
    return [
        f"{one.field}: {value!r}, and the table says {one.expected!r} ({one.statement})"
        for one in table
        if one.field and not _same(value := value_of(study, one.field), one.expected)
    ]


def page(table: list[Statement]) -> str:
    """The page as Markdown: what cannot be had first."""
    parts = {
        "no": "## What cannot be had, or is done otherwise",
        "near": "## As near as can be",
        "yes": "## As in the paper or in its authors' code",
    }
    lines = [HEAD]
    for had, heading in parts.items():
        rows = [_line(one) for one in table if one.had == had]
        lines += [f"{heading}\n", f"{len(rows)} of {len(table)} statements.\n"]
        lines += ["| statement | where | theirs | field | ours |", "| --- | --- | --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _line(one: Statement) -> str:
    ours = _shown(one.ours) if one.ours is not None else ""
    cells = (one.statement, one.source, _shown(one.theirs), f"`{one.field}`" if one.field else "")
    return f"| {' | '.join(cells)} | {'; '.join(part for part in (ours, one.note) if part)} |"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _same(value: Any, expected: Any) -> bool:
    """Whether two values are equal; mappings in their order, too."""
    return bool(value == expected) and (not isinstance(expected, Mapping) or list(value) == list(expected))


if __name__ == "__main__":
    table = statements()
    if wrong := drift(load_study(resource(STUDY)), table):
        raise SystemExit("\n".join(wrong))
    print(page(table), end="")
