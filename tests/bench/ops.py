"""The commands that people wait for, from the shell's point of view, and a stage of many shards on a real Slurm.

- ``modpo status`` on a run of 5,000 shards, half of them done: by markers alone, and with the other half in the books
  of a Slurm (held, so that nothing is computed); by markers alone of 50,000, too; ``modpo --help``. Beside the time
  that a person waits stands that of the processor, which other work on the machine changes less.
- what a shard takes that rests on 5,000 others: reading every marker, as the first one does, and what the others do.
- ``modpo submit`` of 1,000 array tasks, split under MaxArraySize, until every one of them is done.
- with ``--study``, and nothing else then: a whole study by ``modpo run``, through Slurm with the packs that ``modpo
  plan`` proposes, and through Slurm again with the profile that ``modpo efficiency --write-profile`` wrote: time, CPU
  seconds, and memory asked times time held by stage. Slurm has one node then, with the CPUs that this machine has.

The test bed of ``slurm/testbed`` is started for it, or the Slurm is used that SLURM_CONF names. A ratio is the bound
that was set over what was measured, or, for the look at the needs, all markers over the summary.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from modpo_hpc.core.marker_index import STILL_SECONDS
from modpo_hpc.core.markers import MARKERS, Marker, Output, write_marker
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.bench.measuring import CORES, tell

STATUS_BOUND, HELP_BOUND = 1.0, 0.3
TIMES_AS_MANY = 10
MAX_ARRAY_SIZE = 401
REPOSITORY = Path(__file__).resolve().parent.parent.parent
TESTBED = REPOSITORY / "slurm" / "testbed" / "testbed.py"
RECIPE = """\
def {verb}(run, shard):
    with shard.file(f"{{shard.id}}.txt") as stream:
        stream.write(shard.id)
"""


def make_run(folder: Path, wanted: int, share: float) -> Run:
    """A run with the markers of a ``share`` of its ``wanted`` shards of responses, and of all that they rest on."""
    study = load_study(REPOSITORY / "configs" / "demo.yaml", [f"shards.responses={wanted}"])
    run = Run.create(folder, study)
    for stage in ("questions", "personas", "models", "responses"):
        ids = run.shard_ids(stage)
        inventory = run.inventory()
        for number, shard in enumerate(ids[: max(1, round(len(ids) * share))]):
            output = {f"{shard}.parquet": Output(10_000, f"{number:064x}", 100)}
            inputs = inventory.inputs(stage, shard) or ""
            marker = Marker(stage, shard, inputs, output, time.time() - 9, 8.0, "n1", None, 1)
            write_marker(run.folder(stage), marker)
    return run


def make_recipes(folder: Path) -> None:
    """Recipes that write a few bytes, so that what is measured is everything else."""
    folder.mkdir()
    for verb in ("prepare", "teach", "generate", "rank"):
        (folder / f"{verb}.py").write_text(RECIPE.format(verb=verb))


def seconds(*words: object) -> tuple[float, float]:
    """Wall time and time of the processor of a modpo command, from the start of the interpreter to its end.

    As for an installed package, its modules are compiled once, whatever this process was told of that.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "modpo_hpc", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    took, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 3):
        sys.exit(done.stdout + done.stderr)
    return took, sum(after[2:4]) - sum(before[2:4])


def typical(repeats: int, *words: object) -> tuple[float, float]:
    """Medians of :func:`seconds` over ``repeats`` calls, after one that does not count."""
    seconds(*words)
    taken = [seconds(*words) for _ in range(repeats)]
    return statistics.median(one for one, _ in taken), statistics.median(one for _, one in taken)


def bench_needs(folder: Path, wanted: int) -> tuple[float, float]:
    """Seconds of one small shard behind ``wanted`` others: while it reads every marker, and after that."""
    from modpo_hpc.launch.entry import run_shard

    run = make_run(folder, wanted, 1.0)
    taken: list[list[float]] = [[], []]
    for number, shard in enumerate(("0", "0", "0", "1", "0", "1", "0")):
        (run.folder("rankings") / "markers" / f"{shard}.json").unlink(missing_ok=True)
        if number == 3:
            time.sleep(STILL_SECONDS + 1)
        began = time.perf_counter()
        run_shard(str(run.root), "rankings", shard)
        taken[number > 3].append(time.perf_counter() - began)
    return statistics.median(taken[0]), statistics.median(taken[1])


def submit_held(run: Run, profile: str) -> list[str]:
    """Hand in the missing responses, held, and return the ids of the arrays."""
    from modpo_hpc.launch.graph import Work
    from modpo_hpc.launch.profile import load_profile
    from modpo_hpc.launch.slurm import Submitter

    held = load_profile(profile).model_copy(update={"sbatch": {"hold": True}})
    work = Work("responses", tuple(run.missing("responses")), (), ())
    return [one.job for one in Submitter(run, held).submit([work], {})]


