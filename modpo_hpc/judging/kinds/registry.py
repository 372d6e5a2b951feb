"""The kinds of judges that a study can name: the package's, those of installed packages, and a file of the study's."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType

from modpo_hpc.errors import InputError
from modpo_hpc.judging.kinds.batch import BatchJudge
from modpo_hpc.judging.kinds.chat import ChatJudge
from modpo_hpc.judging.kinds.kind import JudgeKind
from modpo_hpc.judging.kinds.rules import RuleJudge
from modpo_hpc.judging.kinds.server import ServedJudge

ENTRY_POINTS = "modpo_hpc.judges"
JUDGE_KINDS = MappingProxyType({one.name: one for one in (RuleJudge(), ChatJudge(), BatchJudge(), ServedJudge())})
"""The package's own kinds, by name."""


def judge_kind(name: str) -> JudgeKind:
    """The kind that ``judge.kind`` names: one of the package, one of an installed package, or a Python file.

    Raises:
        InputError: there is none of this name, or the file holds none.
    """
    if name in JUDGE_KINDS:
        return JUDGE_KINDS[name]
    if name.endswith(".py"):
        file = Path(name).expanduser().resolve()
        if not file.is_file():
            raise _wrong("there is no such file", name)
        return _loaded(file, hashlib.sha256(file.read_bytes()).hexdigest())
    brought = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in brought:
        return _instance(brought[name].load(), name)
    raise _wrong(f"there is no such kind of judge; known are {', '.join([*JUDGE_KINDS, *brought])}", name)


@cache
def _loaded(file: Path, sha256: str) -> JudgeKind:
    """The kind in ``file``: loaded once for each content."""
    module_name = f"modpo_hpc_judge_{sha256[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise _wrong("this is no Python file", str(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise _wrong(f"this file cannot be loaded ({type(error).__name__}: {error})", str(file)) from error
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, JudgeKind) and one.__module__ == module_name
    ]
    if len(found) != 1:
        raise _wrong(f"this file has {len(found)} classes that are a JudgeKind, where one is wanted", str(file))
    return _instance(found[0], str(file))


def _instance(kind: type[JudgeKind], value: str) -> JudgeKind:
    missing = [name for name in ("name", "texts_leave", "paid") if not hasattr(kind, name)]
    if missing or inspect.isabstract(kind):
        lacks = [*missing, *sorted(getattr(kind, "__abstractmethods__", ()))]
        raise _wrong(f"{kind.__name__} lacks {', '.join(lacks)}", value)
    return kind()


def _wrong(problem: str, value: str) -> InputError:
    return InputError(
        problem, field="judge.kind", value=value, remedy="Name a kind, or a Python file with one: docs/judging.md."
    )
