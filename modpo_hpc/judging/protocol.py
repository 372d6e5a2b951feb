"""What a judge is: something that answers requests, and whose name says all that can change an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from modpo_hpc.judging.tasks import Request


class LocalJudge(Protocol):
    """A judge that runs in this process and answers many requests at once.

    Each answer is a JSON object as text, in the form that ``tasks.answer_schema`` gives. It is a function of
    the judge's ``identity`` and of the request alone: not of the batch, the order or the clock.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that can change an answer besides the request (seed, version, settings), as JSON values."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One raw answer for each request, in order."""
        ...
