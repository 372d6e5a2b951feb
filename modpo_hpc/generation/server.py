"""Model servers for as long as a block runs: started on each GPU, watched, restarted, and gone at the end.

>>> with serve(["vllm", "serve", "mistralai/Mistral-7B-Instruct-v0.2", "--port", "{port}"], logs=folder) as servers:
...     server = servers.try_lease()      # the least busy server that is well
...     httpx.post(f"{server.url}/chat/completions", json=...)
...     servers.release(server)
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.generation.machine import devices_of_job
from modpo_hpc.generation.process import SERVER_PATH, ServerProcess

log = logging.getLogger(__name__)
_POLL_SECONDS, _PROBE_SECONDS, _PROBE_STRIKES = 0.5, 5.0, 6


class ServerError(ModpoError):
    """A server cannot be started, or has died too often. The end of its log is in the message."""


class Servers:
    """The servers of one ``serve`` block. All methods may be called from any thread."""

    def __init__(
        self,
        command: Sequence[str],
        devices: Sequence[str | None],
        logs: Path,
        health: str,
        ready_seconds: float,
        max_restarts: int,
    ) -> None:
        self.command, self.health, self.ready_seconds = tuple(command), health, ready_seconds
        self.max_restarts = max_restarts
        logs.mkdir(parents=True, exist_ok=True)
        self._servers = [ServerProcess(number, one, logs / f"server{number}.log") for number, one in enumerate(devices)]
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="server-watch", daemon=True)

    @property
    def urls(self) -> list[str]:
        """Base URLs of the servers that are well at this moment. A restarted server may get another port."""
        with self._changed:
            return [one.url for one in self._servers if one.state == "well"]

    @property
    def restarts(self) -> int:
        """Restarts so far, over all servers."""
        return sum(one.restarts for one in self._servers)

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the guards, whose children the servers are."""
        return [one.process.pid for one in self._servers if one.process is not None]

    def check(self) -> None:
        """Refuse to go on when no server can come back.

        Raises:
            ServerError: every server has failed for good.
        """
        with self._changed:
            failed = [one for one in self._servers if one.state == "failed"]
            if len(failed) == len(self._servers):
                raise ServerError(
                    f"server {failed[0].number} failed {failed[0].restarts + 1} times "
                    f"({' '.join(self.command)}). Its log, {failed[0].log_path}, ends with:\n{failed[0].last_words()}"
                )

    def try_lease(self) -> ServerProcess | None:
        """The least busy server that is well, counted as in use until ``release``; None if there is none now.

        Raises:
            ServerError: every server has failed for good.
        """
        self.check()
        with self._changed:
            well = [one for one in self._servers if one.state == "well"]
            if self._stopping.is_set() or not well:
                return None
            server = min(well, key=lambda one: one.in_use)
            server.in_use += 1
            return server

    def release(self, server: ServerProcess) -> None:
        """Say that a request to ``server`` is over."""
        with self._changed:
            server.in_use -= 1
            self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Give out no more leases and wait until the last is back. Returns whether all came back in time."""
        self._stopping.set()
        with self._changed:
            return self._changed.wait_for(lambda: not any(one.in_use for one in self._servers), timeout)

    def start(self) -> None:
        """Start all servers and wait until each is well.

        Raises:
            ServerError: one died or did not get well in time.
        """
        for server in self._servers:
            self._launch(server)
        self._watcher.start()
        with self._changed:
            while any(one.state in ("starting", "down") for one in self._servers):
                self._changed.wait(1.0)
        self.check()

    def stop(self) -> None:
        """End all servers and everything they started; returns when they are gone."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for server in self._servers:
            server.ask_to_end()
        for server in self._servers:
            server.end()

    def _launch(self, server: ServerProcess) -> None:
        server.launch(self.command)
        server.give_up_at = time.monotonic() + self.ready_seconds
        self._move(server, "starting")

    def _watch(self) -> None:
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            while not self._stopping.wait(_POLL_SECONDS):
                for server in self._servers:
                    if server.state in ("starting", "well"):
                        self._look_at(server, client)

    def _look_at(self, server: ServerProcess, client: httpx.Client) -> None:
        assert server.process is not None
        now = time.monotonic()
        if server.process.poll() is not None:
            self._replace(server, f"ended with code {server.process.returncode}")
            return
        if now < server.next_probe:
            return
        healthy = _answers(client, server.url.removesuffix("/v1") + self.health)
        if healthy:
            server.strikes = 0
            self._move(server, "well")
            server.next_probe = now + _PROBE_SECONDS
        elif server.state == "starting":
            if now > server.give_up_at:
                self._replace(server, f"was not well after {self.ready_seconds:.0f} s")
        else:
            server.strikes += 1
            server.next_probe = now + _PROBE_SECONDS
            if server.strikes >= _PROBE_STRIKES:
                self._replace(server, f"did not answer {server.strikes} times")

    def _replace(self, server: ServerProcess, reason: str) -> None:
        assert server.process is not None
        never_well = server.state == "starting" and server.restarts == 0
        log.warning("server %d %s", server.number, reason)
        self._move(server, "down")
        server.end()
        # a command that fails at its very first start is wrong, not unlucky: except for a port taken meanwhile
        if server.restarts >= self.max_restarts or (never_well and not server.found_its_port_taken()):
            self._move(server, "failed")
            return
        server.restarts += 1
        self._launch(server)

    def _move(self, server: ServerProcess, state: str) -> None:
        with self._changed:
            server.state = state
            self._changed.notify_all()


@contextmanager
def serve(
    command: Sequence[str],
    *,
    logs: Path,
    devices: Sequence[str | None] | None = None,
    health: str = "/health",
    ready_seconds: float = 1200,
    max_restarts: int = 3,
    drain_seconds: float = 60,
) -> Iterator[Servers]:
    """Run ``command`` once per entry of ``devices`` for as long as the block runs.

    Args:
        command: the server's command line; ``{port}`` and ``{host}`` are filled in.
        logs: folder of the servers' logs, ``server<n>.log``.
        devices: value of CUDA_VISIBLE_DEVICES of each server, None for no change; ``devices_of_job()`` if empty.
        health: path that answers 200 when the server can take requests.
        ready_seconds: time to load the model; a server that is not well by then is replaced.
        max_restarts: restarts of each server before it counts as failed.
        drain_seconds: at the end of the block, time for requests in flight.

    Raises:
        InputError: there is no such program.
        ServerError: no server got well; the message holds the end of the log.
    """
    from shutil import which

    program = which(command[0], path=os.environ.get(SERVER_PATH)) or which(command[0])
    if program is None:
        raise InputError(
            "this program is not installed here",
            field="server.command",
            value=command[0],
            remedy="Install it in an environment of its own (python -m venv /opt/vllm; /opt/vllm/bin/pip install vllm) "
            f"and set {SERVER_PATH}: /opt/vllm/bin under environment of the profile; or name another.",
        )
    servers = Servers(
        [program, *command[1:]],
        devices_of_job() if devices is None else devices,
        logs,
        health,
        ready_seconds,
        max_restarts,
    )
    try:
        servers.start()
        yield servers
        servers.drain(drain_seconds)
    finally:
        servers.stop()


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False
