"""``modpo import``: the paper's data, or others in its formats, into a run from which the study goes on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path

from modpo_hpc.cli.arguments import add_study, quoted
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.bundle import check_bundle, files_in, read_bundle
from modpo_hpc.run import Run
from modpo_hpc.study import load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser, "study file that goes on with the data")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, or folders of them")
    parser.add_argument("--run", required=True, metavar="DIR", help="run directory, new or without these stages")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=POLICY",
        dest="models",
        help="which policy a model of the answers is, where the names differ",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.exchange.imports import bring_in

    study = load_study(arguments.study, arguments.overrides)
    bundle = read_bundle(files_in(arguments.files), study, _models(arguments.models, study.alignment.policies))
    check_bundle(bundle, study)
    the_run = Run.create(arguments.run, study)
    rows = bring_in(the_run, bundle)
    print(
        json.dumps({"run": str(the_run.root), "rows": rows}) if arguments.json else _told(the_run.root, rows, arguments)
    )
    return 0


def _models(given: list[str], policies: Collection[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        model, equals, policy = one.partition("=")
        if not equals or policy not in policies:
            raise InputError(
                "this names no policy of the study", field="--model", value=one, remedy="Write --model NAME=POLICY."
            )
        pairs[model] = policy
    return pairs


def _told(root: Path, rows: dict[str, int], arguments: argparse.Namespace) -> str:
    lines = [f"  {stage:<12} {count:>8,} rows" for stage, count in rows.items() if count]
    idle = [stage for stage, count in rows.items() if not count]
    again = "".join(f" --set {one}" for one in map(quoted, arguments.overrides))
    return "\n".join(
        [
            f"imported into {root}",
            *lines,
            *([f"not needed any more: {', '.join(idle)}"] if idle else []),
            f"go on with: modpo run {quoted(arguments.study)} --run {quoted(arguments.run)}{again}",
        ]
    )
