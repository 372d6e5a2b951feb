"""What a finished run has to say, read from its tables. Nothing is computed here and nothing is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from modpo_hpc.core.markers import read_marker
from modpo_hpc.errors import IncompleteError
from modpo_hpc.evaluation.tables import Rows, finite, schemas_of
from modpo_hpc.run import Run


@dataclass(frozen=True)
class Results:
    """The tables of a run and the document ``statistics.json`` that says how they were made.

    ``personas_per_question`` of the test personas judge a question.
    """

    root: Path
    summary: dict[str, Any]
    tables: dict[str, Rows]
    personas_per_question: int

    @property
    def mark(self) -> str | None:
        """The mark that everything shown must carry, if any part was simulated."""
        return self.summary["sandbox"]

    @property
    def mixed_judges(self) -> list[str]:
        """Whose verdicts are counted together, in sentences, where they are of different judges."""
        return self.summary.get("mixed_judges", [])

    @property
    def phases(self) -> dict[str, dict[str, Any]]:
        return self.summary["phases"]

    @property
    def is_sequential(self) -> bool:
        """Whether pairs were judged until they were decided: then there are mean shares of votes and no win rates."""
        return "shares" in self.tables

    def rows(self, table: str, **where: Any) -> Rows:
        """The rows of ``table`` whose columns have the values of ``where``."""
        return [row for row in self.tables[table] if all(row[name] == value for name, value in where.items())]

    def order(self, phase: str, criterion: str) -> list[str]:
        """The policies of a phase under one criterion, best first."""
        return [row["policy"] for row in self.rows("ranking", phase=phase, criterion=criterion)]

    def by_policy(self, phase: str) -> dict[str, dict[str, dict[str, Any]]]:
        """The ranking as policy -> criterion -> row, the best policies on average first."""
        order = sorted(self.rows("pareto", phase=phase), key=lambda row: (-row["mean_win_rate"], row["policy"]))
        found = self.abreast(phase, "ranking", "policy")
        return {row["policy"]: found[row["policy"],] for row in order}

    def abreast(self, phase: str, table: str, *names: str) -> dict[tuple[str, ...], dict[str, dict[str, Any]]]:
        """The rows of a table as values of the columns ``names`` -> criterion -> row, in the table's order."""
        found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        for row in self.rows(table, phase=phase):
            found.setdefault(tuple(row[name] for name in names), {})[row["criterion"]] = row
        return found


def read_results(run: Run) -> Results:
    """The results of ``run``.

    Raises:
        IncompleteError: the statistics are not made, or are older than the verdicts.
    """
    folder = run.folder("statistics")
    if run.missing("statistics"):
        state = "are older than what they rest on" if read_marker(folder, "all") else "are not made yet"
        raise IncompleteError(
            f"{run.root}: the statistics {state}. Make them with: modpo rerun {run.quoted} statistics"
        )
    tables = tables_of(folder, schemas_of(run.study))
    summary = json.loads((folder / "statistics.json").read_text())
    return Results(run.root, summary, tables, run.study.judging.personas_per_question)


def rows_of(path: Path) -> Rows:
    """The rows of a stored table."""
    return pq.read_table(path, partitioning=None).to_pylist()


def tables_of(folder: Path, names: Iterable[str]) -> dict[str, Rows]:
    """The tables with these ``names`` in the ``folder`` of a stage."""
    return {name: rows_of(folder / f"{name}.parquet") for name in names}


def as_json(results: Results) -> dict[str, Any]:
    """Everything as one JSON object; what is not defined (NaN, infinite) becomes null."""
    return dict(finite({**results.summary, "tables": results.tables}))


def read_completeness(run: Run) -> Rows:
    """How complete the verdicts were when statistics were last asked for; empty if they never were."""
    path = run.folder("statistics") / "completeness.parquet"
    return rows_of(path) if path.exists() else []
