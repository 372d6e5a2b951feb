"""``modpo plan``: what a study will take, before anything is queued."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modpo_hpc.checks import cautions, check_inputs, questions_of, without_absent_inputs
from modpo_hpc.cli.arguments import add_json, add_reuse, add_study, first_of
from modpo_hpc.cli.consoles import console, table_of
from modpo_hpc.cli.progress import duration
from modpo_hpc.core.changes import FATES, ShardChange, causes, changes, counted
from modpo_hpc.core.reuse import check_reuse
from modpo_hpc.errors import InputError
from modpo_hpc.launch.efficiency import proposed_pack
from modpo_hpc.launch.estimate import StagePlan, assumptions, plan_stages
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.launch.state import Snapshot, take_snapshot
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from modpo_hpc.study.evaluation import sandbox_mark

NATURAL_WIDTH = 150


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--run", metavar="DIR", help="take off what is done in this run; its finished shards give the times"
    )
    add_reuse(parser)
    parser.add_argument("--profile", metavar="P", default="gpu", help="cluster profile (default: gpu)")
    parser.add_argument(
        "--pilot", metavar="RUN", help="finished verdicts that say how many calls judging.stop: sequential will make"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.evaluation.non_inferiority import power_sentences
    from modpo_hpc.evaluation.sequential import plan_sentences
    from modpo_hpc.personalization import power

    study, profile = load_study(arguments.study, arguments.overrides), load_profile(arguments.profile)
    if arguments.reuse and not arguments.run:
        raise InputError(
            "results are taken into a run, and none is named",
            field="--reuse",
            remedy="Name the run with --run; it need not be there yet.",
        )
    if arguments.pilot and study.judging.stop != "sequential":
        raise InputError(
            "a pilot says where sequential judging stops, and this study does not stop so",
            field="--pilot",
            value=arguments.pilot,
            remedy="Leave it out, or plan with --set judging.stop=sequential.",
        )
    the_run = Run.envisage(arguments.run, study) if arguments.run else None
    snapshot = take_snapshot(the_run) if the_run else None
    found = changes(the_run, [Path(one) for one in check_reuse(arguments.reuse)]) if the_run else []
    planned, assumed = without_absent_inputs(study)
    accounts = check_inputs(planned)
    counts = count_questions(planned, snapshot)
    rows = query(study, profile, counts, snapshot, found)
    assumed += [*assumptions(study, profile), *power_sentences(study, counts.test), *power.sentences(study)]
    assumed += plan_sentences(study, counts.test, Run.open(arguments.pilot) if arguments.pilot else None)
    mark = the_run.sandbox_mark if the_run else sandbox_mark(study.simulated)
    plan = Plan(study, mark, profile, counts, rows, assumed, cautions(planned, the_run), accounts, found)
    if arguments.json:
        print(json.dumps(as_json(plan)))
    else:
        render(plan)
        if the_run is not None:
            render_changes(the_run, found)
    return 0


def query(
    study: Study, profile: Profile, counts: Counts, snapshot: Snapshot | None, found: Sequence[ShardChange] = ()
) -> list[StagePlan]:
    """The rows of the plan, less what the run of ``snapshot`` has or can take from elsewhere."""
    if snapshot is None:
        return plan_stages(study, profile, counts, {stage.name: stage.shards(study) for stage in STAGES}, {})
    to_make = [one for one in found if one.fate in ("again", "new")]
    left = {stage.name: tuple(one.shard for one in to_make if one.stage == stage.name) for stage in STAGES}
    survey = snapshot.survey.items()
    seconds = {name: [marker.seconds for marker in one.markers.values()] for name, one in survey}
    return plan_stages(study, profile, counts, left, seconds)


def count_questions(study: Study, snapshot: Snapshot | None) -> Counts:
    """Training and test questions: from the run if they are prepared, else as the study will cut them."""
    if snapshot is not None and snapshot.shards["questions"]["all"].state == "done":
        splits = snapshot.run.table("questions", ["split"])["split"].to_pylist()
        train, test = splits.count("train"), splits.count("test")
    else:
        train, test = questions_of(study)
    return Counts(min(train, study.data.use_train or train), min(test, study.data.use_test or test))


def totals(rows: list[StagePlan]) -> dict[str, float]:
    """Sums over the stages, and the wall time along the longest chain of needs."""
    summed = ("gpu_hours", "gpu_hours_worst", "cpu_hours", "calls_left", "price", "disk_bytes")
    return {
        "shards_left": sum(row.left for row in rows),
        **{name: sum(getattr(row, name) for row in rows) for name in summed},
        "wall_seconds": max((row.ends_after_seconds for row in rows), default=0.0),
        "wall_seconds_with_barriers": max((row.ends_after_barriers for row in rows), default=0.0),
    }


def makespan(rows: list[StagePlan]) -> str:
    """How long it takes, and what is won by shards that begin when what they read is there."""
    total = totals(rows)
    waiting = duration(total["wall_seconds_with_barriers"])
    said = f"{duration(total['wall_seconds'])} under the throttle, if the queue is empty"
    return f"{said}; {waiting} if each stage waited for the whole of those before it"


@dataclass(frozen=True)
class Plan:
    """A plan as it is shown: ``assumed`` is what it rests on, ``accounts`` what was found in the study's files."""

    study: Study
    mark: str | None
    profile: Profile
    counts: Counts
    rows: list[StagePlan]
    assumed: list[str]
    cautions: list[str]
    accounts: list[str]
    changes: Sequence[ShardChange]


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain data."""
    total, prices = totals(plan.rows), plan.profile.prices
    return {
        "study": plan.study.name,
        "sandbox": plan.mark is not None,
        "questions": asdict(plan.counts),
        "currency": prices.currency,
        "stages": [asdict(row) for row in plan.rows],
        "assumptions": plan.assumed,
        "cautions": plan.cautions,
        "packs": {row.stage: pack for row, pack in _packs(plan.rows, plan.profile)},
        "accounts": plan.accounts,
        "changes": [asdict(one) for one in plan.changes],
        "total": {**total, "price_of_gpus": total["gpu_hours"] * prices.gpu_hour},
    }


def render(plan: Plan) -> None:
    """Print a row a stage, what it comes to, and what that rests on."""
    rows, profile, counts = plan.rows, plan.profile, plan.counts
    shown = console(elsewhere=NATURAL_WIDTH)
    narrow = shown.width < NATURAL_WIDTH
    cells = [
        {
            "stage": row.stage,
            "shards": f"{row.shards:,}",
            "left": f"{row.left:,}" if row.left else "[green]done[/]",
            **({} if narrow else {"each takes": _resources(row), "work": _work(row)}),
            "calls": f"{row.calls_left:,}" if row.calls_left else "",
            "GPU-h": f"{row.gpu_hours:,.1f}" if row.gpu_hours else "",
            "at worst": f"{row.gpu_hours_worst:,.0f}" if row.gpu_hours_worst else "",
            "each": f"{'' if row.measured else '~'}{duration(row.seconds_per_shard)}",
            "ready after": duration(row.ends_after_seconds) if row.left else "",
        }
        for row in rows
    ]
    total, currency = totals(rows), profile.prices.currency
    shown.print(
        f"[bold]{plan.study.name}[/]: {counts.train:,} training and {counts.test:,} test questions"
        f"{f'  ({plan.mark})' if plan.mark else ''}"
    )
    for account in plan.accounts:
        shown.print(f"[dim]{account}[/]")
    shown.print(table_of(cells, ("each takes", "work"), padding=(0, 1 if narrow else 2, 0, 0)))
    gpus = f"{total['gpu_hours']:,.1f} GPU-hours, at worst {total['gpu_hours_worst']:,.0f}"
    worst = f" (every shard runs into its limit {1 + profile.limits.timeouts} times)"
    price = f"{total['price']:,.2f} {currency} for {total['calls_left']:,.0f} judge calls"
    rent = (
        f", {total['gpu_hours'] * profile.prices.gpu_hour:,.2f} {currency} for GPUs" if profile.prices.gpu_hour else ""
    )
    shown.print(f"\n{gpus}{worst if total['gpu_hours_worst'] else ''}; {total['cpu_hours']:,.1f} CPU-hours")
    shown.print(f"{price}{rent}; {total['disk_bytes'] / 1e9:,.1f} GB on disk")
    shown.print(makespan(rows))
    for row in rows:
        if row.requeues_expected:
            limit = row.allocation.minutes
            shown.print(f"[yellow]{row.stage}: longer than its limit of {limit} min; it will be requeued[/]")
    for row, pack in _packs(rows, profile):
        shown.print(
            f"{row.stage}: start-up is much of a shard's time; stages: {{{row.stage}: {{pack: {pack}}}}} pays "
            f"it once for {pack} shards"
        )
    for caution in plan.cautions:
        shown.print(f"[yellow]{caution}[/]")
    shown.print(
        "\n[dim]~ from the speeds of the profile; without it, from finished shards. "
        "Counts are exact, the rest rests on:[/]"
    )
    for sentence in plan.assumed:
        shown.print(f"[dim]- {sentence}[/]")


def _packs(rows: list[StagePlan], profile: Profile) -> list[tuple[StagePlan, int]]:
    """Stages of which a job should make several shards, and how many."""
    start_up, found = profile.speeds.startup_seconds, []
    for row in rows:
        work = row.seconds_per_shard if row.measured else row.seconds_per_shard - start_up
        pack = proposed_pack(row.left, work, start_up, row.allocation.throttle)
        if pack > 1 and pack != row.allocation.pack and row.allocation.launcher == "python":
            found.append((row, pack))
    return found


def render_changes(the_run: Run, found: Sequence[ShardChange]) -> None:
    """Print what becomes of the results that the run has: how many shards stay, which are made again, and why."""
    count = counted(found)
    if not set(count) - {"new"}:
        return
    print(f"\nWhat becomes of {the_run.root}:")
    for fate, number in count.items():
        print(f"  {number:>6,} shards {FATES[fate]}")
    for why, mine in causes(found).items():
        print(f"  made again, because of {why}:" if not why.startswith("they") else f"  made again, since {why}:")
        for stage in dict.fromkeys(one.stage for one in mine):
            print(f"    {stage}: {first_of([one.shard for one in mine if one.stage == stage], 4)}")
    if count.get("again"):
        print("  One that reads what is made again stays after all if that comes out the same, byte for byte.")


def _resources(row: StagePlan) -> str:
    one = row.allocation
    gpus = f"{one.gpus * one.nodes} GPU " if one.gpus else ""
    return f"{gpus}{one.cpus} CPU {one.memory_gb:g} GB {one.minutes} min"


def _work(row: StagePlan) -> str:
    work = row.workload
    if not work.items:
        return ""
    tokens = work.tokens_read + work.tokens_written
    scale, unit = next((pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if tokens >= pair[0]), (1.0, ""))
    return f"{work.items:,} {work.unit}, {tokens / scale:.1f}{unit} tokens"
