"""Every number of a report against the lines that ``modpo trace`` prints for it."""

from __future__ import annotations

import pytest

from modpo_hpc.report import trace
from modpo_hpc.report.parts import ReportSection
from modpo_hpc.report.trace_check import check
from modpo_hpc.run import Run


def assert_traced(run: Run, *sections: str) -> None:
    """The lines of every number of the report of ``run`` give it, those of ``sections`` (ids or tables) among them."""
    traced = trace.Traced(run)
    absent = set(sections) - {identity.partition(".")[0] for identity in traced.places}
    assert not absent, absent
    unexplained = check(traced, traced.places).unexplained
    assert not unexplained, unexplained[:5]


def assert_section_traced(run: Run, section: ReportSection) -> None:
    """The same for one section, of a run whose other results are made up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "sections_of", lambda *_: [section])
        assert_traced(run, section.anchor, *(table.file for table in section.tables))
