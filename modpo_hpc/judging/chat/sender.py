"""The sender: keeps many calls to one endpoint open at once, and hands back what became of each. It retries nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

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

    It uses aiohttp, whose parser is in C: at hundreds of calls a second httpx takes most of a core, and whatever time
    a call waits for the sender is taken from the window.

    Args:
        model: the model's name in requests.
    """

    def __init__(self, address: Address, model: str, settings: Judge) -> None:
        self._address, self._model, self._settings = address, model, settings
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
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
        if self._session is not None:
            await self._session.close()

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
        try:
            with self._address.lease() as base_url:
                content = json.dumps(body, ensure_ascii=False).encode()
                async with self._connections().post(self._url(base_url), data=content) as reply:
                    answer = await reply.read()
            outcome = outcome_of(reply.status, answer, reply.headers, dialect, self._settings.price)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, NoServer) as error:
            outcome = Failed("connection", f"{type(error).__name__}: {error}")
        except ModpoError as error:
            outcome = Hopeless(str(error), "See the log of the server.")
        finally:
            self._open -= 1
            self._start()
        self._replies.append(Reply(call.number, outcome, sent_at, time.time() - sent_at))
        self._news.set()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            seconds = self._settings.timeout_seconds
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=request_headers(self._settings),
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(20.0, seconds)),
            )
        return self._session

    def _url(self, base_url: str) -> URL:
        if base_url not in self._urls:
            self._urls[base_url] = URL(f"{base_url}/chat/completions")
        return self._urls[base_url]


def request_headers(settings: Judge) -> dict[str, str]:
    """Headers of a request, with the key from the environment."""
    key = os.environ.get(settings.api_key_env, "")
    return {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
