"""The Batch API: requests go up as files, answers come down within a day, at half the price.

What is under way is in a file beside the ledger before it is waited for, so that a run that dies picks its batches up
again instead of paying for new ones. Calls of a batch that expired or failed in part are sent again in the next one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from modpo_hpc.errors import InputError
from modpo_hpc.judging.chat.sender import request_headers
from modpo_hpc.judging.chat.wire import Answered, Call, Dialect, Hopeless, Outcome, Refused, outcome_of, request_body
from modpo_hpc.shards import Journal
from modpo_hpc.study.judging import Judge

log = logging.getLogger(__name__)

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
_ENDED = ("completed", "failed", "expired", "cancelled")
_TRIES_OF_TRANSPORT = 8


@dataclass(frozen=True)
class Submitted:
    """A batch that the endpoint has taken: its id, the keys of its calls."""

    batch: str
    keys: tuple[str, ...]


class BatchClient:
    """The few calls of the Files and Batches interface, each tried again after hiccups of the network."""

    def __init__(self, settings: Judge, pause: float = 2.0) -> None:
        headers = {name: value for name, value in request_headers(settings).items() if name != "content-type"}
        self._client = httpx.Client(timeout=settings.timeout_seconds, headers=headers, trust_env=False)
        self._base, self._pause = settings.base_url.rstrip("/"), pause

    def upload(self, content: bytes) -> str:
        """Id of a new file of requests."""
        files = {"file": ("requests.jsonl", content, "application/jsonl")}
        return str(self._json("POST", "/files", data={"purpose": "batch"}, files=files)["id"])

    def create(self, file: str) -> str:
        """Id of a new batch of the requests in ``file``."""
        body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return str(self._json("POST", "/batches", json=body)["id"])

    def status(self, batch: str) -> dict[str, Any]:
        """What the endpoint says about ``batch``."""
        return self._json("GET", f"/batches/{batch}")

    def download(self, file: str) -> Iterator[dict[str, Any]]:
        """The lines of a file of answers."""
        for line in self._request("GET", f"/files/{file}/content").content.splitlines():
            if line.strip():
                yield json.loads(line)

    def close(self) -> None:
        self._client.close()

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._request(method, path, **more).json()
        return answer

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        for last in range(_TRIES_OF_TRANSPORT):
            try:
                reply = self._client.request(method, f"{self._base}{path}", **more)
            except httpx.TransportError as error:
                if last == _TRIES_OF_TRANSPORT - 1:
                    raise
                log.warning("%s %s: %s; tried again", method, path, error)
            else:
                if reply.status_code < 400:
                    return reply
                if reply.status_code not in (408, 409, 429) and reply.status_code < 500:
                    raise _wrong(reply)
                if last == _TRIES_OF_TRANSPORT - 1:
                    reply.raise_for_status()
            time.sleep(min(60.0, self._pause * 2**last))
        raise AssertionError("not reached")


def files_of(calls: Sequence[Call], model: str, settings: Judge) -> Iterator[tuple[list[Call], bytes]]:
    """``calls`` as files of requests, each within the limits of the interface in requests and bytes."""
    dialect = Dialect(settings.structured, "max_completion_tokens")
    part: list[Call] = []
    lines: list[bytes] = []
    size = 0
    for call in calls:
        body = request_body(model, settings, dialect, call)
        request = {"custom_id": call.key.hex(), "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = json.dumps(request, ensure_ascii=False).encode() + b"\n"
        if part and (len(part) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield part, b"".join(lines)
            part, lines, size = [], [], 0
        part.append(call)
        lines.append(line)
        size += len(line)
    if part:
        yield part, b"".join(lines)


def run_batches(
    calls: Sequence[Call],
    model: str,
    settings: Judge,
    journal: Journal,
    on_outcomes: Callable[[Sequence[tuple[bytes, Outcome]]], None],
    wait: Callable[[], None],
    client: BatchClient,
) -> set[bytes]:
    """Send ``calls`` in batches and hand on what becomes of each. Returns the keys that got no answer: ask again.

    Args:
        journal: ids of batches under way; those that an earlier attempt left there are taken up first.
        on_outcomes: gets (key, outcome) of a whole batch; what it was given is on disk when it returns.
        wait: called between looks at the endpoint; sleeps, and raises to stop.

    Raises:
        InputError: the endpoint refuses the key, the file or the model.
    """
    wanted = {call.key: call for call in calls}
    under_way = [one for one in _left(journal) if any(bytes.fromhex(key) in wanted for key in one.keys)]
    sent = {bytes.fromhex(key) for one in under_way for key in one.keys}
    for part, content in files_of([call for call in calls if call.key not in sent], model, settings):
        batch = Submitted(client.create(client.upload(content)), tuple(call.key.hex() for call in part))
        journal.append([{"batch": batch.batch, "keys": batch.keys}])
        under_way.append(batch)
    open_keys = set(wanted)
    while under_way:
        for one in list(under_way):
            status = client.status(one.batch)
            if status["status"] not in _ENDED:
                continue
            outcomes = list(_outcomes(client, status, settings))
            for _, outcome in outcomes:
                if isinstance(outcome, Hopeless):
                    raise InputError(outcome.problem, field=outcome.field, remedy=outcome.remedy)
            if not outcomes and status["status"] == "failed":
                raise InputError(
                    f"the endpoint refused batch {one.batch}: {_errors(status)}",
                    field="judge",
                    remedy="Correct the setting it names; nothing of this batch was answered or charged.",
                )
            final = [(key, outcome) for key, outcome in outcomes if isinstance(outcome, (Answered, Refused))]
            on_outcomes(final)
            open_keys.difference_update(key for key, _ in final)
            journal.append([{"batch": one.batch, "ended": status["status"]}])
            under_way.remove(one)
            if status["status"] != "completed" or len(final) < len(one.keys):
                log.warning("batch %s %s with %d of %d answers", one.batch, status["status"], len(final), len(one.keys))
        if under_way:
            wait()
    return open_keys


def open_journal(folder: Path, shard: str) -> Journal:
    """The file of batches under way of one shard, beside the ledger in ``folder``."""
    return Journal(folder / "batches" / f"{shard}.jsonl")


def _left(journal: Journal) -> list[Submitted]:
    ended = {row["batch"] for row in journal.rows if "ended" in row}
    return [
        Submitted(row["batch"], tuple(row["keys"]))
        for row in journal.rows
        if "keys" in row and row["batch"] not in ended
    ]


def _outcomes(client: BatchClient, status: dict[str, Any], settings: Judge) -> Iterator[tuple[bytes, Outcome]]:
    dialect = Dialect("none", "max_completion_tokens")
    for name in ("output_file_id", "error_file_id"):
        if not status.get(name):
            continue
        for line in client.download(status[name]):
            response = line.get("response") or {}
            code = int(response.get("status_code") or 500)
            body = json.dumps(response.get("body") if response else line.get("error") or {}).encode()
            yield bytes.fromhex(line["custom_id"]), outcome_of(code, body, {}, dialect, settings.price)


def _errors(status: dict[str, Any]) -> str:
    found = (status.get("errors") or {}).get("data") or []
    return "; ".join(str(one.get("message", one)) for one in found[:3]) or "no reason given"


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
