"""``modpo profile``: list the shipped cluster profiles, show one, or draft one for this cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from modpo_hpc.cli.arguments import quoted, require_new
from modpo_hpc.launch import cluster, commands
from modpo_hpc.launch.drafting import draft_profile
from modpo_hpc.launch.profile import Limits, ModelPrice, Placement, Prices, Profile, Speeds, load_profile
from modpo_hpc.resources import resource

HEADER = """\
# Drafted from sinfo. Look at every line: account and environment cannot be guessed.
# GPUs, memory and time of a shard are the study's word, in its resources; a line such as
#   stages: {policies: {gpus: 1, memory_gb: 96, minutes: 720}}
# says otherwise for this cluster. All fields: modpo profile fields. Check it with: modpo doctor --profile {path}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the shipped profiles")
    actions.add_parser("fields", help="every field of a profile and what it means")
    show = actions.add_parser("show", help="a profile, checked, with every field")
    show.add_argument("profile", metavar="P", help="a file, or a name of slurm/profiles")
    init = actions.add_parser("init", help="draft one for this cluster from what Slurm says of it")
    init.add_argument("path", type=Path, metavar="FILE", help="where to write it")


def run(arguments: argparse.Namespace) -> int:
    import yaml

    if arguments.action == "list":
        for path in sorted(resource("slurm/profiles").glob("*.yaml")):
            print(f"{path.stem:<18} {load_profile(path).description}")
    elif arguments.action == "fields":
        print_fields()
    elif arguments.action == "show":
        print(yaml.safe_dump(load_profile(arguments.profile).model_dump(mode="json"), sort_keys=False), end="")
    else:
        draft(arguments.path)
        print(f"wrote {arguments.path}; look at every line, then: modpo doctor --profile {quoted(arguments.path)}")
    return 0


def print_fields() -> None:
    """One line a field: name, default, meaning."""
    for title, model in (
        ("profile", Profile),
        ("stages.STAGE", Placement),
        ("limits", Limits),
        ("prices", Prices),
        ("prices.models.MODEL", ModelPrice),
        ("speeds", Speeds),
    ):
        print(f"{title}:")
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            simple = default is not None and default != {} and not hasattr(type(default), "model_fields")
            shown = "required" if field.is_required() else repr(default) if simple else ""
            print(f"  {name:<28} {shown:<10} {field.description or ''}".rstrip())


def draft(path: Path) -> None:
    """Write a profile of this cluster to ``path``.

    Raises:
        InputError: the file is there already, or there is no Slurm.
    """
    import yaml

    require_new(path)
    commands.require_slurm()
    sinfo = commands.call("sinfo", "--noheader", "--format=%R|%l|%c|%m|%G|%P", wait=7)
    fields = draft_profile(sinfo, cluster.ask_facts().max_array_size, cluster.my_accounts())
    path.write_text(HEADER.format(path=quoted(path)) + yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
