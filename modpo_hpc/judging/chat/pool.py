"""Who sends the calls: an event loop in a thread of this process. ``raypool`` has the same over Ray actors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from modpo_hpc.judging.chat.sender import Endpoint, Reply, Sender
from modpo_hpc.judging.chat.wire import Call, Dialect
from modpo_hpc.study.judging import Judge

T = TypeVar("T")


class Pool(Protocol):
    """Some workers that send calls. What they were given is theirs until it comes back from ``drain``."""

    workers: int

    def feed(self, worker: int, calls: Sequence[Call], dialect: Dialect, limit: int) -> None:
        """Give ``calls`` to a worker, which keeps at most ``limit`` open from now on."""
        ...

    def drain(self, seconds: float) -> list[Reply]:
        """What has come back; waits up to ``seconds`` for the first of it."""
        ...

    def close(self) -> None: ...


class ThreadPool:
    """Senders in one event loop, in a thread of this process; one sender for each endpoint."""

    def __init__(self, endpoints: Sequence[Endpoint], settings: Judge) -> None:
        self.workers = len(endpoints)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-calls", daemon=True)
        self._thread.start()
        self._senders = [self._await(_make(endpoint, settings)) for endpoint in endpoints]

    def feed(self, worker: int, calls: Sequence[Call], dialect: Dialect, limit: int) -> None:
        self._await(self._senders[worker].feed(calls, dialect, limit))

    def drain(self, seconds: float) -> list[Reply]:
        if self.workers == 1:
            return self._await(self._senders[0].drain(seconds))
        return self._await(self._drain_any(seconds))

    def close(self) -> None:
        for sender in self._senders:
            self._await(sender.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _drain_any(self, seconds: float) -> list[Reply]:
        drains = [asyncio.ensure_future(sender.drain(seconds)) for sender in self._senders]
        await asyncio.wait(drains, return_when=asyncio.FIRST_COMPLETED)
        for one in drains:
            one.cancel()
        finished = await asyncio.gather(*drains, return_exceptions=True)
        return [reply for replies in finished if isinstance(replies, list) for reply in replies]

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _make(endpoint: Endpoint, settings: Judge) -> Sender:
    return Sender(endpoint, settings)
