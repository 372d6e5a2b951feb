"""The study file field by field, as Markdown: ``python -m modpo_hpc.study.describe > docs/study-file.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modpo_hpc.methods import METHODS, Method
from modpo_hpc.study.model import Study

HEAD = """# The study file

A study is a YAML file. Fields that are left out have the defaults below; a field that is not known is refused, with
the fields that are. `modpo run STUDY --set section.field=value` overrides one field. With `extends: other.yaml` a
study gives only what differs from another. The run keeps the whole of it, resolved, in `DIR/study.yaml`.

A path in a study is looked for from the folder of the file that says it, whoever extends it; a path of `--set`, from
the folder where the command is typed. What is not there may be a file that the project ships (`configs/...`), or,
where a model is meant, a name on the hub. So a study means the same wherever the command is typed, and a folder with a
study and its files can be moved and copied.

This page is made from the code: `make study-file`.
"""


def describe() -> str:
    """The page."""
    lines = [HEAD, *_table(Study, skip_sections=True)]
    for name, field in Study.model_fields.items():
        for title, model in _sections(name, field.annotation):
            lines += [f"\n## {title}\n", _first_paragraph(model), "", *_table(model)]
    return "\n".join(lines) + "\n"


def _sections(title: str, annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """A section and the sections inside it, under the path by which a study names them."""
    for part, suffix in _models(annotation):
        yield title + suffix, part
        if part is Method:
            yield from ((f"{title}{suffix} of method {name}", method) for name, method in METHODS.items())
        for name, field in part.model_fields.items():
            yield from _sections(f"{title}{suffix}.{name}", field.annotation)


def _models(annotation: Any) -> list[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, "")]
    plain = [get_args(one)[0] if get_origin(one) in (Annotated, tuple) else one for one in get_args(annotation)]
    inner = [one for one in plain if isinstance(one, type) and issubclass(one, BaseModel)]
    return [(one, ".NAME" if get_origin(annotation) is dict else "") for one in inner]


def _table(model: type[BaseModel], skip_sections: bool = False) -> list[str]:
    rows = [
        f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in model.model_fields.items()
        if not (skip_sections and _models(field.annotation))
    ]
    return ["| field | kind | default | |", "| --- | --- | --- | --- |", *rows]


def _kind(annotation: Any) -> str:
    if _models(annotation):
        return "a section" if get_origin(annotation) is not dict else "name: section"
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"typing\.|pathlib\.|(, AfterValidator\(.*?\))?, OnDisk\(.*?\)\]|Annotated\[", "", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda match: match.group(1).replace(", ", " or "), text)
    text = re.sub(r"^Union\[(.*?), (.*)\]$", r"\1 or \2", text)
    text = re.sub(r"Optional\[(.*?)\]", r"\1 | None", text)
    return _cell(text.replace("NoneType", "empty").replace("None", "empty").replace(" | ", " or "))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, (tuple, list)) and value and not isinstance(value[0], (int, float)):
        return _cell(" ".join(f"`{one}`" for one in value))
    return "empty" if value in (None, "", {}, (), []) else _cell(f"`{value}`")


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace(str(Path.cwd()), "")


if __name__ == "__main__":
    print(describe(), end="")
