"""The stages responses and answers, through the entry that every launcher uses."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modpo_hpc.errors import Interrupted
from modpo_hpc.generation import engine as engine_module
from modpo_hpc.generation.policies import load_policy
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from tests.generation.runs import run_with_adapters, started_run, study_of, write_posts
from tests.waiting import TRIES, killed_when


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_posts(tmp_path_factory.mktemp("posts") / "posts.csv")


def make_all(run: Run, stage: str) -> dict[str, dict]:
    for shard in run.shard_ids(stage):
        run_shard(str(run.root), stage, shard)
    return {row["response_id"]: row for row in run.table(stage).to_pylist()}


@pytest.fixture(scope="module")
def whole(tiny_model, posts, tmp_path_factory) -> dict[str, dict]:
    """All responses, made in two shards."""
    run = started_run(tmp_path_factory.mktemp("whole") / "run", study_of(tiny_model, posts, shards={"responses": 2}))
    return make_all(run, "responses")


def test_every_question_gets_its_responses(whole):
    assert len(whole) == 40 * 5
    assert {row["finish_reason"] for row in whole.values()} <= {"stop", "length"}
    for identity, row in whole.items():
        assert identity.startswith(row["question_id"] + ".r")
        assert ("truncated" in row["flags"]) == (row["finish_reason"] == "length")
        assert ("empty" in row["flags"]) == (row["text"].strip() == "")
    assert len({row["seed"] for row in whole.values()}) == len(whole)
    by_question: dict[str, Any] = {}
    for row in whole.values():
        by_question.setdefault(row["question_id"], set()).add(row["text"])
    assert max(len(texts) for texts in by_question.values()) > 1


def test_the_number_of_shards_changes_nothing(tiny_model, posts, tmp_path, whole):
    for blocks in (1, 5):
        run = started_run(tmp_path / f"run{blocks}", study_of(tiny_model, posts, shards={"responses": blocks}))
        assert make_all(run, "responses") == whole


def test_a_stopped_shard_resumes_and_gives_the_same_bytes(tiny_model, posts, tmp_path, monkeypatch):
    study = study_of(tiny_model, posts, shards={"responses": 1})
    calm, stopped = (started_run(tmp_path / name, study) for name in ("calm", "stopped"))
    run_shard(str(calm.root), "responses", "0")

    complete = engine_module.TransformersEngine.complete
    groups_made = []

    def stop_after_two(self, requests, *told):
        made = complete(self, requests, *told)
        groups_made.append(len(requests))
        if len(groups_made) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr(engine_module.TransformersEngine, "complete", stop_after_two)
    with pytest.raises(Interrupted):
        run_shard(str(stopped.root), "responses", "0")
    assert len(groups_made) == 2
    run_shard(str(stopped.root), "responses", "0")
    assert sum(groups_made) == 200, "a saved group is not made again"
    hashes = [hashlib.sha256(run.table_path("responses", "0").read_bytes()).hexdigest() for run in (calm, stopped)]
    assert hashes[0] == hashes[1]


def test_a_killed_shard_gives_the_bytes_of_an_undisturbed_one(tiny_model, posts, tmp_path):
    study = study_of(
        tiny_model,
        posts,
        shards={"responses": 1},
        generation={"responses": {"max_tokens": 60, "batch_size": 8}, "answers": {"max_tokens": 12}},
    )

    def killed_at(run: Run, saved: int) -> bool:
        command = [sys.executable, "jobs/generate.py", str(run.root), "--shard", "0"]
        journal = run.folder("responses") / ".work/0/completions.jsonl"
        written = lambda: journal.exists() and journal.read_bytes().count(b"\n") >= saved  # noqa: E731
        return killed_when(subprocess.Popen(command), written)

    calm = started_run(tmp_path / "calm", study)
    run_shard(str(calm.root), "responses", "0")
    runs = (started_run(tmp_path / f"killed-{number}", study) for number in range(TRIES))
    killed = next(run for run in runs if killed_at(run, 1) and killed_at(run, 3))
    run_shard(str(killed.root), "responses", "0")
    left, right = (run.table_path("responses", "0").read_bytes() for run in (calm, killed))
    assert left == right


@pytest.fixture(scope="module")
def adapted(tiny_model, posts, tmp_path_factory) -> Run:
    return run_with_adapters(tmp_path_factory.mktemp("adapted") / "run", study_of(tiny_model, posts))


def test_policies_answer_the_same_questions_differently(adapted):
    texts: dict[str, Any] = {}
    for shard in adapted.shard_ids("answers"):
        run_shard(str(adapted.root), "answers", shard)
    for row in adapted.table("answers").to_pylist():
        texts.setdefault(row["policy"], {})[row["question_id"]] = row["text"]
    assert set(texts) == {"Base", "DPO_Empathy", "DPO_Safety"}
    assert texts["Base"].keys() == texts["DPO_Empathy"].keys() == texts["DPO_Safety"].keys()
    assert len(texts["Base"]) == 20
    assert texts["DPO_Empathy"] != texts["DPO_Safety"]


def test_an_adapter_answers_in_the_precision_it_was_trained_in(adapted, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(2, 30)[None]
    attached = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), str(adapted.folder("policies") / "DPO_Empathy/adapter")
    ).eval()
    loaded = load_policy(adapted, "DPO_Empathy")
    with torch.no_grad():
        difference = (attached(ids).logits - loaded(ids).logits).abs().max()
    assert loaded.dtype == torch.float32
    assert difference < 1e-3


def test_bfloat16_keeps_the_adapter_apart(adapted, tmp_path, tiny_model, posts):
    study = adapted.study.model_copy(update={"models": adapted.study.models.model_copy(update={"dtype": "bfloat16"})})
    loaded = load_policy(Run(adapted.root, study, {}), "DPO_Empathy")
    assert {str(one.dtype) for one in loaded.parameters()} <= {"torch.bfloat16", "torch.float32"}
    assert any("lora_A" in name for name, _ in loaded.named_parameters())


def test_the_marker_counts_what_was_cut_off(adapted):
    run_shard(str(adapted.root), "answers", "Base.0")
    marker = json.loads((adapted.folder("answers") / "markers/Base.0.json").read_text())
    rows = pq.read_table(adapted.table_path("answers", "Base.0")).to_pylist()
    assert marker["metrics"]["truncated"] == sum(row["finish_reason"] == "length" for row in rows)
