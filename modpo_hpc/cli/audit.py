"""``modpo audit``: would the conclusions survive their judge, and what to ask next."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.cli.arguments import add_flag, add_json, require_positive, show
from modpo_hpc.cli.consoles import console
from modpo_hpc.core.markers import marker_path
from modpo_hpc.errors import InputError
from modpo_hpc.run import Run

if TYPE_CHECKING:
    from modpo_hpc.human.labels import HumanLabels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", nargs="?", help="run directory; none with --counts")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="people's labels instead of those of modpo human")
    parser.add_argument("--phase", help="phase that --labels are of; the one with overall preference")
    parser.add_argument("--policies", nargs=2, default=[], metavar=("A", "B"), help="the two policies of --labels")
    parser.add_argument(
        "--with", nargs="+", default=[], metavar="RUN", dest="others", help="runs of other seeds, for the seed's part"
    )
    parser.add_argument("--calls", type=int, metavar="N", help="judge calls to spend next; as many as there were")
    parser.add_argument(
        "--counts",
        nargs=4,
        type=int,
        metavar=("AA", "AB", "BA", "BB"),
        help="no run: labelled questions, people's A called A by the judge, A called B, B called A, B called B",
    )
    parser.add_argument("--rate", type=float, metavar="P", help="with --counts: the judge's win rate of A")
    parser.add_argument("--of", type=int, metavar="N", help="with --counts: questions that the rate is of")
    add_flag(parser, "--drawn", "with --counts: they were drawn at random from the questions of --of")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.counts:
        return _counts(arguments)
    if not arguments.run:
        raise InputError("there is nothing to audit", field="DIR", remedy="Name a run, or give --counts AA AB BA BB.")
    require_positive("--calls", arguments.calls, "this buys nothing")
    return _run(arguments)


def _counts(arguments: argparse.Namespace) -> int:
    from modpo_hpc.audit.correction import Confusion, correct, share
    from modpo_hpc.evaluation.tables import finite

    counts = Confusion(*arguments.counts)
    if (arguments.rate is None) != (arguments.of is None):
        raise InputError("a rate needs its count", field="--rate, --of", remedy="Give both, or none.")
    found = None if arguments.rate is None else correct(counts, arguments.rate, arguments.of, arguments.drawn)
    shares = {
        "sensitivity": share(counts.a_a, counts.a_a + counts.a_b),
        "specificity": share(counts.b_b, counts.b_a + counts.b_b),
    }
    lines = [
        f"{name} {_number(one.value)} [{_number(one.low)}, {_number(one.high)}] of {one.cases:.0f}"
        for name, one in shares.items()
    ]
    if counts.constant:
        lines.append("the judge gave one answer to all of these questions: it is worth nothing")
    if found is not None and not found.informative:
        lines.append(
            "the judge is not shown to beat chance, or not to err here as it did there: its rate says nothing, [0, 1]"
        )
    elif found is not None:
        lines.append(f"the judge's rate {_number(found.rate)} of {found.of} questions")
        lines.append(f"corrected {_number(found.estimate)} [{_number(found.low)}, {_number(found.high)}]")
    content = {name: vars(one) for name, one in shares.items()} | {"corrected": found.as_json() if found else None}
    show(arguments.json, finite(content), "\n".join(lines))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.audit.run import audit, keep
    from modpo_hpc.evaluation.tables import finite
    from modpo_hpc.report import terminal
    from modpo_hpc.report.audit import section_of

    opened = Run.open(arguments.run)
    others = [Run.open(place) for place in arguments.others]
    _check_others(opened, others)
    document = finite(audit(opened, _people(opened, arguments), others, arguments.calls))
    path = keep(opened, document)
    # a report made before does not show this audit
    marker_path(opened.folder("report"), "all").unlink(missing_ok=True)
    if arguments.json:
        print(json.dumps(document))
        return 0
    terminal.show_sections([section_of(document)], document["mark"], console(elsewhere=terminal.WIDE))
    print(f"kept: {path}\ninto the report: modpo report {opened.quoted}")
    return 0


def _people(run: Run, arguments: argparse.Namespace) -> HumanLabels | None:
    from modpo_hpc.data.questions import study_questions
    from modpo_hpc.human.labels import labels_of_file, labels_of_run
    from modpo_hpc.human.sample import choose_comparison
    from modpo_hpc.human.study import rounds

    rule = run.study.human.label
    if arguments.labels:
        comparison = choose_comparison(run.study, arguments.phase, arguments.policies)
        questions = [question.question_id for question in study_questions(run, "test")]
        return labels_of_file(arguments.labels, comparison, questions, rule)
    analyzed = any((folder / "analysis" / "judgments.parquet").exists() for folder in rounds(run))
    return labels_of_run(run, rule) if analyzed else None


def _check_others(run: Run, others: list[Run]) -> None:
    seeds = [run.study.seed]
    for other in others:
        if other.study.judging.phases != run.study.judging.phases or other.study.seed in seeds:
            raise InputError(
                "this run does not differ from the others in its seed alone",
                file=other.root,
                field="--with",
                remedy="Name runs of the same phases, each with a seed of its own.",
            )
        seeds.append(other.study.seed)


def _number(value: Any) -> str:
    return "n/a" if value != value else f"{value:.3f}".replace("0.", ".", 1)
