"""A chat endpoint for tests, in a process of its own: it counts calls, answers after a fixed time, and misbehaves.

``python -m tests.judging.servers PORT FILE`` listens on PORT and writes down every call that it takes in FILE (a line
each: time, hash of the prompt), and every answer that it gives in FILE.answered. It is a stand-in that we wrote;
``test_peers.py`` holds the same code against servers that we did not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from modpo_hpc.generation.machine import free_port
from tests.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def counting_server(folder: Path, port: int | None = None, **behaviour: Any) -> Iterator[tuple[str, Path]]:
    """Base URL of a server with ``behaviour`` (see ``Behaviour``), and the file of the calls that it took."""
    port = port or free_port()
    calls = folder / f"calls-{port}.txt"
    process = start_server(port, calls, **behaviour)
    try:
        yield f"http://127.0.0.1:{port}/v1", calls
    finally:
        process.kill()
        process.wait()


def start_server(port: int, calls: Path, **behaviour: Any) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.judging.servers", str(port), str(calls), json.dumps(behaviour)], cwd=REPOSITORY
    )
    wait_until(lambda: is_up(process, f"http://127.0.0.1:{port}/health"))
    return process


def is_up(process: subprocess.Popen[bytes], url: str, said: Path | None = None) -> bool:
    """Whether a server that was started answers at ``url`` by now. An error where it has ended, with its log."""
    assert process.poll() is None, said.read_text()[-2000:] if said else "the test server does not start"
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class Behaviour:
    """How the server answers, and how it misbehaves.

    latency: seconds of each answer. limit: calls at once, 429 beyond. rate_limits, errors: share of calls that get
    429 or 500 at first sight (each prompt fails once at most). poison: prompts that hold this text get 500 always.
    refuse_format: 400 to any ``response_format``. refuse_temperature: 400 to any temperature. babble: share of first
    answers that are no JSON. too_long: prompts of more characters get the context error. key: required in requests.
    drift_after: answers after which the model calls itself m-2 instead of m-1. noise: chance that an answer is drawn
    anew, each time that a prompt is asked; the same with the same seed.
    """

    def __init__(self, **settings: Any) -> None:
        self.latency: float = settings.get("latency", 0.0)
        self.limit: int = settings.get("limit", 10**9)
        self.rate_limits: float = settings.get("rate_limits", 0.0)
        self.errors: float = settings.get("errors", 0.0)
        self.poison: str = settings.get("poison", "\0")
        self.refuse_format: bool = settings.get("refuse_format", False)
        self.refuse_temperature: bool = settings.get("refuse_temperature", False)
        self.babble: float = settings.get("babble", 0.0)
        self.too_long: int = settings.get("too_long", 10**9)
        self.key: str | None = settings.get("key")
        self.drift_after: float = settings.get("drift_after", float("inf"))
        self.noise: float = settings.get("noise", 0.0)
        self.times: Counter[str] = Counter()
        self.given = 0
        self.seen: set[str] = set()
        self.open = 0

    def refusal(self, body: dict[str, Any], prompt: str, key: str) -> tuple[int, dict[str, Any], dict[str, str]] | None:
        draw = random.Random(prompt).random()
        again = prompt in self.seen
        self.seen.add(prompt)
        if self.key is not None and key != f"Bearer {self.key}":
            return 401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, {}
        if body["model"] == "unknown":
            return 404, {"error": {"message": "The model `unknown` does not exist", "code": "model_not_found"}}, {}
        if self.refuse_format and "response_format" in body:
            return 400, {"error": {"message": "response_format is not supported", "param": "response_format"}}, {}
        if self.refuse_temperature and "temperature" in body:
            message = "Unsupported value: 'temperature' does not support 0 with this model."
            return 400, {"error": {"message": message, "param": "temperature", "code": "unsupported_value"}}, {}
        if len(prompt) > self.too_long:
            return 400, {"error": {"message": "maximum context length", "code": "context_length_exceeded"}}, {}
        if self.poison in prompt:
            return 500, {"error": {"message": "poisoned"}}, {}
        if self.open > self.limit:
            return 429, {"error": {"message": "too many at once"}}, {"retry-after": "0.05"}
        if not again and draw < self.rate_limits:
            return 429, {"error": {"message": "slow down"}}, {"retry-after": "0.05"}
        if not again and draw < self.rate_limits + self.errors:
            return 500, {"error": {"message": "hiccup"}}, {}
        return None

    def answer(self, body: dict[str, Any], prompt: str) -> str:
        if random.Random(prompt + "babble").random() < self.babble and len(body["messages"]) == 1:
            return "I would rather not choose."
        self.times[prompt] += 1
        draw = random.Random(f"{prompt} {body.get('seed', self.times[prompt])}")
        anew = str(draw.random()) if draw.random() < self.noise else ""
        return oracle(body["messages"][0]["content"] + anew)


def oracle(prompt: str) -> str:
    """The answer to a judging prompt: by a hash of it, for each criterion that the form names; to others, words."""
    form = next((line for line in prompt.splitlines() if line.startswith("{")), None)
    if form is None:
        return "That sounds like a lot to carry."
    names = [part.split('"')[1] for part in form.split(", ") if '"' in part.split(":")[0] and ":" in part]
    bits = hashlib.sha256(prompt.encode()).digest()
    if "n1" in form:
        count = len(re.findall(r"\bn\d+", form.split("]")[0]))
        return json.dumps(
            {name: random.Random(bits + name.encode()).sample(range(1, count + 1), count) for name in names}
        )
    return json.dumps({name: ("A", "B", "tie")[bits[place] % 3] for place, name in enumerate(names)})


def answers_file(calls: Path) -> Path:
    """Where the server that writes its calls to ``calls`` writes its answers."""
    return calls.with_name(f"{calls.name}.answered")


async def _serve(port: int, calls: Path, behaviour: Behaviour) -> None:
    log = open(calls, "a", buffering=1)  # noqa: SIM115 - lives as long as the process
    answered = open(answers_file(calls), "a", buffering=1)  # noqa: SIM115

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer, extra = await respond(lines[0], headers, content)
                payload = json.dumps(answer).encode()
                more = "".join(f"{name}: {value}\r\n" for name, value in extra.items())
                start = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}"
                writer.write(f"{start}content-length: {len(payload)}\r\n\r\n".encode() + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def respond(line: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
        if "/health" in line:
            return 200, {}, {}
        body = json.loads(content)
        prompt = json.dumps(body["messages"])
        behaviour.open += 1
        try:
            refusal = behaviour.refusal(body, prompt, headers.get("authorization", ""))
            if refusal is not None:
                return refusal
            name = hashlib.sha256(prompt.encode()).hexdigest()[:24]
            log.write(f"{time.time():.4f} {name}\n")
            await asyncio.sleep(behaviour.latency)
            answered.write(f"{time.time():.4f} {name}\n")
            message = {"role": "assistant", "content": behaviour.answer(body, prompt)}
            usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 12}
            behaviour.given += 1
            name = "m-1" if behaviour.given <= behaviour.drift_after else "m-2"
            return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": name}, {}
        finally:
            behaviour.open -= 1

    server = await asyncio.start_server(handle, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2]), Behaviour(**json.loads(sys.argv[3]))))
