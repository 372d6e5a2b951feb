"""``modpo explain``: what a shard was made from, whether that is still so, and what changed if it is not."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from modpo_hpc.cli.arguments import add_json
from modpo_hpc.core.changes import why_stale
from modpo_hpc.core.identity import Inventory, read_made_from
from modpo_hpc.core.markers import IMPORTED, read_marker
from modpo_hpc.errors import InputError
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run directory")
    parser.add_argument("stage", metavar="STAGE", help="for instance verdicts")
    parser.add_argument("shard", metavar="SHARD", nargs="?", help="one shard; without it, one line for each")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    the_run, stage = Run.open(arguments.run_dir), stage_named(arguments.stage).name
    inventory = the_run.inventory()
    known = the_run.shard_ids(stage)
    if arguments.shard is not None and arguments.shard not in known:
        raise InputError(
            f"stage {stage} has no such shard",
            field="SHARD",
            value=arguments.shard,
            remedy=f"Its shards are: {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}.",
        )
    chosen = known if arguments.shard is None else (arguments.shard,)
    found = [explain(the_run, inventory, stage, shard) for shard in chosen]
    if arguments.json:
        print(json.dumps(found[0] if arguments.shard else found))
    elif arguments.shard:
        render(found[0])
    else:
        for one in found:
            print(f"{one['shard']}: {one['state']}{'; ' + '; '.join(one['changed'][:3]) if one['changed'] else ''}")
    return 0


def explain(the_run: Run, inventory: Inventory, stage: str, shard: str) -> dict[str, Any]:
    """All that is known of how ``shard`` was made, as plain data."""
    marker = read_marker(the_run.folder(stage), shard)
    named = {"stage": stage, "shard": shard}
    if marker is None:
        inputs, document = inventory.inputs(stage, shard), inventory.made_from(stage, shard).document
        return {**named, "state": "not made", "inputs": inputs, "made_from": document, "changed": []}
    fresh, imported = inventory.fresh(stage, shard), marker.inputs == IMPORTED
    return {
        **named,
        "state": "imported" if imported else "done" if fresh else "stale",
        "inputs": marker.inputs,
        "made_from": {} if imported else read_made_from(the_run.root, marker.made_from),
        "changed": [] if fresh else why_stale(inventory, stage, shard),
        "outputs": {name: {"sha256": one.sha256, "rows": one.rows} for name, one in marker.outputs.items()},
        "code": marker.code,
        "versions": marker.versions,
        "when": marker.started,
        "host": marker.host,
        "job": marker.job,
        "source": marker.source,
    }


def render(one: dict[str, Any]) -> None:
    """Print it for people."""
    document = one["made_from"]
    print(f"{one['stage']} {one['shard']}: {one['state']}")
    for why in one["changed"]:
        print(f"  changed since: {why}")
    if "code" in one:
        when, job = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["when"])), one["job"]
        print(f"  made {when} on {one['host']}{f' by job {job}' if job else ''}, {_code(one['code'])}")
    if one.get("source"):
        print(f"  taken from: {one['source']}")
    if document:
        print(f"  recipe: {document['recipe']}")
        for section, word in (("fields", "study"), ("contents", "content")):
            for name, value in document.get(section, {}).items():
                print(f"  {word}: {name} = {_short(value)}")
        for judge in document.get("judges", ()):
            print(f"  judge: {_short(judge)}")
        for stage, read in document.get("needs", {}).items():
            names = ", ".join(f"{shard} {digest[:8]}" for shard, digest in list(read.items())[:6])
            print(f"  read: {stage}: {names}{' ...' if len(read) > 6 else ''}")
    for name, output in one.get("outputs", {}).items():
        rows = f"{output['rows']:,} rows, " if output["rows"] is not None else ""
        print(f"  made: {name}: {rows}sha256 {output['sha256'][:16]}")
    print(f"  hash of all that it is made from: {one['inputs'] or 'unknown until what it reads is there'}")


def _code(code: dict[str, str]) -> str:
    changed = " with changes" if code.get("changed") == "yes" else ""
    commit = f", commit {code['commit']}{changed}" if "commit" in code else ""
    return f"modpo-hpc {code.get('version', '?')}{commit}, code {code.get('digest', '?')}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 160 else f"{text[:157]}..."
