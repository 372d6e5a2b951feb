"""The whole report: which sections there are, and the files that hold them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from modpo_hpc.report import figures, latex, page
from modpo_hpc.report.results import Results

PAGE = "report.html"


def files_of(results: Results) -> Iterator[tuple[str, bytes]]:
    """Every file of the report, its name and its bytes; the page comes last."""
    sections = [page.phase_section(results, phase) for phase in results.phases]
    svgs = {}
    for name, figure in figures.figures_of(results).items():
        for form in figures.FORMATS:
            content = figures.render(figure, form)
            if form == "svg":
                svgs[name] = content
            yield f"figures/{name}.{form}", content
    for section in sections:
        for shown in section.tables:
            if shown.file:
                name = f"{section.anchor}_{shown.file}"
                yield f"tables/{name}.csv", as_csv(shown, results.mark).encode()
                yield f"tables/{name}.tex", latex.booktabs(shown, name, results.mark).encode()
    yield PAGE, page.render(results, sections, svgs).encode()


def as_csv(shown: page.Shown, mark: str | None) -> str:
    """``shown`` as CSV; with a ``mark``, a last column carries it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    extra = [mark] if mark else []
    writer.writerow([*(column.heading for column in shown.columns), *(["note"] if mark else [])])
    writer.writerows([*row, *extra] for row in shown.rows)
    return stream.getvalue()
