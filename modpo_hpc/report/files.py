"""The whole report: which sections there are, and the files that hold them."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from matplotlib import rc_context
from matplotlib.figure import Figure

from modpo_hpc.report import cases_page, latex, page, style
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown


def files_of(
    title: str, sections: Sequence[ReportSection], mark: str | None, cases: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """Every file of a report with these ``sections``, its name and its bytes; the page comes last.

    ``cases`` is the page of single cases, to which the matrices of ``sections`` link.
    """
    figures = [picture for section in sections for picture in section.figures]
    svgs = {}
    for picture, files in zip(figures, _rendered(figures, mark), strict=True):
        svgs[picture.name] = files["svg"]
        for form, content in files.items():
            yield f"figures/{picture.name}.{form}", content
    for shown in (shown for section in sections for shown in section.tables):
        yield f"tables/{shown.file}.csv", as_csv(shown, mark).encode()
        yield f"tables/{shown.file}.tex", latex.booktabs(shown, mark).encode()
    if cases is not None:
        yield cases_page.PAGE, cases.encode()
    yield PAGE, page.render(title, sections, svgs, mark).encode()


PAGE = "report.html"


def drawn(picture: ReportFigure, mark: str | None) -> Figure:
    """``picture`` with the ``mark``, laid out for all of its files."""
    with rc_context(style.STYLE):
        figure = picture.draw()
        style.write_mark(figure, mark)
        style.settle(figure)
    return figure


def _rendered(figures: Sequence[ReportFigure], mark: str | None) -> Iterator[dict[str, bytes]]:
    """Of each picture its format -> bytes, drawn by as many processes as this one may use cores.

    Processes and not threads, because matplotlib has global state; forked, because a picture is a closure.
    """
    context = multiprocessing.get_context("fork")
    pipes = []
    for first in range(count := min(len(os.sched_getaffinity(0)), len(figures))):
        ours, theirs = context.Pipe(duplex=False)
        context.Process(target=_render, args=(figures[first::count], mark, theirs), daemon=False).start()
        theirs.close()
        pipes.append(ours)
    for place in range(len(figures)):
        made = pipes[place % count].recv()
        if isinstance(made, Exception):
            raise made
        yield made


def _render(figures: Sequence[ReportFigure], mark: str | None, pipe: Connection) -> None:
    try:
        for picture in figures:
            figure = drawn(picture, mark)
            pipe.send({form: style.render(figure, form) for form in style.FORMATS})
    except BrokenPipeError:
        pass  # who waited for the figures is gone; nobody is left to be told
    except Exception as error:
        pipe.send(error)  # raised by the process that waits for the figures


def as_csv(shown: Shown, mark: str | None) -> str:
    """``shown`` as CSV; with a ``mark``, a last column carries it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    extra = [mark] if mark else []
    writer.writerow([*_told_apart([column.heading for column in shown.columns]), *(["note"] if mark else [])])
    writer.writerows([*row, *extra] for row in shown.rows)
    return stream.getvalue()


def _told_apart(headings: Sequence[str]) -> list[str]:
    """``headings`` as names of columns: one that comes again gets the heading that it stands under in front.

    >>> _told_apart(["Policy", "Empathy", "rank", "Safety", "rank"])
    ['Policy', 'Empathy', 'Empathy rank', 'Safety', 'Safety rank']
    """
    under, names = "", []
    for heading in headings:
        if headings.count(heading) == 1:
            under = heading
        names.append(heading if headings.count(heading) == 1 else f"{under} {heading}")
    return names
