"""The server engine against ``transformers serve``, which we did not write: models, adapters, a kill, a drain."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.generation.chat import ChatEngine, remote_engine
from modpo_hpc.generation.policies import link_policy_as_model, load_policy, load_tokenizer
from modpo_hpc.generation.records import GenerationRequest
from modpo_hpc.generation.server import Servers, serve
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.endpoints import LocalServers
from modpo_hpc.study.generation import RemoteModel, Sampling
from tests.alignment.world import WORDS, started_run
from tests.alignment.world import study_of as alignment_study
from tests.generation.runs import run_with_adapters, study_of, write_posts
from tests.tiny_mistral import save_tiny_mistral
from tests.waiting import PATIENCE

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SERVE = Path(sys.executable).with_name("transformers")
COMMAND = [str(SERVE), "serve", "--host", "{host}", "--port", "{port}", "--device", "cpu"]
QUESTIONS = [
    GenerationRequest(f"q{number}", f"q{number}", f"I feel {number} times as tired", number) for number in range(12)
]


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_mistral(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory):
    with serve(COMMAND, logs=tmp_path_factory.mktemp("logs"), devices=[None], ready_seconds=PATIENCE) as running:
        yield running


def engine(servers: Servers, model: Path | str, **sampling: float) -> ChatEngine:
    settings = {"temperature": 0.0, "max_tokens": 16, "batch_size": 4, **sampling}
    return ChatEngine(LocalServers(servers), str(model), Sampling(**settings))


def kill(servers: Servers) -> None:
    """Kill the servers themselves, not the guards over them."""
    for guard in servers.process_ids:
        for child in psutil.Process(guard).children():
            os.kill(child.pid, signal.SIGKILL)


def test_two_models_answer_like_the_engine_in_this_process(servers, tiny_model, other_model):
    """Greedy text over HTTP equals greedy text here: the same prompt, template and end tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modpo_hpc.generation.engine import TransformersEngine

    answers = []
    for folder in (tiny_model, other_model):
        here = TransformersEngine(
            AutoModelForCausalLM.from_pretrained(folder).eval(),
            AutoTokenizer.from_pretrained(folder),
            Sampling(temperature=0.0, max_tokens=16),
        ).complete(QUESTIONS)
        there = engine(servers, folder).complete(QUESTIONS)
        assert [one.text for one in there] == [one.text for one in here]
        assert [one.finish_reason for one in there] == [one.finish_reason for one in here]
        assert [one.id for one in there] == [one.id for one in QUESTIONS]
        answers.append([one.text for one in there])
    assert answers[0] != answers[1]


def test_a_killed_server_loses_no_answer(servers, tiny_model):
    before = servers.restarts
    undisturbed = engine(servers, tiny_model).complete(QUESTIONS)

    disturbed = engine(servers, tiny_model).complete(QUESTIONS, lambda done: kill(servers) if done == 3 else None)
    assert disturbed == undisturbed
    assert servers.restarts == before + 1


def test_two_adapters_on_one_server_answer_like_the_engine_in_this_process(servers, tiny_model, tmp_path):
    """Each is a folder by whose path the server knows it; the second is cut short by a kill."""
    from modpo_hpc.generation.engine import TransformersEngine

    run = run_with_adapters(tmp_path / "run", study_of(tiny_model, write_posts(tmp_path / "posts.csv")))
    when = {"DPO_Safety": lambda done: kill(servers) if done == 5 else None}
    before, answers = servers.restarts, [engine(servers, tiny_model).complete(QUESTIONS)]
    for policy in ("DPO_Empathy", "DPO_Safety"):
        link_policy_as_model(run, policy, tmp_path / policy)
        sampling = Sampling(temperature=0.0, max_tokens=16)
        here = TransformersEngine(load_policy(run, policy), load_tokenizer(run), sampling).complete(QUESTIONS)
        there = engine(servers, tmp_path / policy).complete(QUESTIONS, when.get(policy, lambda done: None))
        assert [(one.text, one.finish_reason) for one in there] == [(one.text, one.finish_reason) for one in here]
        answers.append(there)
    assert servers.restarts == before + 1
    assert len({tuple(one.text for one in texts) for texts in answers}) == 3


