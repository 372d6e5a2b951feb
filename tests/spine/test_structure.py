"""The house as docs/how-a-study-flows.md draws it: imports go down, and never in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "modpo_hpc"
CORE = ("run", "pipeline", "stages")


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(node: ast.AST, known: dict[str, Path], late: bool) -> Iterator[str]:
    """The modules of the package that ``node`` imports when it is run; with ``late``, those inside functions, too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module in known:
            for one in child.names:
                name = f"{child.module}.{one.name}"
                yield name if name in known else child.module
        elif isinstance(child, ast.Import):
            yield from (one.name for one in child.names if one.name in known)
        elif late or not isinstance(child, ast.FunctionDef):
            yield from imported(child, known, late)


def imports(late: bool) -> dict[str, set[str]]:
    known = modules()
    return {name: {*imported(ast.parse(path.read_text()), known, late)} - {name} for name, path in known.items()}


def room_of(module: str) -> str:
    room = module.split(".")[1]
    return "core" if room in CORE else room


def test_no_module_imports_itself_through_others_not_even_late() -> None:
    assert len([*TopologicalSorter(imports(late=True)).static_order()]) > 300


def test_every_room_imports_only_from_rooms_below_it() -> None:
    page = (REPOSITORY / "docs" / "how-a-study-flows.md").read_text()
    drawing = re.search(r"^```\n(cli .*?)^```", page, re.MULTILINE | re.DOTALL)
    assert drawing
    floors = [line.partition("#")[0].split() for line in reversed(drawing[1].splitlines())]
    height = {room: number for number, floor in enumerate(floors) for room in floor}
    arrows = {
        (room_of(one), room_of(other))
        for one, others in imports(late=False).items()
        for other in others
        if "." in one and "." in other and not one.endswith("__main__") and room_of(one) != room_of(other)
    }
    assert {room for arrow in arrows for room in arrow} <= set(height), "the drawing lacks a room"
    assert not [(one, other) for one, other in arrows if height[one] <= height[other]]
    late = {(room_of(one), room_of(other)) for one, to in imports(late=True).items() for other in to if "." in other}
    assert {one for one, other in late if other == "cli"} <= {"cli", "__main__"}


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(module)
    assert not {name: found for name, found in places.items() if len(found) > 1}
