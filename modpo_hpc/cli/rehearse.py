"""``modpo rehearse``: the whole study at its true counts, with stand-ins for models and judges."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modpo_hpc.checks import without_absent_inputs
from modpo_hpc.cli.arguments import add_json, add_study, require_positive, show
from modpo_hpc.cli.plan import count_questions, makespan, query
from modpo_hpc.cli.progress import Follower, follow
from modpo_hpc.cli.run import check, chosen_stages, conclude
from modpo_hpc.cli.submit import submit
from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import IncompleteError
from modpo_hpc.launch.commands import require_slurm
from modpo_hpc.launch.local import Capacity, LocalExecutor
from modpo_hpc.launch.profile import light, load_profile
from modpo_hpc.launch.slurm import Work, check_with_slurm
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run
from modpo_hpc.study import Study, load_study

if TYPE_CHECKING:
    from modpo_hpc.rehearsal.report import Rehearsal

RECIPES = Path(__file__).resolve().parent.parent / "rehearsal" / "jobs"
DEFAULT_ARRAY_LIMIT = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser, "study file, for instance configs/paper.yaml")
    parser.add_argument("--run", required=True, metavar="DIR", help="folder for the rehearsal; a run of its own")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--jobs", type=int, metavar="N", help="CPUs to use at once; all of them if not given")
    parser.add_argument(
        "--profile",
        metavar="P",
        help="rehearse on a Slurm cluster: lets Slurm judge the real jobs, hands the rehearsal's in and ends; the same "
        "command later makes the report",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.rehearsal.report import render
    from modpo_hpc.rehearsal.study import rehearsed

    require_positive("--jobs", arguments.jobs, "at least one CPU is needed")
    real = load_study(arguments.study, arguments.overrides)
    study = rehearsed(real, arguments.study)
    stages = [stage.name for stage in chosen_stages(arguments.until)]
    check(study, accounts_to=sys.stderr)
    # every process of the rehearsal, on any node, finds the stand-ins by this variable
    os.environ["MODPO_JOBS"] = str(RECIPES)
    the_run = Run.create(arguments.run, study)
    kept = the_run.root / "rehearsal.json"
    notes: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    if any(the_run.missing(stage) for stage in stages):
        if arguments.profile:
            _submit(arguments.profile, the_run, real, stages, quiet=arguments.json)
            raise IncompleteError(f"the rehearsal is queued; when it is done, type the same again: {the_run.root}")
        if code := _run_here(the_run, stages, arguments.jobs, notes, quiet=arguments.json):
            return code
        write_text(kept, json.dumps(notes))
    counts = count_questions(without_absent_inputs(real)[0], None)
    time_needed = makespan(query(real, load_profile(arguments.profile or "gpu"), counts, None))
    found = gather(the_run, notes, time_needed)
    (the_run.root / "rehearsal.md").write_text(render(found), encoding="utf-8")
    show(arguments.json, found.as_json(), render(found).removesuffix("\n"), indent=1)
    return 0


def gather(the_run: Run, notes: dict[str, float], makespan: str) -> Rehearsal:
    """Read all that the rehearsal shows."""
    from modpo_hpc.rehearsal.measure import footprint, stage_costs
    from modpo_hpc.rehearsal.report import Rehearsal
    from modpo_hpc.rehearsal.scaling import pains

    study, costs = the_run.study, stage_costs(the_run)
    rows = Counter({one.stage: one.rows for one in costs})
    counts = {
        "posts": rows["questions"],
        "personas": the_run.table("personas", ["persona_id"]).num_rows if rows["personas"] else 0,
        "responses": rows["responses"],
        "rankings by a criterion": rows["rankings"],
        "answers": rows["answers"],
        "pairs of policies": sum(len(phase.pairs) for phase in study.judging.phases.values()),
        "verdicts": rows["verdicts"],
    }
    files = footprint(the_run.root)
    return Rehearsal(
        study=study.name,
        counts=counts,
        costs=costs,
        run=files,
        logs=footprint(the_run.logs),
        peak_files=int(max(files.files, notes.get("peak_files", 0))),
        peak_bytes=int(max(files.bytes, notes.get("peak_bytes", 0))),
        array_limit=DEFAULT_ARRAY_LIMIT,
        wall_seconds=notes.get("wall_seconds"),
        makespan=makespan,
        pains=pains(costs),
    )


def _run_here(the_run: Run, stages: list[str], jobs: int | None, notes: dict[str, float], quiet: bool) -> int:
    """Make ``stages``; ``notes`` of what that took are brought up to date if all went well."""
    from modpo_hpc.rehearsal.measure import watched

    # stand-ins load no model, so no process needs torch
    light = [replace(stage_named(name), uses_models=False) for name in stages]
    started = time.monotonic()
    with watched(the_run.root) as seen, nullcontext(Follower(the_run)) if quiet else follow(the_run, light) as progress:
        failed = LocalExecutor(the_run, Capacity.of_this_machine(jobs), progress.changed).run(light)
    seconds = time.monotonic() - started
    if failed:
        return conclude(the_run, failed, seconds)
    notes |= {
        "wall_seconds": notes.get("wall_seconds", 0.0) + seconds,
        "peak_files": max(notes.get("peak_files", 0), *(one.files for one in seen)),
        "peak_bytes": max(notes.get("peak_bytes", 0), *(one.bytes for one in seen)),
    }
    return 0


def _submit(name: str, the_run: Run, real: Study, stages: list[str], quiet: bool) -> None:
    require_slurm()
    profile = load_profile(name)
    would_be = Run(the_run.root, real, the_run.provenance)
    work = [Work(stage, shards, (), ()) for stage in stages if (shards := stage_named(stage).shards(real))]
    check_with_slurm(would_be, profile, work)
    if not quiet:
        print(f"Slurm would take the jobs of all {len(work)} stages of {real.name}, with their GPUs, memory and time")
    submit(the_run.root, the_run.study, light(profile), [stage_named(stage) for stage in stages], show=not quiet)
