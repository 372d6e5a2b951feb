"""The Batch API, against a stand-in of ours: no free server of it exists. It keeps to the documented interface.

The stand-in checks what it is sent (purpose, endpoint, unique custom ids), completes a batch at the second look, and
can let it expire with half of its answers, or fail single requests.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.errors import InputError, Interrupted
from modpo_hpc.judging import batch
from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.kinds.chat import chat_api
from modpo_hpc.judging.opinions import Judgment, Tally
from modpo_hpc.judging.rounds import Rounds
from modpo_hpc.judging.tasks import JudgeRequest, parse_answer
from modpo_hpc.llm.budget import Budget, SpendingLimit, limits_of
from modpo_hpc.llm.chat import ChatPayload
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.client import PendingCall
from modpo_hpc.llm.ledger import Ledger, entries
from modpo_hpc.llm.store import Store
from modpo_hpc.study.judging import Judge
from tests.judging.servers import oracle
from tests.judging.worlds import request


class StandIn:
    """The state of the stand-in: files, batches, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.expire_first = False
        self.fail_once: set[str] = set()
        self.babble = False
        self.lose_replies = 0
        self.key = "k"
        self.asked: list[str] = []

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["endpoint"] == "/v1/chat/completions"
        lines = self.files[body["input_file_id"]].splitlines()
        identities = [json.loads(line)["custom_id"] for line in lines]
        assert len(set(identities)) == len(identities) <= batch.MOST_REQUESTS
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "status": "in_progress",
            "looks": 0,
            "lines": lines,
            "metadata": body["metadata"],
        }
        self.asked += identities
        return {"id": name, "status": "validating"}

    def look(self, name: str) -> dict[str, Any]:
        one = self.batches[name]
        one["looks"] += 1
        if one["looks"] == 2:
            expires = self.expire_first and name == "batch_0"
            lines = one["lines"][: len(one["lines"]) // 2] if expires else one["lines"]
            answers, errors = [], []
            for line in map(json.loads, reversed(lines)):  # answers come in any order
                if line["custom_id"] in self.fail_once:
                    self.fail_once.discard(line["custom_id"])
                    errors.append({"custom_id": line["custom_id"], "response": {"status_code": 500, "body": {}}})
                    continue
                messages = line["body"]["messages"]
                text = "Hm." if self.babble and len(messages) == 1 else oracle(messages[0]["content"])
                usage = {"prompt_tokens": 100, "completion_tokens": 10}
                choice = {"message": {"content": text}, "finish_reason": "stop"}
                body = {"choices": [choice], "usage": usage, "model": "m-1"}
                answers.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
            for field, rows in (("output_file_id", answers), ("error_file_id", errors)):
                if rows:
                    one[field] = f"file_{name}_{field}"
                    self.files[one[field]] = "\n".join(map(json.dumps, rows)).encode()
            one["status"] = "expired" if expires else "completed"
        return {name: value for name, value in one.items() if name not in ("lines", "looks")}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StandIn, str]]:
    state = StandIn()
    monkeypatch.setenv("OPENAI_API_KEY", state.key)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("authorization") != f"Bearer {state.key}":
                self.reply(401, b'{"error": {"message": "bad key"}}')
            elif self.path == "/v1/files":
                assert b'name="purpose"\r\n\r\nbatch' in content
                start = content.index(b"\r\n\r\n", content.index(b'filename="')) + 4
                state.files[f"file_{len(state.files)}"] = content[start : content.rindex(b"\r\n--", 0, -4)]
                self.reply(200, json.dumps({"id": f"file_{len(state.files) - 1}"}).encode())
            else:
                made = state.create(json.loads(content))
                if state.lose_replies:
                    state.lose_replies -= 1
                    self.close_connection = True
                    return
                self.reply(200, json.dumps(made).encode())

        def do_GET(self) -> None:
            parts = self.path.split("/")
            if parts[2].startswith("batches?"):
                listed = [{"id": name, "metadata": one["metadata"]} for name, one in state.batches.items()]
                self.reply(200, json.dumps({"data": listed, "has_more": False}).encode())
            elif parts[2] == "batches":
                self.reply(200, json.dumps(state.look(parts[3])).encode())
            else:
                self.reply(200, state.files[parts[3]])

        def reply(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def ask(
    folder: Path, requests: list[JudgeRequest], settings: Judge, check: Any = lambda: None, name: str = "s"
) -> tuple[list[Judgment | None], Tally]:
    ledger = folder / "ledger"
    claims = Claims(ledger, lasting=name, until=time.time() + 3600)
    with (
        closing(batch.BatchClient(settings, pause=0.01)) as client,
        Store(Ledger(ledger), claims) as store,
        batch.open_journal(ledger, name) as journal,
        closing(Budget(ledger, limits_of(settings, settings.model))) as budget,
    ):
        job = JudgingJob(requests, settings, keys_of(settings), store, check=check)
        rounds = Rounds(job, client, journal, budget, poll_seconds=0.02)
        return rounds.run(), rounds.tally


def many(count: int) -> list[JudgeRequest]:
    return [request(texts=(f"Reply {number}.", "x")) for number in range(count)]


def check_answers(judgments: list[Judgment | None], requests: list[JudgeRequest], settings: Judge) -> None:
    keys = keys_of(settings)
    for judgment, one in zip(judgments, requests, strict=True):
        assert judgment is not None
        assert judgment.opinions == parse_answer(oracle(keys.prompt(one)), "judge", ("empathy", "safety"), 2)


def stop() -> None:
    raise Interrupted("stop")


def test_batches_within_the_limits(
    tmp_path: Path, stand_in: tuple[StandIn, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, url = stand_in
    monkeypatch.setattr(batch, "MOST_REQUESTS", 7)
    settings = Judge(kind="batch", model="m", base_url=url)
    judgments, tally = ask(tmp_path, many(30), settings)
    check_answers(judgments, many(30), settings)
    assert [len(one["lines"]) for one in state.batches.values()] == [7, 7, 7, 7, 2]
    assert (tally.calls, tally.read, tally.written) == (30, 3000, 300)
    again, tally = ask(tmp_path, many(30), settings)
    assert again == judgments
    assert tally.from_ledger == 30
    assert len(state.asked) == 30


def test_files_keep_to_the_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_BYTES", 5000)
    settings = Judge(kind="batch")
    api = chat_api(settings, "m")
    payload = ChatPayload(({"role": "user", "content": "x" * 1000},), {})
    calls = [PendingCall(api.call(n, bytes([n] * 16), payload)) for n in range(20)]
    files = list(batch.files_of(calls, api))
    assert [call for part, _ in files for call in part] == calls
    assert all(len(content) <= 5000 and len(content.splitlines()) == len(part) for part, content in files)
    assert len(files) < 20


def test_a_run_that_dies_takes_its_batches_up_again(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    settings = Judge(kind="batch", model="m", base_url=url)

    with pytest.raises(Interrupted):
        ask(tmp_path, many(10), settings, stop)
    assert len(state.batches) == 1
    judgments, _ = ask(tmp_path, many(10), settings)
    check_answers(judgments, many(10), settings)
    assert len(state.batches) == 1


def test_what_expired_or_failed_is_sent_again(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    settings = Judge(kind="batch", model="m", base_url=url)
    state.expire_first = True
    state.fail_once = {keys_of(settings).key(many(20)[3]).hex()}
    judgments, _ = ask(tmp_path, many(20), settings)
    check_answers(judgments, many(20), settings)
    assert len(state.asked) == 20 + 11
    assert len({entry.key for entry in entries(tmp_path / "ledger")}) == 20


def test_answers_that_cannot_be_read_get_a_second_round(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    state.babble = True
    settings = Judge(kind="batch", model="m", base_url=url)
    judgments, tally = ask(tmp_path, many(6), settings)
    check_answers(judgments, many(6), settings)
    assert (tally.repairs, len(state.batches)) == (6, 2)


def test_wrong_key_and_too_little_money(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    settings = Judge(kind="batch", model="m", base_url=url, price={"output": 10.0}, max_usd=0.01)
    with pytest.raises(SpendingLimit, match="nothing is sent"):
        ask(tmp_path, many(6), settings)
    state.key = "other"
    with pytest.raises(InputError, match="refuses the key"):
        ask(tmp_path, many(6), settings.model_copy(update={"max_usd": None}))
    assert not state.batches


def test_a_lost_reply_makes_no_second_batch(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    state.lose_replies = 1
    settings = Judge(kind="batch", model="m", base_url=url)
    judgments, _ = ask(tmp_path, many(20), settings)
    check_answers(judgments, many(20), settings)
    assert (len(state.batches), len(state.asked)) == (1, 20)


def test_a_run_killed_while_it_made_a_batch_finds_it(
    tmp_path: Path, stand_in: tuple[StandIn, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, url = stand_in
    settings = Judge(kind="batch", model="m", base_url=url)
    create = batch.BatchClient.create

    def killed(self: batch.BatchClient, *asked: str) -> str:
        create(self, *asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(batch.BatchClient, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, many(20), settings)
    monkeypatch.setattr(batch.BatchClient, "create", create)
    judgments, _ = ask(tmp_path, many(20), settings)
    check_answers(judgments, many(20), settings)
    assert (len(state.batches), len(state.asked)) == (1, 20)


def test_batches_of_several_shards_keep_to_one_limit(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    """What one has sent counts for the other although it has cost nothing yet, and its process is gone."""
    state, url = stand_in
    more = {"kind": "batch", "model": "m", "base_url": url, "max_tokens": 100, "price": {"output": 10.0}}
    settings = Judge(**more, max_usd=0.009)  # a call may cost 0.001

    with pytest.raises(Interrupted):
        ask(tmp_path, many(6), settings, stop)
    with pytest.raises(SpendingLimit, match="nothing is sent"):
        ask(tmp_path, many(12)[6:], settings, name="t")
    assert len(state.asked) == 6
    ask(tmp_path, many(6), settings)  # six calls of ten tokens have really cost 0.0006
    ask(tmp_path, many(12)[6:], settings, name="t")
    assert len(state.asked) == 12


def test_what_one_shard_has_under_way_another_does_not_send(tmp_path: Path, stand_in: tuple[StandIn, str]) -> None:
    state, url = stand_in
    settings = Judge(kind="batch", model="m", base_url=url)

    with pytest.raises(Interrupted):
        ask(tmp_path, many(6), settings, stop)
    with pytest.raises(Interrupted):
        ask(tmp_path, many(6), settings, stop, name="t")  # it waits for the answers of the first
    assert len(state.asked) == 6