def bench_submit(folder: Path, tasks: int) -> dict[str, Any]:
    """Submit a stage of ``tasks`` shards and all that it rests on; wait until every shard is done."""
    profile = folder / "profile.yaml"
    placement = {"cpus": 1, "memory_gb": 0.5, "minutes": 5}
    profile.write_text(
        json.dumps({"partition": "cpu", **placement, "limits": {"signal_seconds": 30, "throttle": os.cpu_count()}})
    )
    study = ("configs/demo.yaml", "--set", f"shards.responses={tasks}")
    words = ("submit", *study, "--run", folder / "array", "--profile", profile, "--until", "responses")
    began = time.perf_counter()
    took, _ = seconds(*words)
    run = Run.open(folder / "array")
    rows = [json.loads(line) for line in (run.root / "slurm" / "submissions.jsonl").read_text().splitlines()]
    arrays = [len(row["shards"]) for row in rows if row["stage"] == "responses"]
    markers = run.folder("responses") / MARKERS
    while not markers.exists() or len(list(markers.glob("*.json"))) < tasks:
        if time.perf_counter() - began > 1800:
            sys.exit("the tasks were not done in half an hour; see modpo triage")
        time.sleep(1)
    all_done = time.perf_counter() - began - took
    assert len(run.done("responses")) == tasks
    look, _ = typical(5, "status", run.root, "--json")
    return {
        "submit_s": took,
        "sbatch_calls": len(rows),
        "arrays": arrays,
        "all_done_s": all_done,
        "status_of_done_s": look,
    }


def bench_study(folder: Path, study: str) -> dict[str, Any]:
    """Wall and CPU seconds of ``study`` here and twice through Slurm, and what its jobs asked before and after."""
    profile = yaml.safe_load((REPOSITORY / "slurm" / "profiles" / "testbed.yaml").read_text())
    profile["limits"]["throttle"] = os.cpu_count()
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    plan = json.loads(modpo("plan", study, "--profile", folder / "profile.yaml", "--json"))
    packs = {stage: {"pack": pack} for stage, pack in plan["packs"].items()}
    (folder / "profile.yaml").write_text(yaml.safe_dump({**profile, "stages": packs}))
    found: dict[str, Any] = {"study": study, "packs": plan["packs"]}
    with timed(found, "local", "modpo run"):
        modpo("run", study, "--run", folder / "local")
    ways = (("first", "profile.yaml", "through Slurm"), ("again", "measured.yaml", "with the measured profile"))
    for name, file, words in ways:
        run_dir = folder / name
        with timed(found, name, words):
            modpo("submit", study, "--run", run_dir, "--profile", folder / file)
            wait_until_complete(Run.open(run_dir))
        written = ("--write-profile", folder / "measured.yaml") if name == "first" else ()
        found[name] = json.loads(modpo("efficiency", run_dir, "--json", *written))
    return found


@contextmanager
def timed(found: dict[str, Any], name: str, words: str) -> Iterator[None]:
    """Put into ``found`` how long the block took, and the CPU seconds of the whole machine meanwhile."""
    began, before = time.perf_counter(), busy()
    yield
    found[f"{name}_s"], found[f"{name}_cpu_s"] = time.perf_counter() - began, busy() - before
    print(f"{words}: {found[f'{name}_s']:.0f} s, {found[f'{name}_cpu_s']:.0f} CPU s of the whole machine", flush=True)


