"""What can become of a call. Whatever came back over the wire is one of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from modpo_hpc.llm.ledger import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """Something to be asked: ``number`` is the caller's, ``payload`` what the ``Api`` makes a body of."""

    number: int
    key: bytes
    payload: Any
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The endpoint answered; ``text`` may say nothing that can be parsed. ``usage`` is None if it was not told."""

    text: str
    finish: str | None
    usage: Usage | None
    model: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The endpoint will never answer this call (too long, filtered); other calls are not concerned."""

    reason: str
    usage: Usage | None = Usage()


@dataclass(frozen=True, slots=True)
class Failed:
    """The call may succeed later. ``after``: seconds asked for by the server. ``charged``: it may have cost money."""

    kind: Literal["rate", "server", "connection", "timeout", "malformed", "lost"]
    detail: str
    after: float | None = None
    charged: bool = False


@dataclass(frozen=True, slots=True)
class FormatRejected:
    """The endpoint does not take a part of the request that we can do without: ask again as ``api`` does."""

    api: Api
    detail: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """No call to this endpoint can succeed until a person changes something; ``remedy`` says what."""

    problem: str
    remedy: str
    field: str | None = None


Outcome = Answered | Refused | Failed | FormatRejected | Hopeless


class Api(Protocol):
    """The form of requests and replies of one model; a picklable value."""

    def headers(self) -> dict[str, str]:
        """Headers of every request, with the key from the environment."""

    def url(self, base_url: str) -> str: ...

    def body(self, call: Call) -> bytes: ...

    def outcome(self, call: Call, status: int, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """What a reply means for the call, for the pace and for the job. It raises nothing, whatever came back."""

    def cost(self, usage: Usage) -> float:
        """US dollars of ``usage``."""
