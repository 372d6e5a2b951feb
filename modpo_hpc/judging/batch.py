"""The Batch API: requests go up as files, answers come down within a day, at half the price."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from modpo_hpc.core.journal import Journal
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.llm import retry
from modpo_hpc.llm.chat import ChatApi
from modpo_hpc.llm.client import PendingCall
from modpo_hpc.llm.endpoints import api_key, is_loopback
from modpo_hpc.study.judging import Judge

log = logging.getLogger(__name__)

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
_TRIES_OF_TRANSPORT = 8
_PAGES = 20


class BatchClient:
    """The few calls of the Files and Batches interface, each tried again after hiccups of the network."""

    def __init__(self, settings: Judge, pause: float = 2.0) -> None:
        key = api_key(settings.api_key_env)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        direct = is_loopback(settings.base_url)
        self._client = httpx.Client(timeout=settings.timeout_seconds, headers=headers, trust_env=not direct)
        self._base, self._pause, self._rng = settings.base_url.rstrip("/"), pause, random.Random()

    def upload(self, content: bytes) -> str:
        """Id of a new file of requests."""
        files = {"file": ("requests.jsonl", content, "application/jsonl")}
        return str(self._json("POST", "/files", data={"purpose": "batch"}, files=files)["id"])

    def create(self, file: str, mark: str) -> str:
        """Id of the one batch of the requests in ``file`` that carries ``mark``, made if there is none yet.

        Raises:
            ModpoError: the reply was lost, and the endpoint cannot say whether there is a batch now.
        """
        body = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"mark": mark},
        }
        for last in range(_TRIES_OF_TRANSPORT):
            try:
                return str(self._json("POST", "/batches", tries=1, json=body)["id"])
            except InputError:
                raise
            except ModpoError as error:
                log.warning("POST /batches: %s; looking whether the batch is there", error)
            self._sleep(last, None)
            if found := self.find(mark):
                return found
        raise ModpoError(
            f"no batch could be made at {self._base}; nothing was sent twice. Give the same command again."
        )

    def find(self, mark: str) -> str | None:
        """Id of the batch that carries ``mark``, if the endpoint has one."""
        after = ""
        for _ in range(_PAGES):
            page = self._json("GET", f"/batches?limit=100{after}")
            batches = page.get("data") or []
            for one in batches:
                if (one.get("metadata") or {}).get("mark") == mark:
                    return str(one["id"])
            if not page.get("has_more") or not batches:
                return None
            after = f"&after={batches[-1]['id']}"
        return None

    def status(self, batch: str) -> dict[str, Any]:
        """What the endpoint says about ``batch``."""
        return self._json("GET", f"/batches/{batch}")

    def download(self, file: str) -> Iterator[dict[str, Any]]:
        """The lines of a file of answers that are JSON objects; a damaged line is as if it were not there."""
        for line in self._request("GET", f"/files/{file}/content").content.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row

    def close(self) -> None:
        self._client.close()

    def _json(self, method: str, path: str, tries: int = _TRIES_OF_TRANSPORT, **more: Any) -> dict[str, Any]:
        try:
            answer = self._request(method, path, tries, **more).json()
        except (ValueError, RecursionError) as error:
            raise ModpoError(f"{method} {path}: the reply is no JSON") from error
        if not isinstance(answer, dict):
            raise ModpoError(f"{method} {path}: the reply is no JSON object")
        return answer

    def _request(self, method: str, path: str, tries: int = _TRIES_OF_TRANSPORT, **more: Any) -> httpx.Response:
        for last in range(tries):
            after = None
            try:
                reply = self._client.request(method, f"{self._base}{path}", **more)
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code < 300:
                    return reply
                if not retry.is_passing(reply.status_code):
                    raise _wrong(reply)
                said, after = f"http {reply.status_code}", retry.retry_after(reply.headers)
            if last == tries - 1:
                raise ModpoError(f"{method} {self._base}{path}: {said}")
            log.warning("%s %s: %s; tried again", method, path, said)
            self._sleep(last, after)
        raise AssertionError("not reached")

    def _sleep(self, tries: int, after: float | None) -> None:
        wait = min(60.0, self._pause * 2**tries) * self._rng.uniform(0.5, 1.0)
        time.sleep(max(wait, min(after or 0.0, retry.LONGEST_RETRY_AFTER)))


def files_of(calls: Sequence[PendingCall], api: ChatApi) -> Iterator[tuple[list[PendingCall], bytes]]:
    """``calls`` as files of requests, each within the limits of the interface in requests and bytes."""
    part: list[PendingCall] = []
    lines: list[bytes] = []
    size = 0
    for one in calls:
        body = api.request(one.call)
        request = {"custom_id": one.call.key.hex(), "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if part and (len(part) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield part, b"".join(lines)
            part, lines, size = [], [], 0
        part.append(one)
        lines.append(line)
        size += len(line)
    if part:
        yield part, b"".join(lines)


def open_journal(folder: Path, shard: str) -> Journal:
    """The file of batches under way of one shard, beside the ledger in ``folder``."""
    return Journal(folder / "batches" / f"{shard}.jsonl")


def _wrong(reply: httpx.Response) -> InputError:
    if reply.status_code in (401, 403):
        return InputError(
            f"the endpoint refuses the key (http {reply.status_code})",
            field="judge.api_key_env",
            remedy="Put a valid key into the environment variable that judge.api_key_env names.",
        )
    return InputError(
        f"the endpoint refuses a call of the Batch interface (http {reply.status_code}: {reply.text[:300]})",
        field="judge.base_url",
        remedy="Give an endpoint that has the interface, or use judge.kind openai.",
    )
