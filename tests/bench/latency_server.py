"""A chat endpoint of fixed latency: it parses what it must, so that it is never what a benchmark measures.

``python -m tests.bench.latency_server PORT SECONDS AT_ONCE`` answers each call that many seconds after it came in, and
gives 429 to calls beyond ``AT_ONCE`` at once. ``GET /stats`` tells calls, refusals and its own CPU seconds so far.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from modpo_hpc.generation.machine import free_port
from tests.judging.servers import REPOSITORY

_ANSWER = json.dumps(
    {
        "choices": [
            {"message": {"role": "assistant", "content": '{"empathy": "A", "safety": "tie"}'}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 12},
        "model": "m-1",
    }
).encode()


def _reply(status: int, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    )


_DONE, _TOO_MANY = _reply(200, _ANSWER), _reply(429, b'{"error": {"message": "too many at once"}}')


class Endpoint:
    """What the connections share."""

    def __init__(self, seconds: float, at_once: int) -> None:
        self.seconds, self.at_once = seconds, at_once
        self.open = self.calls = self.refused = 0

    def stats(self) -> bytes:
        return json.dumps({"calls": self.calls, "refused": self.refused, "cpu_seconds": time.process_time()}).encode()


class Connection(asyncio.Protocol):
    """One client, one call after the other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._received = endpoint, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._received[:head].lower()
        place = lower.find(b"content-length:")
        length = int(lower[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self._received) < head + 4 + length:
            return
        asked, self._received = self._received, b""
        self._answer(asked)

    def _answer(self, asked: bytes) -> None:
        endpoint = self._endpoint
        assert self._transport is not None
        if asked.startswith(b"GET"):
            self._transport.write(_reply(200, endpoint.stats()))
        elif endpoint.open >= endpoint.at_once:
            endpoint.refused += 1
            self._transport.write(_TOO_MANY)
        else:
            endpoint.open += 1
            endpoint.calls += 1
            asyncio.get_running_loop().call_later(endpoint.seconds, self._finish)

    def _finish(self) -> None:
        self._endpoint.open -= 1
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_DONE)


@contextmanager
def latency_server(seconds: float, at_once: int) -> Iterator[str]:
    """Base URL of such an endpoint, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.latency_server", str(port), str(seconds), str(at_once)]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/stats", trust_env=False)
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


async def _serve(port: int, seconds: float, at_once: int) -> None:
    endpoint = Endpoint(seconds, at_once)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(endpoint), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
