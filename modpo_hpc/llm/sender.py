"""The sender: keeps many calls to one endpoint open at once, and hands back what became of each. It retries nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from modpo_hpc.errors import ModpoError
from modpo_hpc.llm.endpoints import Address, is_loopback
from modpo_hpc.llm.outcomes import Api, Call, Failed, Hopeless, Outcome

MOST_BYTES = 32 * 2**20
"""Longest reply that is read: no answer is as long, and a stream without end must not fill the memory."""


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
    a call waits for the sender is taken from the window. Proxies of the environment are used, except to this machine.
    """

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self._address, self._timeout = address, timeout_seconds
        self._targets: dict[str, tuple[aiohttp.ClientSession, URL]] = {}
        self._waiting: deque[tuple[Call, Api]] = deque()
        self._limit, self._open = 1, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies: list[Reply] = []
        self._news = asyncio.Event()

    async def feed(self, calls: Sequence[Call], api: Api, limit: int) -> None:
        """Take in ``calls``; keep at most ``limit`` open from now on."""
        self._limit = limit
        self._waiting.extend((call, api) for call in calls)
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
        for session, _ in self._targets.values():
            await session.close()

    def _start(self) -> None:
        while self._waiting and self._open < self._limit:
            self._open += 1
            task = asyncio.create_task(self._send(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, call: Call, api: Api) -> None:
        sent_at = time.time()
        try:
            outcome = await self._outcome(call, api)
        finally:
            self._open -= 1
            self._start()
        self._replies.append(Reply(call.number, outcome, sent_at, time.time() - sent_at))
        self._news.set()

    async def _outcome(self, call: Call, api: Api) -> Outcome:
        """What became of ``call``. Whatever happens on the way is one of the outcomes."""
        try:
            base_url, release = await self._address.acquire()
            try:
                content = api.body(call)
                # aiohttp keeps the same time; the watchdog is for what it does not see
                return await asyncio.wait_for(self._exchange(call, api, base_url, content), self._timeout + 10.0)
            finally:
                release()
        except ModpoError as error:
            return Hopeless(str(error), "See the log of the server.")
        except (aiohttp.ServerTimeoutError, aiohttp.ConnectionTimeoutError) as error:
            sent = not isinstance(error, aiohttp.ConnectionTimeoutError)
            return Failed("timeout" if sent else "connection", f"{type(error).__name__}: {error}", charged=sent)
        except (asyncio.TimeoutError, TimeoutError):
            return Failed("timeout", f"no answer within {self._timeout:g} s", charged=True)
        except (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError) as error:
            return Failed("connection", f"{type(error).__name__}: {error}")
        except (aiohttp.ClientError, OSError) as error:
            return Failed("connection", f"{type(error).__name__}: {error}", charged=True)
        except Exception as error:  # whatever an endpoint sends, each call has an outcome
            return Failed("malformed", f"{type(error).__name__}: {error}"[:300], charged=True)

    async def _exchange(self, call: Call, api: Api, base_url: str, content: bytes) -> Outcome:
        session, url = self._target(api, base_url)
        async with session.post(url, data=content, headers=api.headers(), allow_redirects=False) as reply:
            parts, size = [], 0
            async for part in reply.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    return Failed("malformed", f"a reply of more than {MOST_BYTES:,} bytes", charged=True)
            return api.outcome(call, reply.status, b"".join(parts), reply.headers)

    def _target(self, api: Api, base_url: str) -> tuple[aiohttp.ClientSession, URL]:
        if base_url not in self._targets:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(20.0, self._timeout)),
                trust_env=not is_loopback(base_url),
            )
            self._targets[base_url] = session, URL(api.url(base_url))
        return self._targets[base_url]
