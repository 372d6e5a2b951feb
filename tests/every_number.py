"""Every number of a report against the lines that ``modpo trace`` prints for it."""

from __future__ import annotations

from modpo_hpc.report.trace import Traced
from modpo_hpc.report.trace_check import check
from modpo_hpc.run import Run


def assert_traced(run: Run, *sections: str) -> None:
    """The lines of every number of the report of ``run`` give it, those of ``sections`` (ids or tables) among them."""
    traced = Traced(run)
    absent = set(sections) - {identity.partition(".")[0] for identity in traced.places}
    assert not absent, absent
    unexplained = check(traced, traced.places).unexplained
    assert not unexplained, unexplained[:5]
