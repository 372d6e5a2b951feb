"""Make the report: one page that opens anywhere, each figure as PDF, PNG and SVG, each table as CSV and LaTeX."""

from __future__ import annotations

from modpo_hpc.report.book import files_of
from modpo_hpc.report.results import read_results
from modpo_hpc.run import Run, Shard


def report(run: Run, shard: Shard) -> None:
    for number, (name, content) in enumerate(files_of(read_results(run)), start=1):
        with shard.file(name, "wb") as stream:
            stream.write(content)
        if number % 10 == 0:
            shard.progress(number, number, "files")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("report")
