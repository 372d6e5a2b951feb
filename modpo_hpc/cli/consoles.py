"""The console on which every command prints what is more than plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table


def console(elsewhere: int | None = None, stderr: bool = False) -> Console:
    """A console that breaks no line: a command that it prints can be copied, however narrow the terminal is.

    Tables and panels keep to its width.

    Args:
        elsewhere: columns where the output is no terminal; as the environment says if not given.
    """
    from rich.console import Console

    made = Console(highlight=False, soft_wrap=True, stderr=stderr)
    if elsewhere is not None and not made.is_terminal:
        made.width = elsewhere
    return made


def table_of(rows: Sequence[Mapping[str, RenderableType]], words: Sequence[str] = (), **look: Any) -> Table:
    """A table without lines: a column a key, those of stages and of ``words`` to the left, numbers to the right.

    What stands under no heading is cut where the terminal is narrow.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, **look)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("stage", "", *words) else "right", no_wrap=bool(name))
    for row in rows:
        table.add_row(*row.values())
    return table
