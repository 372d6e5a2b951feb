"""An endpoint for tests that misbehaves in one named way on the first sight of each prompt, and answers well then.

It runs in a thread, listens on 127.0.0.1 only, and counts what it was asked.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from tests.judging.servers import oracle

USAGE = {"prompt_tokens": 300, "completion_tokens": 12}


def completion(text: Any, usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": "m-1", **more}


def ok(body: bytes, status: int = 200, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def as_json(content: Any) -> bytes:
    return ok(json.dumps(content).encode())


UNUSABLE: dict[str, bytes] = {
    "message is null": as_json({"choices": [{"message": None}]}),
    "message is a string": as_json({"choices": [{"message": "A"}]}),
    "no choices": as_json({}),
    "choices is a string": as_json({"choices": "A"}),
    "content is a number": as_json(completion(7)),
    "an array": as_json([1, 2]),
    "empty body": ok(b""),
    "HTML": ok(b"<html>Bad gateway</html>"),
    "half of a JSON": ok(b'{"choices": [{"mess'),
    "JSON nested too deeply": ok(b"[" * 200_000),
    "no UTF-8": ok(b"\xff\xfe\x00\x01"),
    "an error in a 200": as_json({"error": {"message": "overloaded", "code": 503}}),
    "a stream of events": ok(b'data: {"choices": []}\n\n'),
    "204": ok(b"", 204),
    "500": ok(b"oops", 500),
    "502 with a header": ok(b"oops", 502, "retry-after: 0"),
    "status 599": ok(b"{}", 599),
    "connection closed": b"",
    "closed in the headers": b"HTTP/1.1 200 X\r\ncontent-",
    "closed in the body": b'HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n{"choi',
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
}
"""Replies of which nothing can be made: the call is made again."""

USABLE: dict[str, Callable[[str], Any]] = {
    "tokens are n/a": lambda text: completion(text, {"prompt_tokens": "n/a", "completion_tokens": "n/a"}),
    "tokens are infinite": lambda text: completion(text, {"prompt_tokens": float("inf"), "completion_tokens": 1}),
    "tokens are NaN": lambda text: completion(text, {"prompt_tokens": float("nan"), "completion_tokens": 1}),
    "tokens are negative": lambda text: completion(text, {"prompt_tokens": -300, "completion_tokens": -12}),
    "tokens are zero": lambda text: completion(text, {"prompt_tokens": 0, "completion_tokens": 0}),
    "tokens are far too many": lambda text: completion(text, {"prompt_tokens": 10**18, "completion_tokens": 12}),
    "usage is null": lambda text: completion(text, None),
    "usage is a string": lambda text: completion(text, "much"),
    "details are a list": lambda text: completion(text, {**USAGE, "prompt_tokens_details": [1]}),
    "content in parts": lambda text: completion([{"type": "text", "text": text[:9]}, {"text": text[9:]}, {"image": 1}]),
    "lone surrogates": lambda text: completion(text + " \ud800", model="m\udfff"),
    "model is a number": lambda text: completion(text, model=7),
    "finish reason is an object": lambda text: {
        **completion(text),
        "choices": [{"message": {"content": text}, "finish_reason": {"a": 1}}],
    },
}
"""Odd replies that hold an answer: nothing is asked twice, and what was reserved is charged if usage is not told."""


def slow_down(header: str | None) -> Callable[[], bytes]:
    def reply() -> bytes:
        value = header.replace("DATE", formatdate(time.time() + 1, usegmt=True)) if header else None
        return ok(b'{"error": {"message": "slow down"}}', 429, *([value] if value else []))

    return reply


SLOW_DOWN = {
    "no header": slow_down(None),
    "seconds": slow_down("Retry-After: 0.2"),
    "milliseconds": slow_down("retry-after-ms: 200"),
    "a date": slow_down("Retry-After: DATE"),
    "nonsense": slow_down("Retry-After: soon"),
    "negative": slow_down("Retry-After: -5"),
    "infinite": slow_down("Retry-After: inf"),
}


@dataclass
class Endpoint:
    """How it misbehaves: ``first`` is its reply to each prompt at first sight, ``until`` its reply for so long."""

    first: bytes | None = None
    odd: Callable[[str], Any] | None = None
    hang: bool = False
    down: tuple[float, Callable[[], bytes]] = (0.0, lambda: b"")
    url: str = ""
    began: float = 0.0
    calls: int = 0
    answered: int = 0
    moments: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    async def reply(self, prompt: str) -> bytes:
        self.calls += 1
        self.began = self.began or time.monotonic()
        self.moments.append(time.monotonic() - self.began)
        again = prompt in self.seen
        self.seen.add(prompt)
        if self.moments[-1] < self.down[0]:
            return self.down[1]()
        if self.hang and not again:
            await asyncio.sleep(30)
        if self.first is not None and not again:
            return self.first
        self.answered += 1
        text = oracle(json.loads(prompt)[0]["content"])
        return as_json(self.odd(text) if self.odd else completion(text))


@contextmanager
def running(endpoint: Endpoint) -> Iterator[Endpoint]:
    """``endpoint``, listening."""
    loop = asyncio.new_event_loop()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
                prompt = json.dumps(json.loads(await reader.readexactly(length))["messages"])
                answer = await endpoint.reply(prompt)
                writer.write(answer)
                await writer.drain()
                if (
                    not answer.startswith(b"HTTP/1.1 ")
                    or b"content-length: 500\r\n" in answer
                    or b"\r\n\r\n" not in answer
                ):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0, backlog=256))
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
