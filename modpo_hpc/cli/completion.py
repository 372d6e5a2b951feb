"""Completion in bash: commands, options, stages, and folders and files for the rest. Made from the parsers."""

from __future__ import annotations

import argparse


def script() -> str:
    """What ``source <(modpo --completion)`` reads."""
    from modpo_hpc.cli.main import COMMANDS, module_of
    from modpo_hpc.pipeline import STAGES

    cases = []
    for name in COMMANDS:
        parser = argparse.ArgumentParser(add_help=True)
        module_of(name).add_arguments(parser)
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
            f'  if [ "$COMP_CWORD" = 1 ]; then words="{" ".join(COMMANDS)}"; else case "${{COMP_WORDS[1]}}" in',
            *cases,
            "  esac; fi",
            '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"; compgen -f -- "$word")',
            "}",
            "complete -o filenames -F _modpo modpo",
        ]
    )
