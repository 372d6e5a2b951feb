"""``modpo personas``: who they are, and whether one of them could be recognized. Never shows a persona's text."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modpo_hpc.cli.arguments import add_json, add_overrides, add_run_dir, show
from modpo_hpc.cli.consoles import console
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.personas.columns import load_columns
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import load_study
from modpo_hpc.study.evaluation import sandbox_mark

if TYPE_CHECKING:
    import pandas as pd

    from modpo_hpc.personas.privacy import Anonymity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="pool, selection, training and test: tables and tests of balance")
    add_run_dir(show)
    check = actions.add_parser(
        "check", help="combinations of traits that few participants share, before an outside judge reads them"
    )
    check.add_argument("place", metavar="DIR|STUDY", help="run directory, or a study that has not begun")
    check.add_argument("--k", type=int, default=5, help="participants who should share a combination")
    add_overrides(check)
    for action in (show, check):
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 1 of ``check``: somebody stands out."""
    if arguments.action == "check":
        found, judge = _look(arguments)
        show(arguments.json, {**asdict(found), "exposed": found.exposed, "judge": judge}, _told(found, judge))
        return 1 if found.rare else 0
    mark, account, tables = _tables(arguments.run_dir)
    if arguments.json:
        shown = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
        print(json.dumps({"sandbox": mark, "account": account, **shown}, indent=1))
    else:
        _draw(mark, account, tables)
    return 0


def _look(arguments: argparse.Namespace) -> tuple[Anonymity, str]:
    from modpo_hpc.personas.privacy import anonymity_of_run, anonymity_of_study

    if arguments.k < 2:
        raise InputError("this says nothing", field="--k", value=arguments.k, remedy="Give 2 or more.")
    if Path(arguments.place).is_dir():
        the_run = Run.open(arguments.place)
        study, found = the_run.study, anonymity_of_run(the_run, arguments.k)
    else:
        study = load_study(arguments.place, arguments.overrides)
        found = anonymity_of_study(study, arguments.k)
    return found, ", ".join(dict.fromkeys(judge.kind for judge in study.judges))


def _told(found: Anonymity, judge: str) -> str:
    if not found.rare:
        return f"every persona shares its age group, gender and ethnicity with {found.smallest - 1} others or more"
    lines = [
        f"{found.exposed} of {found.personas} personas have a combination that fewer than {found.k} of "
        f"{found.participants} participants share (judge: {judge}):"
    ]
    for one in found.rare:
        ethnicity = " + ".join(one.ethnicities) or "ethnicity not stated"
        lines.append(
            f"  {one.participants} of them: {one.age_group}, {one.gender}, {ethnicity}  ({', '.join(one.personas)})"
        )
    lines.append(
        "Before an outside judge reads them: use wider age groups in the survey, leave such people out of it, or judge "
        "on your own machines (judge.kind: server)."
    )
    return "\n".join(lines)


def _tables(run_dir: str) -> tuple[str | None, dict[str, Any], dict[str, pd.DataFrame]]:
    import pyarrow.parquet as pq

    from modpo_hpc.personas.balance import balance_tests, composition, importance_means
    from modpo_hpc.personas.records import ACCOUNT, POOL

    the_run = Run.open(run_dir)
    the_run.require("personas")
    folder = the_run.folder("personas")
    if not (folder / f"{POOL}.parquet").exists():
        raise IncompleteError(f"{folder}: these personas were imported, so there is no survey to show")
    people = pq.read_table(folder / f"{POOL}.parquet", partitioning=None).to_pandas()
    account = json.loads((folder / ACCOUNT).read_text(encoding="utf-8"))
    mark = sandbox_mark([part for part in the_run.study.simulated if part == "personas"])
    tables = {
        "composition": composition(people),
        "balance": balance_tests(people, rng_of(the_run.study.seed, "report", "balance")),
        "importance": importance_means(people, load_columns(the_run.study.personas.columns).criteria),
    }
    return mark, account, tables


def _draw(mark: str | None, account: dict[str, Any], tables: dict[str, pd.DataFrame]) -> None:
    from rich.table import Table

    out = console()
    if mark:
        out.print(mark)
    quality, chosen = account["quality"], account["quality_of_selection"]
    out.print(
        f"{account['participants']} participants, {len(account['copies'])} copies left out, {account['below_floor']} "
        f"below the quality floor of {account['quality_floor']}; {account['selected']} selected.\n"
        f"Quality {quality['mean']:.3f} ({quality['lowest']:.3f} to {quality['highest']:.3f}), of the selection "
        f"{chosen['mean']:.3f} ({chosen['lowest']:.3f} to {chosen['highest']:.3f})."
    )
    for reason in account["constraints_not_met"]:
        out.print(f"not met: {reason}", markup=False)
    groups = ("pool", "selection", "train", "test")
    shown = Table("", "", *groups, title="Who they are")
    for row in tables["composition"].to_dict("records"):
        shares = [f"{row[one]} ({row[f'{one}_share']:.0%})" for one in groups]
        shown.add_row(row["characteristic"], row["value"], *shares)
    out.print(shown)
    tests = Table("comparison", "characteristic", "chi-squared", "p", "Cramer's V", title="Balance")
    for row in tables["balance"].to_dict("records"):
        numbers = f"{row['statistic']:.2f}", f"{row['p_value']:.3f}", f"{row['cramers_v']:.2f}"
        tests.add_row(row["comparison"], row["characteristic"], *numbers)
    out.print(tests)
