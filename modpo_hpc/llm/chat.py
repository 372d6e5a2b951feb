"""Chat completions as OpenAI's interface has them: the body of a request, and what each reply means. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from modpo_hpc.llm.endpoints import api_key
from modpo_hpc.llm.ledger import Usage
from modpo_hpc.llm.outcomes import Answered, Call, Failed, FormatRejected, Hopeless, Outcome, Refused
from modpo_hpc.llm.retry import is_passing, retry_after
from modpo_hpc.study.endpoint import Price

Message = dict[str, str]
Structured = Literal["json_schema", "json_object_schema", "json_object", "none"]
STRONGEST_FIRST: tuple[Structured, ...] = ("json_schema", "json_object_schema", "json_object", "none")
"""Forms of ``response_format``; ``json_object_schema`` is how llama-cpp-python takes a schema."""

CHARACTERS_PER_TOKEN = 3.5
_TEMPLATE_TOKENS = 4096
"""More than any chat template adds to a prompt: a count of input tokens beyond bytes plus this is impossible."""


@dataclass(frozen=True, slots=True)
class ChatPayload:
    """A conversation; ``schema`` of the answer, if it is to be JSON; ``more`` fields of this request alone."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatApi:
    """One model behind an OpenAI-compatible chat endpoint, and what that has shown to understand.

    ``sampling`` are fields of the request body as they are; ``section`` is where the study sets them, for messages.
    """

    model: str
    max_tokens: int
    sampling: Mapping[str, Any] = field(default_factory=dict)
    structured: Structured = "json_schema"
    token_field: str = "max_tokens"
    price: Price = field(default_factory=Price)
    api_key_env: str = ""
    section: str = "judge"
    keeps_filtered: bool = False
    """Whether a text that the endpoint's filter cut is an answer all the same."""

    def call(self, number: int, key: bytes, payload: ChatPayload) -> Call:
        """A call, with the tokens that it may take."""
        characters = sum(len(message["content"]) for message in payload.messages)
        return Call(number, key, payload, int(characters / CHARACTERS_PER_TOKEN), self.max_tokens)

    def headers(self) -> dict[str, str]:
        key = api_key(self.api_key_env)
        return {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}

    def url(self, base_url: str) -> str:
        return f"{base_url}/chat/completions"

    def body(self, call: Call) -> bytes:
        # a lone surrogate has no UTF-8: it goes as a question mark
        return json.dumps(self.request(call), ensure_ascii=False).encode("utf-8", "replace")

    def request(self, call: Call) -> dict[str, Any]:
        """The JSON body of a chat completion."""
        payload: ChatPayload = call.payload
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(payload.messages),
            self.token_field: self.max_tokens,
            **self.sampling,
            **payload.more,
        }
        schema = payload.schema
        wrapped = {"name": "opinion", "strict": True, "schema": schema}
        formats: dict[str, dict[str, Any]] = {
            "json_schema": {"type": "json_schema", "json_schema": wrapped},
            "json_object_schema": {"type": "json_object", "schema": schema},
            "json_object": {"type": "json_object"},
        }
        if schema is not None and self.structured in formats:
            body["response_format"] = formats[self.structured]
        return body

    def cost(self, usage: Usage) -> float:
        return cost(self.price, usage.read, usage.written, usage.cached)

    def outcome(self, call: Call, status: int, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """What the HTTP reply means for the call, for the pace and for the job; nothing that it holds raises."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        if status == 200 and isinstance(content, dict) and "error" in content and not content.get("choices"):
            error = content["error"]
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
        if status == 200:
            return self._completion(call, content)
        if 200 <= status < 300:
            return Failed("malformed", f"http {status} is no chat completion", charged=True)
        return self._failure(status, _Problem.of(content, body), headers)

    def _failure(self, status: int, problem: _Problem, headers: Mapping[str, str]) -> Outcome:
        if status == 429:
            if problem.code in ("insufficient_quota", "billing_hard_limit_reached"):
                return Hopeless(
                    f"the account has no credit left ({problem.text})", "Add credit, then run the same command."
                )
            return Failed("rate", problem.text, retry_after(headers))
        if (rejected := self._format_rejected(problem)) and "validation" in problem.everything:
            return rejected  # llama-cpp-python calls it a server error
        if is_passing(status):
            return Failed("server", f"http {status}: {problem.text}", retry_after(headers))
        if status in (401, 403):
            return Hopeless(
                f"the endpoint refuses the key (http {status}: {problem.text})",
                f"Put a valid key into the environment variable that {self.section}.api_key_env names.",
                f"{self.section}.api_key_env",
            )
        if status == 404 or status < 400:
            what = "know this model or address" if status == 404 else "answer here but sends us elsewhere"
            return Hopeless(
                f"the endpoint does not {what} (http {status}: {problem.text})",
                f"Correct {self.section}.model or {self.section}.base_url.",
                f"{self.section}.model",
            )
        return self._bad_request(status, problem)

    def _bad_request(self, status: int, problem: _Problem) -> Outcome:
        said = problem.everything
        if problem.code == "context_length_exceeded" or any(words in said for words in _TOO_LONG):
            return Refused(f"too long for the model: {problem.text}")
        if problem.code == "content_filter" or "content management policy" in said or "content_policy" in said:
            return Refused(f"filtered: {problem.text}")
        if rejected := self._format_rejected(problem):
            return rejected
        for name, other in (("max_completion_tokens", "max_tokens"), ("max_tokens", "max_completion_tokens")):
            if name in said and self.token_field == name and ("support" in said or "unrecognized" in said):
                return FormatRejected(replace(self, token_field=other), problem.text)
        for name in _SAMPLING:
            if problem.parameter == name or (name in said and ("support" in said or "unrecognized" in said)):
                return Hopeless(
                    f"this model does not take the parameter {name!r} as the study sets it ({problem.text})",
                    f"Set {self.section}.{name} to null in the study (the model then uses its own), or choose another "
                    "model.",
                    f"{self.section}.{name}",
                )
        if "model" in said and ("not found" in said or "does not exist" in said or "invalid model" in said):
            return Hopeless(
                f"the endpoint does not know this model ({problem.text})",
                f"Correct {self.section}.model.",
                f"{self.section}.model",
            )
        return Refused(f"http {status}: {problem.text}")

    def _format_rejected(self, problem: _Problem) -> FormatRejected | None:
        named = any(word in problem.everything for word in ("response_format", "json_schema", "json_object"))
        if not named or self.structured == "none":
            return None
        weaker = STRONGEST_FIRST[STRONGEST_FIRST.index(self.structured) + 1]
        return FormatRejected(replace(self, structured=weaker), problem.text)

    def _completion(self, call: Call, content: Any) -> Outcome:
        choices = content.get("choices") if isinstance(content, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            return Failed("malformed", "the endpoint's reply is no chat completion", charged=True)
        usage = self._usage(call, content.get("usage"))
        finish = choice.get("finish_reason")
        if message.get("refusal") and not self.keeps_filtered:
            return Refused(f"the model declined: {_clean(str(message['refusal']))[:300]}", usage)
        if finish == "content_filter" and not self.keeps_filtered:
            return Refused("filtered", usage)
        text = _text_of(message.get("content"))
        if text is None:
            return Failed("malformed", "the content of the reply is no text", charged=True)
        name = content.get("model")
        return Answered(
            _clean(text),
            _clean(finish)[:40] if isinstance(finish, str) else None,
            usage,
            _clean(name)[:200] if isinstance(name, str) else "",
        )

    def _usage(self, call: Call, raw: Any) -> Usage | None:
        """The usage that a reply tells; None if it is missing or cannot be true."""
        if not isinstance(raw, Mapping):
            return None
        read, written = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
        details = raw.get("prompt_tokens_details")
        cached = (_count(details.get("cached_tokens")) if isinstance(details, Mapping) else None) or 0
        length = sum(len(message["content"].encode("utf-8", "replace")) for message in call.payload.messages)
        if written is None or (read or 0) > length + _TEMPLATE_TOKENS or written > 10 * self.max_tokens + 1000:
            return None
        if (self.price.input or self.price.output) and not (read and written):
            return None
        read = read or 0
        return Usage(read, written, min(cached, read), cost(self.price, read, written, min(cached, read)))


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
            text = str(error.get("message") or error.get("detail") or "no reason given")
            code, parameter = str(error.get("code") or ""), str(error.get("param") or "")
        else:
            text, code, parameter = str(error or body[:300].decode(errors="replace")), "", ""
        short = _clean(" ".join(text[:10_000].split()))
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


def _text_of(content: Any) -> str | None:
    """The text of a message: a string, or the text parts of a list; nothing is an empty answer."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(part for part in parts if isinstance(part, str))


def _clean(text: str) -> str:
    """``text`` with a replacement character for each half of a broken surrogate pair, so that it has a UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return int(value) if value == int(value) else None


def cost(price: Price, read: int, written: int, cached: int = 0) -> float:
    """US dollars for so many tokens; ``cached`` of those read come from the provider's cache."""
    cached_price = price.input if price.cached_input is None else price.cached_input
    return ((read - cached) * price.input + cached * cached_price + written * price.output) / 1e6


def first_messages(prompt: str) -> tuple[Message, ...]:
    """The conversation that opens with ``prompt``: one user turn, since some templates know no system turn."""
    return ({"role": "user", "content": prompt},)


def token_field(base_url: str) -> str:
    """OpenAI has renamed the field; most other servers know the old name only."""
    return "max_completion_tokens" if "api.openai.com" in base_url else "max_tokens"
