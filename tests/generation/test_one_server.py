"""Answers of several policies from one server: started once, with the adapters of all, by vLLM's own arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import stage_named
from modpo_hpc.resident import keep_resident, let_go
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.generation.runs import add_adapter, run_with_adapters, study_of, write_posts

SERVER = """
import argparse, hashlib, http.server, json, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--host"), parser.add_argument("--port", type=int), parser.add_argument("--marks")
parser.add_argument("--served-model-name"), parser.add_argument("--enable-lora", action="store_true")
parser.add_argument("--max-lora-rank", type=int), parser.add_argument("--lora-modules", nargs="+", default=[])
known = parser.parse_args()
adapters = dict(one.split("=", 1) for one in known.lora_modules)
assert all(os.path.isfile(os.path.join(path, "adapter_config.json")) for path in adapters.values())
with open(known.marks, "a") as stream:
    stream.write(json.dumps({"pid": os.getpid(), "rank": known.max_lora_rank, "adapters": sorted(adapters)}) + "\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.say(200, {})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] not in (known.served_model_name, *adapters):
            return self.say(404, {"error": {"message": "no model " + asked["model"]}})
        text = asked["model"] + " " + hashlib.sha256(json.dumps(asked["messages"]).encode()).hexdigest()
        self.say(200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    def say(self, code, body):
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer((known.host, known.port), Handler).serve_forever()
"""
SHARDS = ["Base.0", "DPO_Empathy.0", "Corrected.0", "DPO_Safety.0"]
CORRECTOR = {"method": "corrector", "criteria": {"empathy": 1}, "source": "Base"}
CORRECTED = {"method": "corrected", "by": "Corrector", "source": "DPO_Safety", "criteria": ["empathy"]}


def run_of(model: Path, folder: Path, adapters: tuple[str, ...]) -> Run:
    """A run whose server writes a line to ``starts`` each time that it starts; these ``adapters`` are there."""
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    command = [sys.executable, str(folder / "server.py"), "{model}", "--served-model-name", "base"]
    command += ["--host", "{host}", "--port", "{port}", "--marks", str(folder / "starts")]
    study = study_of(
        model,
        write_posts(folder / "posts.csv", count=30),
        generation={"engine": "server", "server": {"command": command}, "answers": {"max_tokens": 6}},
    )
    study["alignment"]["policies"] |= {"Corrector": CORRECTOR, "Corrected": CORRECTED}
    return run_with_adapters(folder / "run", study, adapters)


def starts_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "starts").read_text().splitlines()]


def answered(model: Path, folder: Path, resident: bool) -> tuple[Run, list[dict[str, Any]]]:
    """The answers of SHARDS, by one Slurm job of their own; and a line for each start of a server."""
    run = run_of(model, folder, ("DPO_Empathy", "DPO_Safety", "Corrector"))
    tasks = {"run": str(run.root), "stage": "answers", "tasks": [SHARDS], "again": [], "resident": resident}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    environment = {**os.environ, "SLURM_JOB_ID": "7", "PYTHONPATH": str(REPOSITORY), "MODPO_LOGS": str(folder / "logs")}
    done = subprocess.run(
        [sys.executable, "-m", "modpo_hpc.launch.task", str(folder)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return run, starts_in(folder)


def test_an_adapter_that_comes_after_the_server_started_gets_one_of_its_own(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "late"
    monkeypatch.setenv("MODPO_LOGS", str(tmp_path / "logs"))
    run = run_of(tiny_model, folder, ("DPO_Empathy",))
    keep_resident(["DPO_Empathy.0", "DPO_Safety.0"])
    try:
        run_shard(str(run.root), "answers", "DPO_Empathy.0")
        add_adapter(run, "DPO_Safety", seed=1)
        run_shard(str(run.root), "answers", "DPO_Safety.0")
    finally:
        let_go()
    assert [start["adapters"] for start in starts_in(folder)] == [["DPO_Empathy"], ["DPO_Safety"]]
    texts = run.table("answers", ["text"], ["DPO_Safety.0"]).column("text").to_pylist()
    assert {text.split()[0] for text in texts} == {"DPO_Safety"}


def test_the_policies_of_a_job_are_answered_by_one_server(tiny_model: Path, tmp_path: Path) -> None:
    """Each by its own adapter, what is corrected by the corrector's after a draft by its source's."""
    run, starts = answered(tiny_model, tmp_path / "together", resident=True)
    assert [start["adapters"] for start in starts] == [["Corrector", "DPO_Empathy", "DPO_Safety"]]
    assert starts[0]["rank"] == 8
    assert not psutil.pid_exists(starts[0]["pid"])
    table = run.table("answers", ["policy", "question_id", "text"], SHARDS).to_pylist()
    models = {"Base": "base", "Corrected": "Corrector"}
    assert len(table) == 20 * len(SHARDS)
    assert {(row["policy"], row["text"].split()[0]) for row in table} == {
        (name, models.get(name, name)) for name in (shard.removesuffix(".0") for shard in SHARDS)
    }


@pytest.mark.slow
def test_answers_of_one_server_are_those_of_a_server_each(tiny_model: Path, tmp_path: Path) -> None:
    apart, starts = answered(tiny_model, tmp_path / "apart", resident=False)
    together, _ = answered(tiny_model, tmp_path / "together", resident=True)
    adapters = [start["adapters"] for start in starts]
    assert adapters == [[], ["DPO_Empathy"], ["DPO_Safety"], ["Corrector"], ["DPO_Safety"]]  # a draft before the third
    tables = [run.table("answers", ["policy", "question_id", "text"], SHARDS).to_pylist() for run in (apart, together)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("engine", ["server", "transformers"])
def test_answers_share_a_server_and_no_model_of_this_process(engine: str) -> None:
    study = load_study(REPOSITORY / "configs/demo.yaml", [f"generation.engine={engine}"])
    assert allocate(Profile(resident=True, pack=3), study, stage_named("answers")).resident == (engine == "server")
