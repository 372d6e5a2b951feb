"""Who sends the calls: an event loop in a thread of this process. ``raypool`` has the same over Ray actors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from modpo_hpc.llm.endpoints import Address
from modpo_hpc.llm.outcomes import Api, Call
from modpo_hpc.llm.sender import Reply, Sender

T = TypeVar("T")


class Pool(Protocol):
    """Some workers that send calls. What they were given is theirs until it comes back from ``drain``."""

    workers: int

    def feed(self, calls: Sequence[Call], api: Api, limit: int) -> None:
        """Give ``calls`` to the workers, which keep at most ``limit`` open from now on, all together."""

    def drain(self, seconds: float) -> list[Reply]:
        """What has come back; waits up to ``seconds`` for the first of it."""

    def close(self) -> None: ...


class ThreadPool:
    """One sender, in an event loop in a thread of this process."""

    workers = 1

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llm-calls", daemon=True)
        self._thread.start()
        self._sender = Sender(address, timeout_seconds)

    def feed(self, calls: Sequence[Call], api: Api, limit: int) -> None:
        self._await(self._sender.feed(calls, api, limit))

    def drain(self, seconds: float) -> list[Reply]:
        return self._await(self._sender.drain(seconds))

    def close(self) -> None:
        self._await(self._sender.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._address.close()

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
