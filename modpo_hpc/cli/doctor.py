"""``modpo doctor``: whether this machine and this cluster can carry out a study, before anything is queued."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from modpo_hpc.cli.arguments import add_flag, add_json, add_overrides
from modpo_hpc.cli.consoles import console
from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError
from modpo_hpc.launch.commands import SlurmError
from modpo_hpc.launch.doctor import Finding, examine_cluster, examine_from_a_job, examine_machine, examine_training
from modpo_hpc.launch.drafting import with_speeds
from modpo_hpc.launch.profile import load_profile
from modpo_hpc.study import load_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", metavar="P", help="cluster profile; its partitions are looked up, and a small job looks around"
    )
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where runs will be (default: here)")
    add_flag(parser, "--no-job", "hand in no job; look from here only")
    parser.add_argument(
        "--gpu",
        metavar="STUDY",
        help="train a few steps of the longest pass of STUDY's own model on this machine's GPU; with --profile, in a "
        "job on the nodes where policies are trained",
    )
    add_flag(parser, "--write", "with --gpu and --profile FILE: write the speed that was found into FILE")
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--fetch", metavar="STUDY", help="get this study's models into the cache, for nodes without internet; no more"
    )
    models.add_argument("--cached", metavar="STUDY", help="say which models of this study are in the cache; no more")
    add_overrides(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if study := arguments.fetch or arguments.cached:
        return look_for_models(study, arguments.overrides, fetch=bool(arguments.fetch))

    profile = load_profile(arguments.profile) if arguments.profile else None
    if arguments.write:
        refuse_to_write(arguments)
    folder = arguments.folder.resolve()
    findings = [*examine_cluster(profile), *examine_machine(folder)]
    in_a_job = None if arguments.no_job else profile
    if in_a_job is not None and not any_bad(findings):
        try:
            findings += examine_from_a_job(in_a_job, folder)
        except (SlurmError, ValueError) as error:
            findings.append(Finding("in a job", "bad", str(error)))
    if arguments.gpu:
        try:
            findings += examine_training(arguments.gpu, arguments.overrides, in_a_job)
        except SlurmError as error:
            findings.append(Finding("in a job", "bad", str(error)))
    if arguments.write:
        findings.append(write_speeds(Path(arguments.profile), findings))
    if arguments.json:
        print(json.dumps([asdict(one) for one in findings]))
    else:
        render(findings)
    return 1 if any_bad(findings) else 0


def any_bad(findings: list[Finding]) -> bool:
    """Whether something has to be mended first."""
    return any(one.verdict == "bad" for one in findings)


def refuse_to_write(arguments: argparse.Namespace) -> None:
    """Raises InputError where ``--write`` has nothing to write, or no file to write to."""
    if not arguments.gpu or not arguments.profile or not Path(arguments.profile).is_file():
        raise InputError(
            "speeds are measured by --gpu and written into a profile of your own",
            field="--write",
            value=arguments.profile,
            remedy="Give --gpu STUDY and --profile FILE; a shipped profile becomes a file by: modpo profile show NAME",
        )


def write_speeds(profile: Path, findings: list[Finding]) -> Finding:
    """What ``findings`` measured goes into ``profile``, unless one of them is bad."""
    speeds = {name: value for one in findings for name, value in one.speeds.items()}
    if not speeds or any_bad(findings):
        return Finding("profile", "note", f"{profile} stays as it is: no speed was found on a GPU that can be used")
    write_text(profile, with_speeds(profile.read_text(encoding="utf-8"), speeds))
    said = ", ".join(f"{name}: {value:.12g}" for name, value in speeds.items())
    return Finding("profile", "good", f"{profile} now says {said}")


def render(findings: list[Finding]) -> None:
    """One line a finding."""
    from rich.markup import escape

    signs = {"good": "[green]good[/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}
    shown = console()
    for one in findings:
        shown.print(f"{signs[one.verdict]}  {one.name:<26} {escape(one.message)}")


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
