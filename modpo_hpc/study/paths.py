"""Paths in a study: one rule, for every field that names something on disk.

A path is looked for from the folder of the file that says it; what is given with ``--set``, from the folder where the
command is typed. So a study means the same wherever it is read from. What is not there may be a file that the project
ships (``configs/...``), or, where a model is meant, a name on the hub. A run keeps whole paths and such names only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from modpo_hpc.errors import InputError
from modpo_hpc.methods import METHODS, Method, known_methods
from modpo_hpc.resources import shipped
from modpo_hpc.section import OnDisk
from modpo_hpc.study.alignment import Training
from modpo_hpc.study.model import Study

Field = tuple[str, ...]
"""The names on the way to a field; ``*`` stands for every name or place of a mapping or list."""
Doubts = dict[str, InputError]
"""Whole path -> what is wrong with it, if nothing takes its place."""
_FREE_FORM: Mapping[Field, type[BaseModel]] = MappingProxyType(
    {("alignment", "policies", "*", "training"): Training, ("alignment", "sweep", "*", "training"): Training}
)
"""Mappings of the study that hold fields of a section without being one."""


@cache
def path_fields() -> Mapping[Field, OnDisk]:
    """Every field of a study that names something on disk: those whose type says so."""
    found = dict(_on_disk(Study, (), ()))
    for field, model in _FREE_FORM.items():
        found |= dict(_on_disk(model, (), field))
    return found


def path_fields_from_outside(raw: Mapping[str, Any]) -> dict[Field, OnDisk]:
    """The path fields of those policies in the raw study ``raw`` whose methods are not the package's.

    What is wrong with the methods or the policies is left to the checks of the study.
    """
    alignment = raw.get("alignment")
    if not isinstance(alignment, Mapping):
        return {}
    try:
        known = known_methods([Path(one) for one in alignment.get("methods") or ()])
    except (ValueError, TypeError):
        return {}
    found: dict[Field, OnDisk] = {}
    policies, sweeps = alignment.get("policies"), alignment.get("sweep")
    named = [(("policies", name), one) for name, one in policies.items()] if isinstance(policies, Mapping) else []
    families = [(("sweep", "*"), one) for one in sweeps] if isinstance(sweeps, (list, tuple)) else []
    for at, policy in (*named, *families):
        word = policy.get("method") if isinstance(policy, Mapping) else None
        if isinstance(word, str) and word in known and word not in METHODS:
            found |= dict(_on_disk(known[word], (), ("alignment", *at)))
    return found


def with_whole_paths(
    raw: Mapping[str, Any],
    folder: Path,
    doubts: Doubts,
    file: Path | None = None,
    more: Mapping[Field, OnDisk] = MappingProxyType({}),
) -> dict[str, Any]:
    """The raw study ``raw``, which ``file`` in ``folder`` says, with its paths made whole.

    ``doubts`` takes up what is not there, but is seen from the folder where the command is typed: another file, or
    ``--set``, may still put something in its place. ``more`` are the path fields of methods from outside.

    Raises:
        InputError: ``raw`` has a path that was in doubt before.
    """
    whole: Any = raw
    for field, kind in {**path_fields(), **more}.items():
        change = partial(_whole, kind=kind, folder=folder, doubts=doubts, file=file, field=field)
        whole = _replaced(whole, field, change)
    return dict(whole)


def from_file(name: str, folder: Path) -> Path:
    """The file that a study in ``folder`` calls ``name``: see the module."""
    return Path(_whole(name, OnDisk(), folder, {}))


def _whole(name: str, kind: OnDisk, folder: Path, doubts: Doubts, file: Path | None = None, field: Field = ()) -> str:
    if name in doubts:
        raise doubts[name]
    if not kind.may_be(name):
        return name
    path = Path(name).expanduser()
    found, here = (folder / path).resolve(), path.resolve()
    own = _shipped(name)
    if found.is_dir() if kind.or_name else found.exists():
        return name if kind.keeps_name and own == found else str(found)
    if own is not None and (own == here or not here.exists()):
        return name if kind.keeps_name else str(own)
    if here.is_dir() if kind.or_name else here.exists():
        doubts[str(found)] = InputError(
            "a path in a study is looked for from the folder of its file, and there is nothing of this name",
            file=file,
            field=".".join(field),
            value=name,
            remedy=f"For the one that is seen from here write {os.path.relpath(here, folder.resolve())!r}, or give it "
            "with --set.",
        )
        return str(found)
    return name if kind.or_name else str(found)


def _shipped(name: str) -> Path | None:
    with suppress(InputError):
        return None if Path(name).is_absolute() or ".." in Path(name).parts else shipped(name).resolve()
    return None


def _replaced(tree: Any, field: Field, change: Callable[[str], str]) -> Any:
    """``tree`` with the texts at ``field`` changed; what has another form than a study's is left to its checks."""
    if not field:
        return change(tree) if isinstance(tree, str) and tree else tree
    if isinstance(tree, Mapping):
        keys = [*tree] if field[0] == "*" else [field[0]] if field[0] in tree else []
        return {**tree, **{key: _replaced(tree[key], field[1:], change) for key in keys}}
    if isinstance(tree, (list, tuple)) and field[0] == "*":
        return [_replaced(one, field[1:], change) for one in tree]
    return tree


def _on_disk(annotation: Any, metadata: tuple[Any, ...], at: Field) -> Iterator[tuple[Field, OnDisk]]:
    marks = [one for one in metadata if isinstance(one, OnDisk)]
    yield from ((at, mark) for mark in marks)
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Path and not marks:  # of a lab's own method, which need not know of marks
        yield at, OnDisk()
    elif origin is Annotated:
        yield from _on_disk(inner[0], inner[1:], at)
    elif origin is dict:
        yield from _on_disk(inner[1], (), (*at, "*"))
    elif origin in (tuple, list):
        yield from _on_disk(inner[0], (), (*at, "*"))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for model in (annotation, *(METHODS.values() if annotation is Method else ())):
            for name, one in model.model_fields.items():
                yield from _on_disk(one.annotation, tuple(one.metadata), (*at, name))
    else:
        for one in inner:
            yield from _on_disk(one, (), at)
