"""Completion in bash: commands, options, stages, and folders and files for the rest. Made from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping


def script(commands: Mapping[str, Callable[[argparse.ArgumentParser], None]]) -> str:
    """What ``source <(modpo --completion)`` reads; ``commands`` add the arguments of each command to a parser."""
    from modpo_hpc.pipeline import STAGES

    cases = []
    for name, add_arguments in commands.items():
        parser = argparse.ArgumentParser(add_help=True)
        add_arguments(parser)
        words = [option for action in parser._actions for option in action.option_strings]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                words += list(action.choices)
            elif action.metavar in ("STAGE", ("STAGE",)):
                words += [stage.name for stage in STAGES]
        cases.append(f'    {name}) words="{" ".join(dict.fromkeys(words))}" ;;')
    return "\n".join(
        [
            "_modpo() {",
            '  local words="" word="${COMP_WORDS[COMP_CWORD]}"',
            f'  if [ "$COMP_CWORD" = 1 ]; then words="{" ".join(commands)}"; else case "${{COMP_WORDS[1]}}" in',
            *cases,
            "  esac; fi",
            '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; compgen -f -- "$word")',
            "}",
            "complete -o filenames -F _modpo modpo",
        ]
    )
