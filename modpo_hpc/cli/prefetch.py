"""``modpo prefetch``: models and tokenizers of a study into the cache, on a machine that has the internet."""

from __future__ import annotations

import argparse

from modpo_hpc.cli.arguments import add_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--check", action="store_true", help="only say what is in the cache; fetch nothing")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.models import cached_model, fetch_model, hub_models
    from modpo_hpc.study import load_study

    needed = hub_models(load_study(arguments.study, arguments.overrides))
    if not needed:
        print("nothing to fetch: the models of this study are of the sandbox, in folders, or behind an API")
        return 0
    missing = 0
    for name, revision in needed:
        where = (cached_model if arguments.check else fetch_model)(name, revision)
        missing += where is None
        print(f"{name}{f' at {revision}' if revision else ''}: {where or 'not in the cache'}")
    return 3 if missing else 0
