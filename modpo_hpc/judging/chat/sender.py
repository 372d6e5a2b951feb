"""The sender: keeps many calls to one endpoint open at once, and hands back what became of each. It retries nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from modpo_hpc.errors import ModpoError
from modpo_hpc.judging.chat.address import Address, NoServer
from modpo_hpc.judging.chat.wire import Call, Dialect, Failed, Hopeless, Outcome, outcome_of, request_body
from modpo_hpc.study.judging import Judge


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one call, when it was sent and how long it took."""

    number: int
    outcome: Outcome
    sent_at: float
    seconds: float


class Sender:
    """Asynchronous HTTP with one kept connection for each call that is open. All methods run in one event loop.

    It uses httpx's transports, each with one connection. An ``AsyncClient`` looks at every connection for every
    request, which at 128 calls at once costs more time than a core has.

    Args:
        model: the model's name in requests.
    """

    def __init__(self, address: Address, model: str, settings: Judge) -> None:
        self._address, self._model, self._settings = address, model, settings
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._headers = request_headers(settings)
        seconds = settings.timeout_seconds
        patience = {"connect": min(20.0, seconds), "read": seconds, "write": seconds, "pool": seconds}
        self._extensions = {"timeout": patience}
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._waiting: deque[tuple[Call, Dialect]] = deque()
        self._limit, self._open = 1, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies: list[Reply] = []
        self._news = asyncio.Event()

    async def feed(self, calls: Sequence[Call], dialect: Dialect, limit: int) -> None:
        """Take in ``calls``; keep at most ``limit`` open from now on."""
        self._limit = limit
        self._waiting.extend((call, dialect) for call in calls)
        self._start()

    async def drain(self, seconds: float) -> list[Reply]:
        """What has come back; waits up to ``seconds`` for the first of it."""
        if not self._replies:
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except asyncio.TimeoutError:
                return []
        replies, self._replies = self._replies, []
        self._news.clear()
        return replies

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in self._idle:
            await transport.aclose()

    def _start(self) -> None:
        while self._waiting and self._open < self._limit:
            self._open += 1
            task = asyncio.create_task(self._send(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, call: Call, dialect: Dialect) -> None:
        sent_at = time.time()
        body = request_body(self._model, self._settings, dialect, call)
        outcome: Outcome
        transport = self._idle.pop() if self._idle else self._connection()
        try:
            with self._address.lease() as base_url:
                post = httpx.Request(
                    "POST",
                    f"{base_url}/chat/completions",
                    headers=self._headers,
                    content=json.dumps(body, ensure_ascii=False).encode(),
                    extensions=self._extensions,
                )
                reply = await transport.handle_async_request(post)
                content = await reply.aread()
            outcome = outcome_of(reply.status_code, content, reply.headers, dialect, self._settings.price)
        except (httpx.HTTPError, NoServer) as error:
            outcome = Failed("connection", f"{type(error).__name__}: {error}")
        except ModpoError as error:
            outcome = Hopeless(str(error), "See the log of the server.")
        finally:
            self._idle.append(transport)
            self._open -= 1
            self._start()
        self._replies.append(Reply(call.number, outcome, sent_at, time.time() - sent_at))
        self._news.set()

    def _connection(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=60.0)
        return httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=limits)


def request_headers(settings: Judge) -> dict[str, str]:
    """Headers of a request, with the key from the environment."""
    key = os.environ.get(settings.api_key_env, "")
    return {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
