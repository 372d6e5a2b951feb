"""Engines under bad conditions: a device without memory, an endpoint that refuses, stalls and filters."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from modpo_hpc.errors import ModpoError
from modpo_hpc.generation.chat import ChatEngine, completion_of, remote_engine
from modpo_hpc.generation.engine import TransformersEngine
from modpo_hpc.generation.groups import complete_groups
from modpo_hpc.generation.records import GenerationRequest, flags_of
from modpo_hpc.llm.budget import SpendingLimit
from modpo_hpc.llm.endpoints import FixedAddress
from modpo_hpc.llm.ledger import Usage
from modpo_hpc.llm.outcomes import Answered
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.study import load_study
from modpo_hpc.study.endpoint import Endpoint
from modpo_hpc.study.generation import RemoteModel, Sampling
from tests.conftest import REPOSITORY
from tests.waiting import PATIENCE

REQUESTS = [
    GenerationRequest(f"q{number}", f"q{number}", f"question {number}" * (number + 1), number) for number in range(9)
]


class SmallDevice(torch.nn.Module):
    """A model on a device that holds ``rows`` rows and no more."""

    def __init__(self, model: Any, rows: int) -> None:
        super().__init__()
        self.inner, self.rows, self.largest = model, rows, 0
        self.generation_config, self.device = model.generation_config, model.device

    def forward(self, input_ids: torch.Tensor, **others: Any) -> Any:
        if len(input_ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory (a test's own)")
        self.largest = max(self.largest, len(input_ids))
        return self.inner(input_ids=input_ids, **others)


def test_without_memory_it_goes_on_with_fewer_rows_and_the_same_texts(tiny):
    model, tokenizer = tiny
    sampling = Sampling(temperature=0.8, max_tokens=10, batch_size=8)
    hoped = TransformersEngine(model, tokenizer, sampling).complete(REQUESTS)
    small = SmallDevice(model, rows=3)
    engine = TransformersEngine(small, tokenizer, sampling)
    assert engine.complete(REQUESTS) == hoped
    assert (engine.rows_at_once, small.largest) == (2, 2)
    with pytest.raises(torch.OutOfMemoryError):
        TransformersEngine(SmallDevice(model, rows=0), tokenizer, sampling).complete(REQUESTS)


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """A chat endpoint that answers as its list ``script`` says, then well; it keeps what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
            status, headers, answer = server.script.pop(0) if server.script else (200, {}, good())  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.script, server.asked = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def good(reason: str = "stop", text: str = " fine ") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": reason}],
        "usage": {"completion_tokens": 3},
    }


def url_of(endpoint: Any) -> str:
    return f"http://127.0.0.1:{endpoint.server_port}/v1"


def engine(endpoint: Any, **settings: Any) -> ChatEngine:
    return ChatEngine(FixedAddress(url_of(endpoint)), "m", Sampling(), Endpoint(api_key_env="", **settings))


def test_an_engine_with_a_queue_never_waits_for_the_end_of_a_group(tmp_path):
    """The first text of all is answered last, yet every other group is asked for, and saved as soon as it is whole."""
    groups = [REQUESTS[at : at + 3] for at in range(0, 9, 3)]
    saved, others = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if body["messages"][-1]["content"].endswith(REQUESTS[0].question):
                assert others.wait(PATIENCE)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(good()).encode())

        def log_message(self, *_: object) -> None:
            pass

    def note(progress: dict[str, Any]) -> None:
        journal = tmp_path / "completions.jsonl"
        saved.append(len(journal.read_text().splitlines()) if journal.exists() else 0)
        if progress["done"] == len(REQUESTS) - 1:
            others.set()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run = Run.create(tmp_path / "run", load_study(REPOSITORY / "configs" / "demo.yaml"))
    shard = Shard(run, stage_named("responses"), "0", tmp_path, on_progress=note)
    try:
        made = complete_groups(shard, groups, lambda: nullcontext(engine(server)))
    finally:
        server.shutdown()
        server.server_close()
    assert [one.id for one, _ in made] == sorted(one.id for one in REQUESTS)
    assert saved[-3:] == [2, 3, 3]


