"""The Batch API: requests go up as files, answers come down within a day, at half the price.

What is about to be sent is in a file beside the ledger before it is sent, with a mark that the endpoint keeps with the
batch: a run that dies, or that loses the reply to its request, finds its batches again instead of paying for new ones.
Calls of a batch that expired or failed in part are sent again in the next one.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from modpo_hpc.core.journal import Journal
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.llm import retry
from modpo_hpc.llm.budget import Budget, SpendingLimit
from modpo_hpc.llm.chat import ChatApi
from modpo_hpc.llm.client import Finished, PendingCall
from modpo_hpc.llm.endpoints import is_loopback
from modpo_hpc.llm.ledger import Usage
from modpo_hpc.llm.outcomes import Answered, Hopeless, Outcome, Refused
from modpo_hpc.study.judging import Judge

log = logging.getLogger(__name__)

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
_ENDED = ("completed", "failed", "expired", "cancelled")
_TRIES_OF_TRANSPORT = 8
_PAGES = 20


@dataclass(frozen=True)
class Submitted:
    """A batch that the endpoint has taken: its id, the mark that we gave it, the keys of its calls."""

    batch: str
    mark: str
    keys: tuple[str, ...]


class BatchClient:
    """The few calls of the Files and Batches interface, each tried again after hiccups of the network."""

    def __init__(self, settings: Judge, pause: float = 2.0) -> None:
        api = ChatApi("", 1, api_key_env=settings.api_key_env)
        headers = {name: value for name, value in api.headers().items() if name != "content-type"}
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


def run_batches(
    calls: Sequence[PendingCall],
    api: ChatApi,
    settings: Judge,
    journal: Journal,
    budget: Budget,
    keep: Callable[[Sequence[Finished]], None],
    wait: Callable[[], None],
    client: BatchClient,
    note: Callable[[int], None] = lambda under_way: None,
) -> None:
    """Send ``calls`` in batches and hand on what becomes of each; a call without an answer is not handed on.

    Args:
        journal: batches that are, or may be, under way; those that an earlier attempt left there are taken up first.
        budget: what a batch may cost is held there from before it is sent until it has ended.
        keep: gets what calls of a batch came to; it is on disk when it returns.
        wait: called between looks at the endpoint; sleeps, and raises to stop.
        note: told how many batches are under way whenever that changes.

    Raises:
        InputError: the endpoint refuses the key, the file or the model.
        SpendingLimit: the limit leaves less than the next batch may cost.
    """
    wanted = {one.call.key.hex(): one for one in calls}
    under_way = [one for one in _left(journal, client) if any(key in wanted for key in one.keys)]
    note(len(under_way))
    sent = {key for one in under_way for key in one.keys}
    parts = files_of([one for one in calls if one.call.key.hex() not in sent], replace(api, token_field=_FIELD))
    part = next(parts, None)
    while under_way or part is not None:
        if part is not None:
            batch = _submit(*part, api, journal, budget, client)
            if batch is None and not under_way:
                raise _spending_limit(part[0], api, settings, budget)
            if batch is not None:
                under_way.append(batch)
                note(len(under_way))
                part = next(parts, None)
                continue
        for one in list(under_way):
            if _take_home(one, wanted, api, journal, budget, keep, client):
                under_way.remove(one)
        note(len(under_way))
        if under_way:
            wait()


_FIELD = "max_completion_tokens"


def _submit(
    part: list[PendingCall], content: bytes, api: ChatApi, journal: Journal, budget: Budget, client: BatchClient
) -> Submitted | None:
    mark, keys = secrets.token_hex(12), tuple(one.call.key.hex() for one in part)
    if budget.hold(mark, most_usd(part, api)) is None:
        return None
    try:
        file = client.upload(content)
        journal.append([{"mark": mark, "keys": keys}])
        batch = Submitted(client.create(file, mark), mark, keys)
    except InputError:
        budget.release(mark, 0.0)
        raise
    journal.append([{"mark": mark, "batch": batch.batch}])
    return batch


def _take_home(
    one: Submitted,
    wanted: dict[str, PendingCall],
    api: ChatApi,
    journal: Journal,
    budget: Budget,
    keep: Callable[[Sequence[Finished]], None],
    client: BatchClient,
) -> bool:
    """Hand on the answers of a batch if it has ended; whether it has."""
    status = client.status(one.batch)
    if status.get("status") not in _ENDED:
        return False
    outcomes = dict(_outcomes(client, status, api, wanted))
    for outcome in outcomes.values():
        if isinstance(outcome, Hopeless):
            raise InputError(outcome.problem, field=outcome.field, remedy=outcome.remedy)
    if not outcomes and status["status"] == "failed":
        budget.release(one.mark, 0.0)
        raise InputError(
            f"the endpoint refused batch {one.batch}: {_errors(status)}",
            field="judge",
            remedy="Correct the setting it names; nothing of this batch was answered or charged.",
        )
    final: list[Finished] = []
    for key, outcome in outcomes.items():
        if isinstance(outcome, (Answered, Refused)):
            final.append((wanted[key], _with_usage(wanted[key], outcome, api)))
    keep(final)
    budget.release(one.mark, sum((outcome.usage or Usage()).usd for _, outcome in final))
    journal.append([{"mark": one.mark, "ended": status["status"]}])
    if status["status"] != "completed" or len(final) < len(one.keys):
        log.warning("batch %s %s with %d of %d answers", one.batch, status["status"], len(final), len(one.keys))
    return True


def _with_usage(one: PendingCall, outcome: Answered | Refused, api: ChatApi) -> Answered | Refused:
    if outcome.usage is not None:
        return outcome
    read, written = one.call.input_tokens, one.call.output_tokens
    return replace(outcome, usage=Usage(read, written, 0, api.cost(Usage(read, written)), estimated=True))


def most_usd(part: Sequence[PendingCall], api: ChatApi) -> float:
    """US dollars that ``part`` may cost."""
    return sum(api.cost(Usage(one.call.input_tokens, one.call.output_tokens)) for one in part)


def _spending_limit(part: Sequence[PendingCall], api: ChatApi, settings: Judge, budget: Budget) -> SpendingLimit:
    return SpendingLimit(
        f"{len(part)} calls may cost ${most_usd(part, api):.2f}, ${budget.spent:.2f} are spent, and the limit is "
        f"${settings.max_usd:.2f}: nothing is sent. Raise it with MODPO_JUDGE_MAX_USD, or lower judge.max_tokens."
    )


def open_journal(folder: Path, shard: str) -> Journal:
    """The file of batches under way of one shard, beside the ledger in ``folder``."""
    return Journal(folder / "batches" / f"{shard}.jsonl")


def _left(journal: Journal, client: BatchClient) -> list[Submitted]:
    """The batches of the journal that have not been taken home; one whose making was cut short is looked for."""
    ended = {row["mark"] for row in journal.rows if "ended" in row}
    known = {row["mark"]: row["batch"] for row in journal.rows if "batch" in row}
    found = []
    for row in journal.rows:
        if "keys" not in row or row["mark"] in ended:
            continue
        if (batch := known.get(row["mark"]) or client.find(row["mark"])) is not None:
            found.append(Submitted(batch, row["mark"], tuple(row["keys"])))
    return found


def _outcomes(
    client: BatchClient, status: dict[str, Any], api: ChatApi, wanted: dict[str, PendingCall]
) -> Iterator[tuple[str, Outcome]]:
    plain = replace(api, structured="none")
    for name in ("output_file_id", "error_file_id"):
        for line in client.download(str(status[name])) if status.get(name) else ():
            key = line.get("custom_id")
            if not isinstance(key, str) or key not in wanted:
                continue
            response = line.get("response")
            response = response if isinstance(response, dict) else {}
            code = response.get("status_code")
            body = json.dumps(response.get("body") if response else line.get("error") or {}).encode()
            yield key, plain.outcome(wanted[key].call, code if isinstance(code, int) else 500, body, {})


def _errors(status: dict[str, Any]) -> str:
    errors = status.get("errors")
    found = (errors.get("data") if isinstance(errors, dict) else None) or []
    return "; ".join(str(one.get("message", one) if isinstance(one, dict) else one) for one in found[:3]) or (
        "no reason given"
    )


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