def busy() -> float:
    """CPU seconds that this machine has spent since it started, whoever asked for them."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def wait_until_complete(run: Run) -> None:
    """Until the last stage is done; not for a run that has ended badly."""
    last = run.folder("report") / MARKERS
    while not any(last.glob("*.json")):
        counts = json.loads(modpo("status", run.root, "--json"))["stages"]
        if any(one["failed"] for one in counts):
            sys.exit(modpo("triage", run.root))
        time.sleep(5)


def modpo(*words: object) -> str:
    """What a modpo command printed; a status that is not complete is no failure."""
    done = subprocess.run([sys.executable, "-m", "modpo_hpc", *map(str, words)], capture_output=True, text=True)
    if done.returncode and words[0] not in ("status", "triage"):
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def show_study(found: dict[str, Any]) -> None:
    """What was asked, in a table, then one line of JSON."""
    rows = {name: {row["stage"]: row for row in found[name]["stages"]} for name in ("first", "again")}
    print("| stage | jobs | GB used | GB asked | after | GB-hours asked | after |\n|---|---|---|---|---|---|---|")
    for stage, one in rows["first"].items():
        new, used = rows["again"][stage], one["memory_gb"] or 0
        figures = (used, one["asked_gb"], new["asked_gb"], one["gb_hours"], new["gb_hours"])
        print(f"| {stage} | {one['jobs']} | " + " | ".join(f"{figure:.3g}" for figure in figures) + " |")
    hours = [found[name]["total"]["gb_hours"] for name in ("first", "again")]
    print(f"| all | {found['first']['total']['jobs']:.0f} | | | | {hours[0]:.3f} | {hours[1]:.3f} |")
    names = ("local_s", "local_cpu_s", "first_s", "first_cpu_s", "again_s", "again_cpu_s")
    absolute = {"study": found["study"], "packs": found["packs"], **{name: round(found[name], 1) for name in names}}
    ratios = {
        "through Slurm against here": round(found["first_s"] / found["local_s"], 2),
        "CPU through Slurm against here": round(found["first_cpu_s"] / found["local_cpu_s"], 2),
        "GB-hours after against before": round(hours[1] / hours[0], 2),
    }
    tell("ops-study", ratios=ratios, absolute=absolute, machine=CORES)


@contextmanager
def slurm(*more: str) -> Iterator[None]:
    """The Slurm of SLURM_CONF, or a test bed for as long as the block runs, started with the options ``more``."""
    if os.environ.get("SLURM_CONF"):
        yield
        return
    folder = Path(f"/tmp/mb{os.getpid()}ops")
    place = ("--folder", str(folder), "--port", str(24000 + os.getpid() % 100 * 20))
    options = ("--max-array-size", str(MAX_ARRAY_SIZE), *more)
    subprocess.run([sys.executable, TESTBED, "start", *place, *options], check=True)
    os.environ["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")
    try:
        yield
    finally:
        subprocess.run([sys.executable, TESTBED, "stop", *place], check=True)
        del os.environ["SLURM_CONF"]
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=5000)
    parser.add_argument("--tasks", type=int, default=1000, help="array tasks that are submitted and run; 0: none")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", default="testbed", help="where the shards in Slurm's books are held")
    parser.add_argument("--no-slurm", action="store_true", help="what needs no Slurm")
    parser.add_argument("--study", help="a whole study, here and through Slurm; nothing else is measured then")
    arguments = parser.parse_args()
    os.chdir(REPOSITORY)
    if arguments.study:
        as_here = ("--nodes", "1", "--cpus", str(os.cpu_count()))
        with tempfile.TemporaryDirectory() as name, slurm(*as_here):
            os.environ |= {"MODPO_LOGS": f"{name}/logs", "PYTHONPATH": str(REPOSITORY)}
            show_study(bench_study(Path(name), arguments.study))
        return
    found: dict[str, Any] = {"shards": arguments.shards}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_recipes(folder / "recipes")
        os.environ |= {"MODPO_LOGS": f"{name}/logs", "MODPO_JOBS": f"{name}/recipes", "PYTHONPATH": str(REPOSITORY)}
        run = make_run(folder / "run", arguments.shards, 0.5)
        many = make_run(folder / "many", TIMES_AS_MANY * arguments.shards, 0.5)
        for key, words in (
            ("status", ("status", run.root, "--json")),
            ("status_of_ten_times", ("status", many.root, "--json")),
            ("help", ("--help",)),
        ):
            found[f"{key}_s"], found[f"{key}_cpu_s"] = typical(arguments.repeats, *words)
        found["needs_by_markers_s"], found["needs_by_summary_s"] = bench_needs(folder / "needs", arguments.shards)
        if not arguments.no_slurm:
            with slurm():
                held = submit_held(run, arguments.profile)
                found["status_with_slurm_s"], _ = typical(arguments.repeats, "status", run.root, "--json")
                subprocess.run(["scancel", *held], check=True)
                if arguments.tasks:
                    found |= {"tasks": arguments.tasks, **bench_submit(folder, arguments.tasks)}
    show(found)


def show(found: dict[str, Any]) -> None:
    """The figures in sentences, then as one line of JSON."""
    many = found["shards"]
    print(f"modpo --help {found['help_s']:.2f} s, of the processor {found['help_cpu_s']:.2f} s; by markers alone:")
    for count, key in ((many, "status"), (TIMES_AS_MANY * many, "status_of_ten_times")):
        print(f"status of {count} shards {found[f'{key}_s']:.2f} s, of the processor {found[f'{key}_cpu_s']:.2f} s")
    ratios = {
        "help against its bound": HELP_BOUND / found["help_s"],
        "status against its bound": STATUS_BOUND / found["status_s"],
        "status of ten times as many against the same bound": STATUS_BOUND / found["status_of_ten_times_s"],
        "needs by the summary against every marker": found["needs_by_markers_s"] / found["needs_by_summary_s"],
    }
    first, others = found["needs_by_markers_s"], found["needs_by_summary_s"]
    print(f"a shard behind {many} others: {first:.3f} s the first, {others:.3f} s the next")
    if "status_with_slurm_s" in found:
        print(f"status with half of them in Slurm's books: {found['status_with_slurm_s']:.2f} s")
        ratios["status with Slurm against its bound"] = STATUS_BOUND / found["status_with_slurm_s"]
    if "submit_s" in found:
        calls, arrays = found["sbatch_calls"], found["arrays"]
        print(f"{found['tasks']} tasks handed in after {found['submit_s']:.1f} s: {calls} sbatch, arrays of {arrays}")
        print(f"all done {found['all_done_s']:.0f} s after that; their status {found['status_of_done_s']:.2f} s")
    absolute = {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}
    rounded = {key: round(value, 2) for key, value in ratios.items()}
    tell("ops", ratios=rounded, absolute=absolute, machine=CORES)


if __name__ == "__main__":
    main()
