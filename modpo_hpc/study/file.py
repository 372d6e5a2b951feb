"""Read a study file, override single fields, and say in words how two studies differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from modpo_hpc.errors import InputError
from modpo_hpc.resources import shipped
from modpo_hpc.section import OnDisk
from modpo_hpc.study.judging import ONE, SEVERAL
from modpo_hpc.study.model import Study
from modpo_hpc.study.paths import Doubts, Field, from_file, path_fields_from_outside, with_whole_paths

M = TypeVar("M", bound=BaseModel)


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The study in the YAML file ``path``, with ``overrides`` such as ``"data.test_size=600"`` applied.

    ``configs/...`` is also found where the project is installed without a checkout.
    A study may say ``extends: other.yaml`` and give only the fields that differ. Paths: ``modpo_hpc.study.paths``.

    Raises:
        InputError: unreadable file, unknown field, wrong value; the message names it and the remedy.
    """
    path = Path(path)
    if not path.is_file() and path.parts[:1] == ("configs",):
        with suppress(InputError):
            path = shipped(str(path))  # no checkout here: the project's own studies travel in the wheel
    files = _with_bases(path)
    raw = _assembled(files, overrides)
    if more := path_fields_from_outside(raw):
        raw = _assembled(files, overrides, more)
    return parse_study(raw, source=path)


def load_frozen_study(path: Path) -> Study:
    """The study that a run keeps in ``path``: its paths are whole, so that it means the same in every folder.

    Raises:
        InputError: the file is damaged, or was written by a version with other fields.
    """
    return parse_study(_read(path), source=path)


def parse_study(raw: Mapping[str, Any], source: str | Path) -> Study:
    """The study in the mapping ``raw``; errors name ``source``, the field and the value."""
    return validated(Study, raw, source, "Correct the value in the study file or with --set.")


def validated(model: type[M], raw: Mapping[str, Any], source: str | Path, remedy: str) -> M:
    """``raw`` as a ``model``.

    Raises:
        InputError: unknown field or wrong value; names ``source``, the field and the value, and gives ``remedy``.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = [part for part in first["loc"] if part not in (ONE, SEVERAL) and "[" not in str(part)]  # forms of one
        field = ".".join(map(str, place)) or None
        unknown = first["type"] == "extra_forbidden"
        others = len(error.errors()) - 1
        problem = "this field is not known" if unknown else first["msg"].removeprefix("Value error, ")
        value = first["input"] if not isinstance(first["input"], (dict, list)) else None
        if unknown:
            remedy = f"Fields known here: {', '.join(_known_fields(model, place[:-1])) or 'none'}."
        if others:
            remedy += f" {others} more field{'s are' if others > 1 else ' is'} wrong."
        raise InputError(problem, file=source, field=field, value=value, remedy=remedy) from None


def differences(ours: Study, theirs: Study) -> list[str]:
    """One line for each field in which two studies differ: ``field: ours -> theirs``."""
    left, right = dict(_leaves(ours.model_dump(mode="json"))), dict(_leaves(theirs.model_dump(mode="json")))
    return [
        f"{field}: {left.get(field, 'absent')!r} -> {right.get(field, 'absent')!r}"
        for field in sorted(left.keys() | right.keys())
        if left.get(field, _MISSING) != right.get(field, _MISSING)
    ]


_MISSING = object()


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same YAML, read by libyaml in a tenth of the time


class _StrictLoader(_Loader):
    """YAML in which a key may stand once: of two, plain YAML takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float, bool)) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key!r} stands here a second time", problem_mark=key_node.start_mark
                )
            if key_node.tag != "tag:yaml.org,2002:merge" and isinstance(key, (str, int, float, bool)):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise InputError(
            "there is no such study file",
            file=path,
            remedy="Check the path; configs/demo.yaml is one to start from.",
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError, OSError) as error:
        raise InputError(
            f"the study file cannot be read: {_in_one_line(error)}", file=path, remedy="It must be YAML in UTF-8."
        ) from error
    if not isinstance(raw, dict):
        raise InputError("the study file is not a mapping of fields", file=path, remedy="Start from configs/demo.yaml.")
    return raw


def _with_bases(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Each file and what it says: ``path``, the study that it extends, and so on."""
    files: list[tuple[Path, dict[str, Any]]] = []
    while True:
        raw = _read(path)
        base = raw.pop("extends", None)
        files.append((path, raw))
        if base is None:
            return files
        parent = from_file(str(base), path.parent)
        if parent.resolve() in [one.resolve() for one, _ in files]:
            raise InputError(
                "this study extends itself", file=path, field="extends", value=base, remedy="Remove the field."
            )
        path = parent


def _assembled(
    files: Sequence[tuple[Path, dict[str, Any]]], overrides: Sequence[str], more: Mapping[Field, OnDisk] | None = None
) -> dict[str, Any]:
    """The fields of the first of ``files`` over those of the next, each path seen from the file that says it."""
    doubts: Doubts = {}
    raw: dict[str, Any] = {}
    for file, own in reversed(files):
        raw = _merged(raw, with_whole_paths(deepcopy(own), file.parent, doubts, file, more or {}))
    for override in overrides:
        _apply(raw, override)
    return with_whole_paths(raw, Path.cwd(), doubts, more=more or {})


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _apply(raw: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    keys = field.strip().split(".")
    if not equals or not all(keys):
        raise InputError(
            "this override has no form that is understood",
            value=override,
            remedy="Write --set section.field=value.",
        )
    place: Any = raw
    for key in keys[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise InputError(
            "this override goes through a field that has no fields of its own",
            field=field,
            remedy="Check the name.",
        )
    try:
        place[keys[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"this value is not YAML: {_in_one_line(error)}", field=field, value=text, remedy="Quote the value."
        ) from error


def _known_fields(model: Any, location: Sequence[int | str]) -> list[str]:
    parts = list(location)
    while parts:
        fields = getattr(model, "model_fields", {})
        if parts[0] not in fields:
            return []
        annotation = fields[parts.pop(0)].annotation
        if parts and (get_origin(annotation) is dict or isinstance(parts[0], int)):
            parts.pop(0)
        candidates = (annotation, *get_args(annotation))
        model = next((one for one in candidates if hasattr(one, "model_fields")), None)
    return sorted(getattr(model, "model_fields", {}))


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree
