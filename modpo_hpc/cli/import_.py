"""``modpo import``: the paper's data, or others in its formats, into a run from which the study goes on."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from modpo_hpc.cli.arguments import add_json, add_repeated, add_study, quoted, show
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.bundle import check_bundle, files_in, read_bundle
from modpo_hpc.run import Run
from modpo_hpc.study import load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser, "study file that goes on with the data")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, or folders of them")
    parser.add_argument("--run", required=True, metavar="DIR", help="run directory, new or without these stages")
    words = "which policy a model of the answers is, where the names differ"
    add_repeated(parser, "--model", "NAME=POLICY", words, dest="models")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.exchange.imports import bring_in

    study = load_study(arguments.study, arguments.overrides)
    bundle = read_bundle(files_in(arguments.files), study, _models(arguments.models, study.alignment.policies))
    check_bundle(bundle, study)
    the_run = Run.create(arguments.run, study)
    rows = bring_in(the_run, bundle)
    show(arguments.json, {"run": str(the_run.root), "rows": rows}, _told(the_run.root, rows, arguments))
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
    lines = [f"imported into {root}"]
    lines += [f"  {stage:<12} {count:>8,} rows" for stage, count in rows.items() if count]
    if idle := [stage for stage, count in rows.items() if not count]:
        lines.append(f"not needed any more: {', '.join(idle)}")
    again = "".join(f" --set {quoted(one)}" for one in arguments.overrides)
    lines.append(f"go on with: modpo run {quoted(arguments.study)} --run {quoted(arguments.run)}{again}")
    return "\n".join(lines)
