"""Texts over HTTP: an engine for any OpenAI-compatible chat endpoint, a server of our own or a remote one."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.generation.records import Completion, Request
from modpo_hpc.generation.server import Server, Servers
from modpo_hpc.prompts import INSTRUCTION, answering_messages
from modpo_hpc.study.generation import Endpoint, Sampling

log = logging.getLogger(__name__)
_ATTEMPTS, _FIRST_WAIT, _LONGEST_WAIT = 8, 0.5, 60.0
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}


class Address(Protocol):
    """Where requests go. Local servers come and go; a remote endpoint stays."""

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """A base URL, and what to call when the request is over."""
        ...


class LocalServers:
    """The servers of a ``serve`` block: each request goes to the least busy one that is well."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """Waits while a server restarts. Raises ServerError when none can come back."""
        while (server := self.servers.try_lease()) is None:
            await asyncio.sleep(0.2)
        return server.url, self._release(server)

    def _release(self, server: Server) -> Callable[[], None]:
        return lambda: self.servers.release(server)


@dataclass(frozen=True)
class Remote:
    """One fixed base URL."""

    base_url: str

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """The URL, at once."""
        return self.base_url.rstrip("/"), lambda: None


class ChatEngine:
    """Texts from a chat endpoint, ``sampling.batch_size`` requests at once, each retried on its own.

    Args:
        address: where requests go.
        model: model name in requests.
        sampling: temperature, top_p, length limit, requests at once.
        headers: sent with every request (the key, for a remote endpoint).
        length_parameter: what the endpoint calls the length limit.
        send_seed: whether it takes a seed. A server that batches requests does not repeat itself to the last bit
            even so: the resumed shard keeps what it has, and makes the rest anew.
        instruction: what the model is told before each question.
    """

    def __init__(
        self,
        address: Address,
        model: str,
        sampling: Sampling,
        headers: Mapping[str, str] | None = None,
        length_parameter: str = "max_tokens",
        send_seed: bool = True,
        instruction: str = INSTRUCTION,
    ) -> None:
        self.address, self.model, self.sampling, self.headers = address, model, sampling, dict(headers or {})
        self.length_parameter, self.send_seed, self.instruction = length_parameter, send_seed, instruction

    def complete(
        self, requests: Sequence[Request], on_done: Callable[[int], None] = lambda done: None
    ) -> list[Completion]:
        """Completions in the order of ``requests``.

        Raises:
            ModpoError: the endpoint refuses a request, or keeps failing; its own words are in the message.
        """
        return asyncio.run(self._complete(requests, on_done))

    async def _complete(self, requests: Sequence[Request], on_done: Callable[[int], None]) -> list[Completion]:
        window, done = asyncio.Semaphore(self.sampling.batch_size), 0
        limits = httpx.Limits(max_connections=self.sampling.batch_size)
        async with httpx.AsyncClient(
            headers=self.headers, timeout=httpx.Timeout(600, connect=10), limits=limits
        ) as client:

            async def one(request: Request) -> Completion:
                nonlocal done
                async with window:
                    completion = await self._ask(client, request)
                done += 1
                on_done(done)
                return completion

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, client: httpx.AsyncClient, request: Request) -> Completion:
        body = self._body(request)
        problem = ""
        for attempt in range(_ATTEMPTS):
            base_url, release = await self.address.acquire()
            try:
                answer = await client.post(f"{base_url}/chat/completions", json=body)
            except httpx.HTTPError as error:
                problem, wait = f"{type(error).__name__} {error}", None
            else:
                if answer.status_code == 200:
                    return completion_of(request.id, answer.json())
                problem, wait = f"status {answer.status_code}: {answer.text[:500]}", _retry_after(answer)
                if answer.status_code not in _PASSING:
                    raise ModpoError(
                        f"{base_url} refuses the request for {request.id} to model {self.model}: {problem}"
                    )
            finally:
                release()
            log.warning("%s: attempt %d for %s failed (%s)", base_url, attempt + 1, request.id, problem[:120])
            pause = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
            await asyncio.sleep(pause if wait is None else max(pause, wait))
        raise ModpoError(f"{base_url}: {_ATTEMPTS} attempts for {request.id} failed, the last with {problem}")

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": answering_messages(request.question, self.instruction),
            "temperature": self.sampling.temperature,
            self.length_parameter: self.sampling.max_tokens,
        }
        if self.sampling.top_p < 1:
            body["top_p"] = self.sampling.top_p
        if self.send_seed:
            body["seed"] = request.seed % 2**31
        return body


@contextmanager
def remote_engine(
    policy: str, endpoint: Endpoint, sampling: Sampling, instruction: str = INSTRUCTION
) -> Iterator[ChatEngine]:
    """An engine for the endpoint of a policy of method ``remote``.

    Raises:
        InputError: the environment holds no key.
    """
    key = os.environ.get(endpoint.key_variable, "")
    if not key:
        raise InputError(
            "the endpoint's key is not in the environment",
            field=f"generation.remote.{policy}.key_variable",
            value=endpoint.key_variable,
            remedy=f"Set it for the jobs too, without writing it down: export {endpoint.key_variable}=...",
        )
    yield ChatEngine(
        Remote(endpoint.base_url),
        endpoint.model,
        sampling,
        {"Authorization": f"Bearer {key}"},
        endpoint.length_parameter,
        endpoint.send_seed,
        instruction,
    )


def completion_of(request_id: str, answer: Mapping[str, Any]) -> Completion:
    """The completion in the body of a chat answer.

    Raises:
        ModpoError: it holds no text, or does not say why the text ends.
    """
    try:
        choice = answer["choices"][0]
        reason, text = choice["finish_reason"], choice["message"].get("content")
        tokens = int(answer["usage"]["completion_tokens"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModpoError(f"the answer for {request_id} has not the form of a chat completion ({error!r})") from error
    if reason not in ("stop", "length", "content_filter"):
        raise ModpoError(f"the answer for {request_id} does not say why it ends (finish_reason {reason!r})")
    return Completion(request_id, (text or "").strip(), tokens, reason)


def _retry_after(answer: httpx.Response) -> float | None:
    try:
        return min(_LONGEST_WAIT, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
