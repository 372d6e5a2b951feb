"""Make the report: one page that opens anywhere, each figure as PDF, PNG and SVG, each table as CSV and LaTeX.

Beside it stands a page of the single cases. Posts that people wrote are not in it: ``modpo cases --page --texts``.
"""

from __future__ import annotations

from modpo_hpc.report.cases import texts_are_invented
from modpo_hpc.report.cases_page import cases_page
from modpo_hpc.report.contents import sections_of
from modpo_hpc.report.files import files_of
from modpo_hpc.report.results import read_results
from modpo_hpc.report.summary import title_of
from modpo_hpc.run import Run, Shard


def report(run: Run, shard: Shard) -> None:
    results = read_results(run)
    sections = sections_of(run, results)
    total = sum(3 * len(section.figures) + 2 * len(section.tables) for section in sections) + 2
    cases = cases_page(run, texts=texts_are_invented(run))
    for number, (name, content) in enumerate(files_of(title_of(run), sections, results.mark, cases), start=1):
        with shard.file(name, "wb") as stream:
            stream.write(content)
        shard.progress(number, total, "files")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("report")