def test_an_adapter_exported_for_given_weights_answers_behind_a_server_as_the_conditioned_one_does(servers, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from modpo_hpc.alignment.conditioned import WHOLE, ConditionedModel, read_conditioned, start_from
    from modpo_hpc.alignment.soup import read_source
    from modpo_hpc.generation.engine import TransformersEngine

    base = save_tiny_mistral(tmp_path / "base", words=WORDS)
    sources = {"empathy": "DPO", "safety": "DPO_Safety"}
    one = {"method": "conditioned", "criteria": dict.fromkeys(sources, 0.5), "start": sources}
    run = started_run(tmp_path / "run", alignment_study(base, tmp_path / "posts.csv", {"learning_rate": 0.05}, One=one))
    for source in sources.values():
        run_shard(str(run.root), "policies", source)
    run_shard(str(run.root), "conditioned", "One")

    begun = [read_source(name, run.folder("policies") / name / "adapter") for name in sources.values()]
    whole = ConditionedModel(AutoModelForCausalLM.from_pretrained(base), start_from(begun), {}, 0.0).eval()
    whole.load_adapter_weights(read_conditioned(run.folder("conditioned") / "One" / WHOLE)[0])
    sampling, tokenizer = Sampling(temperature=0.0, max_tokens=16), AutoTokenizer.from_pretrained(base)
    answers = []
    for shares in ((0.6, 0.4), (0.0, 1.0)):
        adapter, served = tmp_path / f"adapter{shares[0]}", tmp_path / f"served{shares[0]}"
        weights = ",".join(f"{name}={share}" for name, share in zip(sources, shares, strict=True))
        assert main(["export", "adapter", str(run.root), "One", "--weights", weights, "--to", str(adapter)]) == 0
        served.mkdir()
        for file in (*base.iterdir(), *adapter.glob("adapter_*")):
            (served / file.name).symlink_to(file)
        whole.set_weights(shares)
        here = TransformersEngine(whole.get_base_model(), tokenizer, sampling).complete(QUESTIONS)
        there = engine(servers, served).complete(QUESTIONS)
        assert [(one.text, one.finish_reason) for one in there] == [(one.text, one.finish_reason) for one in here]
        answers.append([one.text for one in there])
    assert answers[0] != answers[1]


def test_a_server_is_drained_before_it_goes(tiny_model, tmp_path):
    """The block ends while requests are out: they are answered, and then nothing of the server is left."""
    requests, answered, out = QUESTIONS[:4], [], threading.Event()

    class Watched(LocalServers):
        async def acquire(self):
            leased = await super().acquire()
            if sum(one.in_use for one in self.servers._servers) == len(requests):
                out.set()
            return leased

    with serve(COMMAND, logs=tmp_path / "logs", devices=[None], ready_seconds=PATIENCE) as running:
        asking = ChatEngine(Watched(running), str(tiny_model), Sampling(temperature=0.0, max_tokens=200))
        thread = threading.Thread(target=lambda: answered.extend(asking.complete(requests)))
        thread.start()
        assert out.wait(PATIENCE)
        processes = [child for guard in running.process_ids for child in psutil.Process(guard).children(recursive=True)]
        assert not answered
    assert not psutil.wait_procs(processes, timeout=PATIENCE)[1]
    thread.join(PATIENCE)
    assert [one.id for one in answered] == [one.id for one in requests]
    assert running.restarts == 0


def test_what_the_server_refuses_is_said_at_once(servers, tiny_model):
    """``transformers serve`` refuses fields that it does not know: no retry, and its own words."""
    refusing = engine(servers, tiny_model)
    refusing.length_parameter = "most_tokens"
    with pytest.raises(ModpoError, match="most_tokens"):
        refusing.complete(QUESTIONS[:1])


def test_a_shard_through_the_server_engine(tiny_model, tmp_path):
    """The stage itself: the study's command, started for the shard and gone after it."""
    settings = {"command": COMMAND, "base_name": "{model}", "adapter_name": "{adapter_model}", "adapter_arguments": []}
    study = study_of(
        tiny_model,
        write_posts(tmp_path / "posts.csv", count=30),
        generation={
            "engine": "server",
            "server": {**settings, "ready_minutes": 2},
            "responses": {"max_tokens": 6, "batch_size": 4},
            "answers": {"max_tokens": 6, "batch_size": 4},
        },
        shards={"responses": 1},
    )
    run = run_with_adapters(tmp_path / "run", study)
    run_shard(str(run.root), "answers", "DPO_Safety.0")
    assert len(run.table("answers", shard_ids=["DPO_Safety.0"])) == 20
    run_shard(str(run.root), "responses", "0")
    rows = run.table("responses").to_pylist()
    assert len(rows) == 10 * 5
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert list((run.logs / "responses" / "0").glob("server0.log"))


def test_a_remote_endpoint_needs_its_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (
        pytest.raises(InputError, match="OPENAI_API_KEY"),
        remote_engine("GPT", RemoteModel(model="x"), Sampling(), Path("ledger")),
    ):
        pass
