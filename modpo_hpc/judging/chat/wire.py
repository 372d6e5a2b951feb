"""What goes over the wire to a chat endpoint, and what each reply means. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from modpo_hpc.judging.ledger import Usage
from modpo_hpc.study.judging import Judge, Price

Message = dict[str, str]
Structured = Literal["json_schema", "json_object_schema", "json_object", "none"]
STRONGEST_FIRST: tuple[Structured, ...] = ("json_schema", "json_object_schema", "json_object", "none")
"""Forms of ``response_format``; ``json_object_schema`` is how llama-cpp-python takes a schema."""


@dataclass(frozen=True)
class Dialect:
    """What this endpoint understands, as far as its replies have shown."""

    structured: Structured = "json_schema"
    token_field: str = "max_completion_tokens"


@dataclass(frozen=True, slots=True)
class Call:
    """One chat completion to be asked for: ``number`` is the caller's, ``schema`` that of the answer."""

    number: int
    key: bytes
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]

    @property
    def characters(self) -> int:
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True, slots=True)
class Answered:
    """The endpoint answered; ``text`` may still say nothing that can be parsed."""

    text: str
    finish: str | None
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The endpoint will never answer this call (too long, filtered); other calls are not concerned."""

    reason: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Failed:
    """The call may succeed later. ``kind`` has its own limit of tries; ``after``: seconds asked for by the server."""

    kind: Literal["rate", "server", "connection", "malformed", "lost"]
    detail: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Misunderstood:
    """The endpoint does not take a part of the form that we can do without: ask again in this ``dialect``."""

    dialect: Dialect
    detail: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """No call to this endpoint can succeed until a person changes something; ``remedy`` says what."""

    problem: str
    remedy: str
    field: str | None = None


Outcome = Answered | Refused | Failed | Misunderstood | Hopeless


def request_body(model: str, settings: Judge, dialect: Dialect, call: Call) -> dict[str, Any]:
    """The JSON body of a chat completion."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(call.messages),
        dialect.token_field: settings.max_tokens,
        **{name: value for name, value in sampling(settings).items() if name != "max_tokens"},
    }
    if dialect.structured == "json_schema":
        wrapped = {"name": "opinion", "strict": True, "schema": call.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
    elif dialect.structured == "json_object_schema":
        body["response_format"] = {"type": "json_object", "schema": call.schema}
    elif dialect.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def sampling(settings: Judge) -> dict[str, Any]:
    """The settings that can change an answer, as they stand in a request and in the ledger's key."""
    chosen = {
        "temperature": settings.temperature,
        "seed": settings.sampling_seed,
        "reasoning_effort": settings.reasoning_effort,
        "max_tokens": settings.max_tokens,
    }
    return {**{name: value for name, value in chosen.items() if value is not None}, **settings.extra}


def outcome_of(status: int, body: bytes, headers: Mapping[str, str], dialect: Dialect, price: Price) -> Outcome:
    """What the HTTP reply means for the call, for the pace and for the job."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if status == 200:
        return _completion(content, price)
    problem = _Problem.of(content, body)
    if status == 429:
        if problem.code in ("insufficient_quota", "billing_hard_limit_reached"):
            return Hopeless(
                f"the account has no credit left ({problem.text})", "Add credit, then run the same command."
            )
        return Failed("rate", problem.text, _retry_after(headers))
    if (format_refused := _format_refused(problem, dialect)) and "validation" in problem.everything:
        return format_refused  # llama-cpp-python calls it a server error
    if status in (408, 409, 425) or status >= 500:
        return Failed("server", f"http {status}: {problem.text}", _retry_after(headers))
    if status in (401, 403):
        return Hopeless(
            f"the endpoint refuses the key (http {status}: {problem.text})",
            "Put a valid key into the environment variable that judge.api_key_env names.",
            "judge.api_key_env",
        )
    if status == 404:
        return Hopeless(
            f"the endpoint does not know this model or address (http 404: {problem.text})",
            "Correct judge.model or judge.base_url (or MODPO_JUDGE_MODEL, MODPO_JUDGE_BASE_URL).",
            "judge.model",
        )
    return _bad_request(status, problem, dialect)


@dataclass(frozen=True)
class _Problem:
    text: str
    code: str
    parameter: str
    everything: str = field(repr=False)

    @classmethod
    def of(cls, content: Any, body: bytes) -> _Problem:
        error = content.get("error", content) if isinstance(content, dict) else content
        if isinstance(error, dict):
            text = str(error.get("message") or error.get("detail") or error)
            code, parameter = str(error.get("code") or ""), str(error.get("param") or "")
        else:
            text, code, parameter = str(error or body[:300].decode(errors="replace")), "", ""
        short = " ".join(text.split())
        return cls(short if len(short) <= 300 else f"{short[:300]} ...", code, parameter, f"{text} {parameter}".lower())


_TOO_LONG = (
    "context_length",
    "context length",
    "context window",
    "maximum context",
    "too many tokens",
    "exceed context",
)
_SAMPLING = ("temperature", "seed", "reasoning_effort", "top_p")


def _bad_request(status: int, problem: _Problem, dialect: Dialect) -> Outcome:
    said = problem.everything
    if problem.code == "context_length_exceeded" or any(words in said for words in _TOO_LONG):
        return Refused(f"too long for the model: {problem.text}")
    if problem.code == "content_filter" or "content management policy" in said or "content_policy" in said:
        return Refused(f"filtered: {problem.text}")
    if format_refused := _format_refused(problem, dialect):
        return format_refused
    for name, other in (("max_completion_tokens", "max_tokens"), ("max_tokens", "max_completion_tokens")):
        if name in said and dialect.token_field == name and ("support" in said or "unrecognized" in said):
            return Misunderstood(replace(dialect, token_field=other), problem.text)
    for name in _SAMPLING:
        if problem.parameter == name or (name in said and ("support" in said or "unrecognized" in said)):
            return Hopeless(
                f"this model does not take the parameter {name!r} as the study sets it ({problem.text})",
                f"Set judge.{name} to null in the study (the model then uses its own), or choose another model.",
                f"judge.{name}",
            )
    if "model" in said and ("not found" in said or "does not exist" in said or "invalid model" in said):
        return Hopeless(
            f"the endpoint does not know this model ({problem.text})", "Correct judge.model.", "judge.model"
        )
    return Refused(f"http {status}: {problem.text}")


def _format_refused(problem: _Problem, dialect: Dialect) -> Misunderstood | None:
    named = any(word in problem.everything for word in ("response_format", "json_schema", "json_object"))
    if not named or dialect.structured == "none":
        return None
    weaker = STRONGEST_FIRST[STRONGEST_FIRST.index(dialect.structured) + 1]
    return Misunderstood(replace(dialect, structured=weaker), problem.text)


def _completion(content: Any, price: Price) -> Outcome:
    try:
        choice = content["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        usage = _usage(content.get("usage") or {}, price)
    except (TypeError, KeyError, IndexError, AttributeError):
        return Failed("malformed", "the endpoint's reply is no chat completion")
    if message.get("refusal"):
        return Refused(f"the model declined: {message['refusal']}", usage)
    if finish == "content_filter":
        return Refused("filtered", usage)
    text = message.get("content")
    return Answered(text if isinstance(text, str) else "", finish, usage, str(content.get("model") or ""))


def _usage(raw: Mapping[str, Any], price: Price) -> Usage:
    read, written = int(raw.get("prompt_tokens") or 0), int(raw.get("completion_tokens") or 0)
    cached = int((raw.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return Usage(read, written, cached, cost(price, read, written, cached))


def cost(price: Price, read: int, written: int, cached: int = 0) -> float:
    """US dollars for so many tokens; ``cached`` of those read come from the provider's cache."""
    cached_price = price.read if price.cached is None else price.cached
    return ((read - cached) * price.read + cached * cached_price + written * price.written) / 1e6


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def first_messages(prompt: str) -> tuple[Message, ...]:
    """The conversation that opens with ``prompt``: one user turn, since some templates know no system turn."""
    return ({"role": "user", "content": prompt},)
