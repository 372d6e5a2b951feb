"""Missing and unparsed verdicts, counted for every cell; too many of them, and nothing else is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.evaluation.ballots import DECIDED, MISSING, NOT_ASKED, UNPARSED, Ballots

STATES = ("asked", "cast", "unparsed", "missing", "decided")


@dataclass(frozen=True)
class Cell:
    """The verdicts of one pair under one criterion. ``decided`` were not asked for, after a stop."""

    phase: str
    criterion: str
    policy_a: str
    policy_b: str
    asked: int
    cast: int
    unparsed: int
    missing: int
    decided: int = 0

    @property
    def lost(self) -> float:
        """Share of the verdicts asked for that are missing or unparsed."""
        return (self.unparsed + self.missing) / self.asked if self.asked else 1.0

    def row(self) -> dict[str, Any]:
        """As a row of the table ``completeness``."""
        return {**asdict(self), "lost": self.lost}


def completeness(ballots: Ballots) -> list[Cell]:
    """One cell for each criterion and pair, in the order of the study."""
    count = {state: (ballots.outcomes == state).sum(axis=(2, 3)) for state in (UNPARSED, MISSING, DECIDED, NOT_ASKED)}
    total = len(ballots.questions) * ballots.outcomes.shape[-1]
    cells = []
    for c, p, key in ballots.cells():
        unparsed, missing, decided, idle = (int(one[c, p]) for one in count.values())
        asked = total - idle - decided
        cast = asked - unparsed - missing
        cells.append(Cell(**key, asked=asked, cast=cast, unparsed=unparsed, missing=missing, decided=decided))
    return cells


def refuse_incomplete(cells: Sequence[Cell], bound: float, source: str) -> None:
    """Refuse statistics when a cell lost more than ``bound`` of its verdicts.

    Raises:
        IncompleteError: names the worst cells and how to repair them.
    """
    bad = sorted((cell for cell in cells if cell.lost > bound), key=lambda cell: -cell.lost)
    if not bad:
        return
    lost = sum(cell.missing + cell.unparsed for cell in bad)
    worst = "; ".join(
        f"{cell.phase}, {cell.criterion}, {cell.policy_a} against {cell.policy_b}: "
        f"{cell.missing} missing and {cell.unparsed} unparsed of {cell.asked}"
        for cell in bad[:3]
    )
    raise IncompleteError(
        f"{source}: {len(bad)} of {len(cells)} cells lack more than {bound:.1%} of their verdicts "
        f"({lost:,} in all), so no statistics are made. Worst: {worst}. "
        f"Judge what is missing (modpo rerun {source} verdicts); see all cells with: modpo results {source}"
    )


def refuse_mixed(judges: Sequence[str], source: str) -> None:
    """Refuse statistics over verdicts of different judges, of which ``judges`` tells.

    Raises:
        InputError: there are any.
    """
    if judges:
        raise InputError(
            f"no statistics are made: {' '.join(judges)}",
            file=source,
            field="statistics.mixed_judges",
            value=False,
            remedy="Have one judge give all verdicts: judge.snapshot, set to the model that is meant, asks all of it. "
            "Or set statistics.mixed_judges to true: they are counted together, and results and report say whose "
            "they are.",
        )
