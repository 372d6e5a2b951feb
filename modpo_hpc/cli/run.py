"""``modpo run``: a whole study, or a part of it, on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import IO

from modpo_hpc.checks import cautions, check_inputs
from modpo_hpc.cli.arguments import add_reuse, add_study, require_positive
from modpo_hpc.cli.progress import duration, follow
from modpo_hpc.launch.following import follow_study
from modpo_hpc.launch.local import Capacity, LocalExecutor, Task, last_words
from modpo_hpc.pipeline import STAGES, Stage, stage_named, with_needs
from modpo_hpc.report import formats
from modpo_hpc.run import Run
from modpo_hpc.study import Study, load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="run directory; the same command again goes on in it"
    )
    add_reuse(parser)
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--until", metavar="STAGE", help="stop after this stage")
    some.add_argument("--only", metavar="STAGE", help="this stage alone; what it needs must be there")
    parser.add_argument("--jobs", type=int, metavar="N", help="CPUs to use at once; all of them if not given")


def run(arguments: argparse.Namespace) -> int:
    require_positive("--jobs", arguments.jobs, "at least one CPU is needed")
    study = load_study(arguments.study, arguments.overrides)
    stages = chosen_stages(arguments.until, arguments.only)
    check(study, arguments.run)
    the_run = follow_study(arguments.run, study, arguments.reuse)
    if arguments.only:
        inventory = the_run.inventory()
        for shard in the_run.shard_ids(arguments.only):
            the_run.refuse_lacking(arguments.only, shard, inventory.made_from(arguments.only, shard))
    for line in what_is_made(the_run, stages):
        print(line, flush=True)
    return carry_out(the_run, stages, arguments.jobs)


def chosen_stages(until: str | None, only: str | None = None) -> tuple[Stage, ...]:
    """The stages that the command line asks for, in the order in which work flows."""
    if only:
        return (stage_named(only),)
    return with_needs(until) if until else STAGES


def check(study: Study, folder: str | None = None, accounts_to: IO[str] | None = None) -> None:
    """Say what becomes of the rows of the study's files, and on standard error what to know before it begins.

    Raises:
        InputError: a file is wrong, or ``folder`` is no place for a run.
    """
    for account in check_inputs(study):
        print(account, file=accounts_to)
    for caution in cautions(study, None if folder is None else Run.envisage(folder, study)):
        print(caution, file=sys.stderr)


def carry_out(
    the_run: Run,
    stages: Sequence[Stage],
    jobs: int | None,
    only: Iterable[tuple[str, str]] | None = None,
    again: bool = False,
) -> int:
    """Make ``stages`` (or their shards ``only``) on this machine, and say how it ended."""
    started = time.monotonic()
    with follow(the_run, stages) as progress:
        executor = LocalExecutor(the_run, Capacity.of_this_machine(jobs), progress.changed)
        failed = executor.run(stages, only=only, again=again)
    return conclude(the_run, failed, time.monotonic() - started)


def conclude(the_run: Run, failed: list[Task], seconds: float) -> int:
    """Say how it ended: what failed and what to do, or where the results are."""
    broken = [task for task in failed if task.state == "failed"]
    if not broken:
        print(f"done in {duration(seconds)}: {the_run.root}")
        if (page := the_run.folder("report") / "report.html").exists() and not the_run.missing("report"):
            for line in what_it_shows(the_run):
                print(line)
            print(f"report: {page}\ntables: modpo results {the_run.quoted}")
        return 0
    alike: dict[str, list[Task]] = {}
    for task in broken:
        assert task.log is not None
        alike.setdefault(f"{task.stage} {task.exit_code} {last_words(task.log, 1).rpartition(' | ')[2]}", []).append(
            task
        )
    for tasks in alike.values():
        first = tasks[0]
        assert first.log is not None
        how = f"exit code {first.exit_code}"
        if first.exit_code == -signal.SIGKILL:
            how = "killed, which mostly means that memory ran out: give it more in resources, or use --jobs"
        others = f" and {len(tasks) - 1} more shards alike" if len(tasks) > 1 else ""
        print(f"\n{first.stage} {first.shard}{others} failed ({how}), log {first.log}:", file=sys.stderr)
        print(last_words(first.log), file=sys.stderr)
    not_started = {task.stage for task in failed if task.state == "blocked"}
    blocked = [stage.name for stage in STAGES if stage.name in not_started]
    print(f"\n{len(broken)} shard{'s' * (len(broken) > 1)} failed.", file=sys.stderr)
    if blocked:
        print(f"Not started, since they need these: {', '.join(blocked)}.", file=sys.stderr)
    print(f"Again, after the cause is mended: modpo rerun {the_run.quoted} {broken[0].stage}", file=sys.stderr)
    codes = {task.exit_code for task in broken}
    return codes.pop() or 1 if codes in ({2}, {3}) else 1


def what_is_made(the_run: Run, stages: Sequence[Stage]) -> list[str]:
    """The size of the work before it starts: what there is, how much of it is done, and what it will show."""
    study = the_run.study
    total = sum(len(the_run.shard_ids(stage.name)) for stage in stages)
    done = sum(len(the_run.done(stage.name)) for stage in stages)
    size = f"{formats.counted(total, 'shard')} of {formats.counted(len(stages), 'stage')}"
    lines = [
        f"study {study.name} in {the_run.root}: {size}{f', {done:,} done' * (done > 0)}",
        f"responses are ranked by {len(study.criteria.rank)} criteria; of the rankings come "
        f"{len(study.alignment.policies)} policies",
    ]
    return lines + [
        f"{name} will show how often each of {len(phase.policies)} policies wins by "
        f"{' and '.join(map(formats.title, phase.criteria))}"
        for name, phase in study.judging.phases.items()
        if any(stage.name == "statistics" for stage in stages)
    ]


def what_it_shows(the_run: Run) -> list[str]:
    """The finding of the first phase in two sentences, folded to 100 columns, with the mark of simulated results."""
    from modpo_hpc.report.findings import in_two_sentences, phase_line
    from modpo_hpc.report.results import read_results

    results = read_results(the_run)
    phase = next(iter(results.phases))
    lines = ["", *([results.mark] if results.mark else []), f"{phase}: {phase_line(results, phase)}"]
    for sentence in in_two_sentences(results, phase, the_run.study.alignment.policies):
        lines += wrap(sentence, 100, initial_indent="  • ", subsequent_indent="    ", break_on_hyphens=False)
    return [*lines, ""]
