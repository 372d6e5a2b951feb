"""The order in which a command is typed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from modpo_hpc.cli.arguments import Parser
from modpo_hpc.cli.main import COMMANDS, main, module_of


def _commands() -> Iterator[tuple[str, Parser]]:
    """Every command, and every command of a command."""
    for name in COMMANDS:
        parser = Parser(name)
        module_of(name).add_arguments(parser)
        nested = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        yield name, parser
        for group in nested:
            for word, one in group.choices.items():
                yield f"{name} {word}", one


def _is_plain(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.nargs == 0 and "-h" not in action.option_strings


CASES = [
    pytest.param(parser, flag, id=f"{name} {flag}")
    for name, parser in _commands()
    if not any(isinstance(one, argparse._SubParsersAction) for one in parser._actions)
    for flag in [one.option_strings[-1] for one in parser._actions if _is_plain(one)][:2]
]


@pytest.mark.parametrize(("parser", "flag"), CASES)
def test_an_option_may_stand_anywhere_among_the_arguments(parser: Parser, flag: str) -> None:
    needed = [word for one in parser._get_optional_actions() if one.required for word in (one.option_strings[-1], "1")]
    words: list[str] = []
    for action in parser._get_positional_actions():
        value = str(next(iter(action.choices))) if action.choices else "1"
        words += [value] * (2 if action.nargs in ("*", "+") else 1)
    expected = parser.parse_args([*words, flag, *needed])
    for place in range(len(words)):
        assert parser.parse_args([*words[:place], flag, *words[place:], *needed]) == expected


def test_what_is_no_option_is_refused_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["logs", "DIR", "--nonsense", "responses"], ["logs", "--nonsense", "DIR", "responses"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "unrecognized arguments: --nonsense" in capsys.readouterr().err
