"""The console on which every command prints what is more than plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


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
