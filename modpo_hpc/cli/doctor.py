"""``modpo doctor``: whether this machine and this cluster can carry out a study, before anything is queued."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from modpo_hpc.cli.arguments import add_overrides
from modpo_hpc.cli.consoles import console
from modpo_hpc.launch.commands import SlurmError
from modpo_hpc.launch.doctor import Finding, examine_cluster, examine_from_a_job, examine_machine, examine_training
from modpo_hpc.launch.profile import load_profile
from modpo_hpc.study import load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", metavar="P", help="cluster profile; its partitions are looked up, and a small job looks around"
    )
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where runs will be (default: here)")
    parser.add_argument("--no-job", action="store_true", help="hand in no job; look from here only")
    parser.add_argument(
        "--gpu",
        metavar="STUDY",
        help="train a few steps of the longest pass of STUDY's own model on this machine's GPU",
    )
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--fetch", metavar="STUDY", help="get this study's models into the cache, for nodes without internet; no more"
    )
    models.add_argument("--cached", metavar="STUDY", help="say which models of this study are in the cache; no more")
    add_overrides(parser)
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def run(arguments: argparse.Namespace) -> int:
    if study := arguments.fetch or arguments.cached:
        return look_for_models(study, arguments.overrides, fetch=bool(arguments.fetch))

    profile = load_profile(arguments.profile) if arguments.profile else None
    folder = arguments.folder.resolve()
    findings = [*examine_cluster(profile), *examine_machine(folder)]
    if profile is not None and not arguments.no_job and not any(one.verdict == "bad" for one in findings):
        try:
            findings += examine_from_a_job(profile, folder)
        except (SlurmError, ValueError) as error:
            findings.append(Finding("in a job", "bad", str(error)))
    if arguments.gpu:
        findings += examine_training(arguments.gpu)
    if arguments.json:
        print(json.dumps([asdict(one) for one in findings]))
    else:
        render(findings)
    return 1 if any(one.verdict == "bad" for one in findings) else 0


def render(findings: list[Finding]) -> None:
    """One line a finding."""
    from rich.markup import escape

    signs = {"good": "[green]good[/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}
    shown = console()
    for one in findings:
        shown.print(f"{signs[one.verdict]}  {one.name:<26} {escape(one.words)}")


def look_for_models(name: str, overrides: list[str], fetch: bool) -> int:
    """Models and tokenizers of the study ``name``: into the cache, or only whether they are there."""
    from modpo_hpc.models import cached_model, fetch_model, hub_models

    needed = hub_models(load_study(name, overrides))
    if not needed:
        print("nothing to fetch: the models of this study are of the sandbox, in folders, or behind an API")
        return 0
    missing = 0
    for model, revision in needed:
        where = (fetch_model if fetch else cached_model)(model, revision)
        missing += where is None
        print(f"{model}{f' at {revision}' if revision else ''}: {where or 'not in the cache'}")
    return 3 if missing else 0
