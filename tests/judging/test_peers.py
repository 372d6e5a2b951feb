"""The flow of calls against servers that we did not write: ``transformers serve`` and litellm's proxy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modpo_hpc.generation.machine import free_port
from modpo_hpc.judging.chat.flow import JudgeFailed
from modpo_hpc.judging.ledger import entries
from modpo_hpc.judging.tasks import Unparsed
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.shards import read_marker
from modpo_hpc.study.judging import Judge
from tests.judging import worlds
from tests.judging.test_flow import ask, many

pytestmark = pytest.mark.slow

TRANSFORMERS = Path(sys.executable).with_name("transformers")
KEY = "sk-of-the-test"
LITELLM = os.environ.get("MODPO_LITELLM", "litellm")


def test_a_random_model_behind_transformers_serve(tmp_path: Path) -> None:
    """It ignores ``response_format`` without a word and babbles: every opinion is unparsed, with a reason, and kept."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    from tests.generation.conftest import save_tiny_model

    model = save_tiny_model(tmp_path / "model", seed=1)
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
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [LITELLM, "--config", str(folder / "config.yaml"), "--port", str(port), "--host", "127.0.0.1"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(240):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health/liveliness", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


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
    monkeypatch.setattr("modpo_hpc.judging.chat.control.FIRST_DELAY", 0.001)
    monkeypatch.setattr("modpo_hpc.judging.chat.control.LONGEST_DELAY", 0.01)
    monkeypatch.setitem(__import__("modpo_hpc.judging.chat.control").judging.chat.control.LIMITS, "rate", 6)
    with pytest.raises(JudgeFailed, match=f"x {kind}"):
        ask(tmp_path, many(30), Judge(kind="openai", model=model, base_url=proxy, window=8))
    assert not list(entries(tmp_path / "ledger"))
