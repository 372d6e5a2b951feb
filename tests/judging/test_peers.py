"""The flow of calls against servers that we did not write: transformers serve, llama-cpp-python, litellm's proxy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modpo_hpc.core.markers import read_marker
from modpo_hpc.generation.machine import free_port
from modpo_hpc.judging.tasks import Unparsed
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.llm.client import EndpointFailed
from modpo_hpc.llm.ledger import entries
from modpo_hpc.study.judging import Judge
from tests.judging import worlds
from tests.judging.servers import is_up
from tests.judging.test_flow import ask, many
from tests.waiting import PATIENCE, wait_until

TRANSFORMERS = Path(sys.executable).with_name("transformers")
KEY = "sk-of-the-test"
LLAMA_CPP = os.environ.get("MODPO_LLAMA_CPP", sys.executable)
LITELLM = os.environ.get("MODPO_LITELLM", "litellm")


def test_a_random_model_behind_transformers_serve(tmp_path: Path) -> None:
    """It ignores ``response_format`` without a word and babbles: every opinion is unparsed, with a reason, and kept."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    from tests.tiny_mistral import save_tiny_mistral

    model = save_tiny_mistral(tmp_path / "model", seed=1)
    command = [str(TRANSFORMERS), "serve", "--host", "{host}", "--port", "{port}", "--device", "cpu"]
    server = {"command": command, "name": str(model), "ready_minutes": 2}
    run = worlds.world(
        tmp_path / "run", test=4, personas=8, kind="server", model=str(model), server=server, max_tokens=8, window=4
    )
    shard = "one.Base.DPO.0"
    run_shard(str(run.root), "verdicts", shard)
    verdicts = run.table("verdicts", shard_ids=[shard]).to_pandas()
    assert (verdicts["winner"] == "unparsed").all()
    assert verdicts["reason"].notna().all()
    marker = read_marker(run.folder("verdicts"), shard)
    assert marker is not None
    assert marker.metrics["repairs"] == 4 * 4
    kept = list(entries(run.root / "ledger"))
    assert len(kept) == 2 * 4 * 4
    assert all(entry.answer is not None and entry.usage.written > 0 for entry in kept)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama-cpp-python with a tiny random model: it holds to a schema, and to nothing else."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if subprocess.run([LLAMA_CPP, "-c", "import llama_cpp.server, gguf"], env=plain, capture_output=True).returncode:
        pytest.skip(
            "llama-cpp-python is not installed: pip install 'llama-cpp-python[server]' gguf in a venv, "
            "MODPO_LLAMA_CPP=VENV/bin/python"
        )
    folder, port = tmp_path_factory.mktemp("llama_cpp"), free_port()
    model = folder / "tiny.gguf"
    subprocess.run([LLAMA_CPP, str(Path(__file__).with_name("tiny_gguf.py")), str(model)], env=plain, check=True)
    settings = {"model": model, "host": "127.0.0.1", "port": port, "n_ctx": 8192, "n_threads": 1}
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    with served([LLAMA_CPP, "-m", "llama_cpp.server", *options], plain, folder / "log", port, "v1/models") as url:
        yield url


def test_answers_that_fit_the_schema_and_are_no_permutation(tmp_path: Path, llama_cpp: str) -> None:
    """It refuses the schema in OpenAI's form, as a server error, and takes it in its own."""
    replies = tuple(f"Reply {number}." for number in range(5))
    requests = [worlds.request("rank", replies, persona=f"p{number}") for number in range(12)]
    judge = Judge(kind="openai", model="m", base_url=llama_cpp, max_tokens=400, temperature=1.0, window=4)
    judgments, tally = ask(tmp_path, requests, judge)
    kept = list(entries(tmp_path / "ledger"))
    for entry in kept:
        answer = json.loads(entry.answer or "")
        assert set(answer) == {"empathy", "safety"}
        assert all(len(one) == 5 and set(one) <= {1, 2, 3, 4, 5} for one in answer.values())
    opinions = [opinion for one in judgments if one for opinion in one.opinions]
    assert len(opinions) == 24
    unparsed = {opinion.reason for opinion in opinions if isinstance(opinion, Unparsed)}
    assert unparsed == {"not a permutation of the numbers"}
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in opinions if not isinstance(one, Unparsed))  # type: ignore[call-overload]
    assert len(kept) == 12 + tally.repairs
    assert tally.repairs >= 8


@contextmanager
def served(command: list[str], environment: dict[str, str], log: Path, port: int, health: str) -> Iterator[str]:
    """The address of a server that runs while the block does."""
    with open(log, "w") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        wait_until(lambda: is_up(process, f"http://127.0.0.1:{port}/{health}", log))
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """litellm's proxy with models that answer, that are down, too busy, or too small."""
    import shutil

    if shutil.which(LITELLM) is None:
        pytest.skip("litellm is not installed: pip install 'litellm[proxy]' in a venv, MODPO_LITELLM=VENV/bin/litellm")
    folder = tmp_path_factory.mktemp("litellm")
    answers = {
        "well": '\'{"empathy": "A", "safety": "tie"}\'',
        "down": "litellm.InternalServerError",
        "busy": "litellm.RateLimitError",
        "small": "litellm.ContextWindowExceededError",
    }
    models = "".join(
        f"  - model_name: {name}\n    litellm_params: {{model: openai/{name}, api_key: x, mock_response: {text}}}\n"
        for name, text in answers.items()
    )
    (folder / "config.yaml").write_text(f"model_list:\n{models}router_settings: {{num_retries: 0}}\n")
    port = free_port()
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*", "LITELLM_MASTER_KEY": KEY}
    environment.pop("PYTHONPATH", None)
    command = [LITELLM, "--config", str(folder / "config.yaml"), "--port", str(port), "--host", "127.0.0.1"]
    with served(command, environment, folder / "log", port, "health/liveliness") as url:
        yield url


def test_litellm_answers(tmp_path: Path, proxy: str) -> None:
    judgments, tally = ask(tmp_path, many(30), Judge(kind="openai", model="well", base_url=proxy))
    assert {one.opinions for one in judgments if one} == {("A", "tie")}
    assert tally.calls == 30


def test_litellm_too_small(tmp_path: Path, proxy: str) -> None:
    judgments, _ = ask(tmp_path, many(5), Judge(kind="openai", model="small", base_url=proxy))
    for one in judgments:
        assert one is not None
        assert isinstance(one.opinions[0], Unparsed)
        assert "too long for the model" in one.opinions[0].reason


@pytest.mark.parametrize(("model", "kind"), [("down", "server"), ("busy", "rate")])
def test_litellm_down_or_busy(
    tmp_path: Path, proxy: str, monkeypatch: pytest.MonkeyPatch, model: str, kind: str
) -> None:
    monkeypatch.setattr("modpo_hpc.llm.retry.FIRST_DELAY", 0.01)
    with pytest.raises(EndpointFailed, match=f"x {kind}"):
        ask(tmp_path, many(30), Judge(kind="openai", model=model, base_url=proxy, window=8, outage_minutes=0.03))
    assert not list(entries(tmp_path / "ledger"))
