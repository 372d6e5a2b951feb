"""``modpo pack``: a finished run as one file; with ``--verify`` the check of a run, or of such a file anywhere."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from modpo_hpc.cli.arguments import add_flag, add_json, add_repeated, show
from modpo_hpc.core.markers import Output, describe_output, read_marker
from modpo_hpc.packing import pack, verify_pack
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR|FILE", help="run directory to pack; with --verify, what to check")
    parser.add_argument("--to", metavar="FILE", help="where to write the pack; DIR.tar if not given")
    add_flag(parser, "--verify", "hold every file of a run or a pack against its manifest; pack nothing")
    parser.add_argument("--stage", metavar="STAGE", help="with --verify: this stage of a run only")
    add_repeated(parser, "--leave-out", "STAGE", "outputs to leave behind, such as rewards")
    add_flag(parser, "--partial", "pack a run that is not finished")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.rehearsal.report import size

    if arguments.verify and Path(arguments.path).is_dir():
        return verify(Run.open(arguments.path), arguments.stage, arguments.json)
    if arguments.verify:
        target = Path(arguments.path)
        packed = verify_pack(target)
        said = "Whole: every file is what was packed."
    else:
        the_run = Run.open(arguments.path)
        target = Path(arguments.to) if arguments.to else the_run.root.with_name(f"{the_run.root.name}.tar")
        packed = pack(the_run, target, tuple(arguments.leave_out), arguments.partial)
        said = (
            f"Check it elsewhere with: modpo pack --verify {target.name}; unpack it with: tar xf {target.name}.\n"
            "It holds personas and posts: keep it where only those may read it who may read the run."
        )
    lines = f"{target}: {packed.files:,} files, {size(packed.bytes)} of the run {packed.name}.\n{said}"
    show(arguments.json, {**asdict(packed), "file": str(target)}, lines)
    return 0


def verify(run: Run, stage: str | None, as_json: bool) -> int:
    """Every output of a run against its manifest, byte for byte."""
    stages = [stage_named(stage).name] if stage else [one.name for one in STAGES]
    checked, damages = 0, list[dict[str, str]]()
    for name in stages:
        for shard in run.shard_ids(name):
            marker = read_marker(run.folder(name), shard)
            for file, output in (marker.outputs if marker else {}).items():
                checked += 1
                path = run.folder(name) / file
                if problem := problem_of(path, output):
                    damages.append({"stage": name, "shard": shard, "file": str(path), "problem": problem})
    show(as_json, {"files": checked, "damaged": damages}, render(run, checked, damages))
    return 1 if damages else 0


def problem_of(path: Path, output: Output) -> str:
    """How a file differs from what its shard left; empty if it does not."""
    if not path.exists():
        return "missing"
    if path.stat().st_size != output.bytes:
        return f"{path.stat().st_size} bytes, not {output.bytes}"
    return "" if describe_output(path).sha256 == output.sha256 else "other content than when it was made"


def render(run: Run, checked: int, damages: list[dict[str, str]]) -> str:
    """One line a damage, and the commands that mend them."""
    if not damages:
        return f"{checked:,} files are as they were made"
    lines = ["{stage} {shard}: {file}: {problem}".format_map(one) for one in damages]
    lines.append(f"{len(damages)} of {checked:,} files are damaged. Make their shards again with:")
    for stage, mine in groupby(damages, itemgetter("stage")):
        names = " ".join(dict.fromkeys(one["shard"] for one in mine))
        lines.append(f"modpo rerun {run.quoted} {stage} {names}")
    return "\n".join(lines)
