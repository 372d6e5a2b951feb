"""The errors that a person is meant to read, and the exit code of each."""

from __future__ import annotations

from functools import partial
from pathlib import Path


class ModpoError(Exception):
    """An error with a message for people. ``exit_code`` is what the command ends with."""

    exit_code = 1


class InputError(ModpoError):
    """The input or the call was wrong: says which file, which field, which value, and what to do."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: str | Path | None = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        self.problem, self.remedy, self.file, self.field, self.value = problem, remedy, file, field, value
        where = [str(file)] if file else []
        where += [f"field {field!r}"] if field else []
        where += [f"value {value!r}"] if value is not None else []
        super().__init__(f"{', '.join(where) + ': ' if where else ''}{problem.rstrip('.')}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        again = partial(InputError, remedy=self.remedy, file=self.file, field=self.field, value=self.value)
        return again, (self.problem,)


class IncompleteError(ModpoError):
    """What was asked for needs results that are not there yet."""

    exit_code = 3


class Interrupted(ModpoError):
    """A shard was asked to stop (preemption, time limit, Ctrl-C); its state is saved, and it resumes."""

    exit_code = 3
