"""Where calls go: one fixed endpoint, or the least busy of the model servers that run in this allocation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from modpo_hpc.study.judging import ServedJudge


class NoServer(Exception):
    """No server can take a call at this moment; one may be restarting."""


class Address(Protocol):
    """Gives each call a base URL for as long as the call runs."""

    @contextmanager
    def lease(self) -> Iterator[str]:
        """A base URL.

        Raises:
            NoServer: there is none at this moment.
            ModpoError: there will be none.
        """
        ...

    def close(self) -> None: ...


class FixedAddress:
    """One endpoint, for good."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

    @contextmanager
    def lease(self) -> Iterator[str]:
        yield self._base_url

    def close(self) -> None:
        pass


class ServersAddress:
    """Model servers, started here, one on each GPU (or one, without GPUs); they end with ``close``.

    Raises:
        InputError: the server's program is not installed.
        ServerError: no server got well; the message holds the end of its log.
    """

    def __init__(self, settings: ServedJudge, model: str, dtype: str, logs: Path) -> None:
        from modpo_hpc.generation.server import devices_of_job, serve

        filled = [word.replace("{model}", model).replace("{dtype}", dtype) for word in settings.command]
        self._stack = ExitStack()
        self._servers = self._stack.enter_context(
            serve(
                filled,
                logs=logs,
                devices=devices_of_job(settings.gpus),
                health=settings.health,
                ready_seconds=60 * settings.ready_minutes,
                max_restarts=settings.restarts,
                drain_seconds=5,
            )
        )

    @contextmanager
    def lease(self) -> Iterator[str]:
        server = self._servers.try_lease()
        if server is None:
            raise NoServer("no server is well at this moment")
        try:
            yield server.url
        finally:
            self._servers.release(server)

    def close(self) -> None:
        self._stack.close()