def test_passing_failures_are_waited_out(endpoint, monkeypatch):
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.01)
    endpoint.script = [(429, {"retry-after": "0.05"}, {}), (503, {}, {}), (200, {}, good("length"))]
    [made] = engine(endpoint).complete(REQUESTS[:1])
    assert (made.text, made.finish_reason, made.tokens) == ("fine", "length", 3)
    assert len(endpoint.asked) == 3


def test_a_lasting_failure_ends_with_the_endpoints_words(endpoint, monkeypatch):
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.05)
    endpoint.script = [(500, {}, {"error": "melted"})] * 99
    with pytest.raises(ModpoError, match=r"the endpoint is failing.*x server"):
        engine(endpoint, outage_minutes=0.02).complete(REQUESTS[:1])
    endpoint.script, endpoint.asked[:] = [(401, {}, {"error": "bad key"})], []
    with pytest.raises(ModpoError, match="bad key"):
        engine(endpoint).complete(REQUESTS[:1])
    assert len(endpoint.asked) == 1


def test_a_remote_model_gets_the_prompt_that_every_policy_gets_and_is_paid_once(endpoint, monkeypatch, tmp_path):
    from modpo_hpc.prompts import answering_messages

    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = RemoteModel(model="gpt-4o-2024-11-20", base_url=url_of(endpoint))
    sampling = Sampling(temperature=0.8, max_tokens=512, batch_size=3)
    for _ in range(2):
        with remote_engine("GPT4o", settings, sampling, tmp_path) as remote:
            made = remote.complete(REQUESTS)
        assert [one.id for one in made] == [one.id for one in REQUESTS]
    assert len(endpoint.asked) == len(REQUESTS)
    path, headers, body = endpoint.asked[0]
    assert path == "/v1/chat/completions"
    assert {name.lower(): text for name, text in headers.items()}["authorization"] == "Bearer sk-secret"
    question = next(one for one in REQUESTS if answering_messages(one.question) == body["messages"])
    assert body["seed"] == question.seed
    assert (body["temperature"], body["max_completion_tokens"]) == (0.8, 512)


def test_answers_of_a_paid_model_stop_at_the_limit_of_dollars(endpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings = RemoteModel(model="m", base_url=url_of(endpoint), price={"output": 1000.0}, max_usd=1.1)
    sampling = Sampling(max_tokens=500, batch_size=1)  # half a dollar at most each
    with pytest.raises(SpendingLimit), remote_engine("GPT4o", settings, sampling, tmp_path) as remote:
        remote.complete(REQUESTS)
    assert len(endpoint.asked) == 2  # they tell no usage that can be true, so all that was reserved is spent


@pytest.mark.parametrize("finish", [None, "tool_calls"])
def test_no_text_without_a_reason_for_its_end(finish):
    with pytest.raises(ModpoError, match="q0"):
        completion_of("q0", Answered("x", finish, Usage(), "m"))


@pytest.mark.parametrize("answer", [{}, {"choices": []}])
def test_no_text_from_what_is_no_completion(endpoint, monkeypatch, answer):
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.01)
    endpoint.script = [(200, {}, answer)] * 99
    with pytest.raises(ModpoError, match="x malformed"):
        engine(endpoint, outage_minutes=0.02).complete(REQUESTS[:1])


def test_what_an_api_holds_back_is_flagged(endpoint):
    endpoint.script = [(200, {}, good("content_filter", text=None))]  # type: ignore[arg-type]
    [made] = engine(endpoint).complete(REQUESTS[:1])
    assert flags_of(made.text, made.finish_reason) == ["empty", "filtered"]


def test_a_loop_is_told_from_prose():
    prose = (
        "It sounds like the weeks since the move have asked a great deal of you, and that the evenings are hardest. "
        "What would a slightly better evening look like, and who could be part of it? You need not decide today."
    )
    assert flags_of(prose, "stop") == []
    assert flags_of("I hear you. " * 40, "length") == ["truncated", "repetitive"]
