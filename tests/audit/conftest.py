"""The small run with two policies that the tests of people's judgments use."""

from tests.human.conftest import command, made_run

__all__ = ["command", "made_run"]
