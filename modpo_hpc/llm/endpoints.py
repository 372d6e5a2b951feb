"""Where calls go: one fixed endpoint, or the least busy of the model servers that run in this allocation."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from modpo_hpc.errors import InputError
from modpo_hpc.study.serving import Serving

if TYPE_CHECKING:
    from modpo_hpc.generation.server import Servers

CHECK_SECONDS = 15.0


class Address(Protocol):
    """Gives each call a base URL for as long as the call runs."""

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """A base URL, and what to call when the request is over.

        Raises:
            ModpoError: there is none, and there will be none.
        """

    def close(self) -> None: ...


class FixedAddress:
    """One endpoint, for good."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """The URL, at once."""
        return self._base_url, lambda: None

    def close(self) -> None:
        pass


class LocalServers:
    """Servers that run already: each request goes to the least busy one that is well."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    async def acquire(self) -> tuple[str, Callable[[], None]]:
        """Waits while a server restarts. Raises ServerError when none can come back."""
        while (server := self.servers.try_lease()) is None:
            await asyncio.sleep(0.2)
        return server.url, partial(self.servers.release, server)

    def close(self) -> None:
        pass


class ServersAddress(LocalServers):
    """Model servers, started here, one on each GPU (or one, without GPUs); they end with ``close``.

    Raises:
        InputError: the server's program is not installed.
        ServerError: no server got well; the message holds the end of its log.
    """

    def __init__(self, settings: Serving, model: str, dtype: str, logs: Path) -> None:
        from modpo_hpc.generation.server import devices_of_job, serve

        filled = [word.replace("{model}", model).replace("{dtype}", dtype) for word in settings.command]
        self._stack = ExitStack()
        super().__init__(
            self._stack.enter_context(
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
        )

    def close(self) -> None:
        self._stack.close()


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine: such calls never go through a proxy."""
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_connection(base_url: str, field: str = "judge.base_url", seconds: float = CHECK_SECONDS) -> None:
    """Find out within ``seconds`` whether anybody listens at ``base_url``, or at the proxy on the way to it.

    Raises:
        InputError: the URL is none, its host is unknown, or nobody listens there.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("this is no URL", field=field, value=base_url, remedy="It begins with http:// or https://.")
    host, port, by = _first_hop(base_url)
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=min(5.0, seconds)).close()
            return
        except OSError as error:
            if time.monotonic() + 1.0 > until:
                raise InputError(
                    f"nobody answers at {host}:{port}{by} ({error})",
                    field=field,
                    value=base_url,
                    remedy="Correct the address, start the server, or see whether this node reaches the network.",
                ) from None
        time.sleep(1.0)


def _first_hop(base_url: str) -> tuple[str, int, str]:
    parts, by = urlsplit(base_url), ""
    proxy = getproxies_environment().get(parts.scheme)
    if proxy and not (is_loopback(base_url) or proxy_bypass(parts.hostname or "")):
        parts, by = urlsplit(proxy if "://" in proxy else f"http://{proxy}"), ", the proxy"
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), by


def api_key(variable: str) -> str:
    """The key that the environment variable ``variable`` holds, or an empty text."""
    return os.environ.get(variable, "").strip()
