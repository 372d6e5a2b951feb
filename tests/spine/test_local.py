"""The local executor and the one entry, with recipes that a test can kill, starve and break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.waiting import PATIENCE, wait_until

HEAD = "import os, time, pathlib\nimport pyarrow as pa\nS = pa.schema([('n', pa.int64())])\n"
QUICK = HEAD + "def {verb}(run, shard):\n    shard.write_table([{{'n': 1}}], S)\n"
HELD = HEAD + (
    "def generate(run, shard):\n"
    "    with shard.journal() as journal:\n"
    "        for n in range(len(journal.rows), 20):\n"
    "            while n == 5 and not pathlib.Path(os.environ['MENDED']).exists():\n"
    "                shard.check()\n"
    "                time.sleep(0.01)\n"
    "            journal.append([{'n': n}])\n"
    "            shard.progress(n + 1, 20, 'rows', loss=0.5)\n"
    "        shard.write_table(journal.rows, S)\n"
)
BROKEN = HEAD + (
    "def generate(run, shard):\n"
    "    if shard.id == '1' and not pathlib.Path(os.environ['MENDED']).exists():\n"
    "        raise ValueError('this shard is broken')\n"
    "    if shard.id == '2' and not pathlib.Path(os.environ['MENDED']).exists():\n"
    "        os.kill(os.getpid(), 9)\n"
    "    shard.write_table([{'n': int(shard.id)}], S)\n"
)


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "jobs"
    folder.mkdir()
    for verb in ("prepare", "personas", "teach"):
        (folder / f"{verb}.py").write_text(QUICK.format(verb=verb))
    (folder / "rank.py").write_text(QUICK.format(verb="rank"))
    monkeypatch.setenv("MODPO_JOBS", str(folder))
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    return folder


def test_a_failed_shard_stops_what_needs_it_and_nothing_else(modpo, recipes: Path, tmp_path: Path) -> None:
    (recipes / "generate.py").write_text(BROKEN)
    run = tmp_path / "run"
    result = modpo("run", "configs/demo.yaml", "--run", run, "--until", "rankings")
    assert result.returncode == 1
    assert "this shard is broken" in result.stderr
    assert "memory" in result.stderr
    assert "Not started, since they need these: rankings" in result.stderr
    status = json.loads(modpo("status", run, "--json").stdout)
    counts = {stage["stage"]: stage["done"] for stage in status["stages"]}
    assert (counts["personas"], counts["responses"], counts["rankings"]) == (1, 2, 0)
    (tmp_path / "mended").touch()
    again = modpo("rerun", run, "responses")
    assert again.returncode == 0, again.stderr
    assert "responses 1 done" in again.stdout
    assert "responses 0" not in again.stdout
    assert modpo("run", "configs/demo.yaml", "--run", run, "--until", "rankings").returncode == 0


def test_what_most_waits_for_goes_first(recipes: Path, tmp_path: Path, modpo) -> None:
    """Behind the base model wait responses and rankings, behind personas rankings, behind the reward model nothing."""
    (recipes / "generate.py").write_text(QUICK.format(verb="generate"))
    run = tmp_path / "run"
    assert modpo("run", "configs/demo.yaml", "--run", run, "--until", "rankings", "--jobs", "1").returncode == 0
    started = {
        one: Run.open(run).done(one[0])[one[1]].started
        for one in (("questions", "all"), ("models", "base"), ("personas", "all"), ("models", "reward"))
    }
    assert sorted(started, key=lambda one: started[one]) == list(started)
    loaded = QUICK.format(verb="rank").replace("'n': 1", "'n': int('torch' in __import__('sys').modules)")
    (recipes / "rank.py").write_text(loaded)
    assert modpo("run", "configs/demo.yaml", "--run", run, "--until", "rankings").returncode == 0
    assert set(Run.open(run).table("rankings")["n"].to_pylist()) == {0}, "no shard that is left waits for torch"


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_resumes_inside_its_shards(recipes: Path, tmp_path: Path, modpo, how) -> None:
    (recipes / "generate.py").write_text(HELD)
    run = tmp_path / "run"
    words = ["run", "configs/demo.yaml", "--run", str(run), "--until", "responses"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-m", "modpo_hpc", *words], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL
    )
    journal = run / "responses" / ".work" / "0" / "rows.jsonl"
    wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") == 5)
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    process.send_signal(how)
    process.wait(PATIENCE)
    wait_until(lambda: not any(map(psutil.Process.is_running, started)), lambda: "a shard outlives its executor")
    assert journal.read_bytes().count(b"\n") == 5
    assert not (run / "responses" / "0.parquet").exists()
    (tmp_path / "mended").touch()
    finished = modpo(*words)
    assert finished.returncode == 0, finished.stderr
    undisturbed = tmp_path / "undisturbed"
    assert modpo(*(str(undisturbed) if word == str(run) else word for word in words)).returncode == 0
    for table in undisturbed.rglob("*.parquet"):
        assert (run / table.relative_to(undisturbed)).read_bytes() == table.read_bytes()
    assert not any((run / "responses" / ".work").iterdir())


def test_a_shard_counts_what_its_own_processes_took(recipes: Path, tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    started = f"    import subprocess, sys\n    subprocess.run([sys.executable, '-c', {busy!r}], check=True)\n"
    head, _, body = QUICK.format(verb="prepare").partition("(run, shard):\n")
    (recipes / "prepare.py").write_text(f"{head}(run, shard):\n{started}{body}")
    run = Run.create(tmp_path / "run", load_study("configs/demo.yaml"))
    run_shard(str(run.root), "questions", "all")
    assert run.done("questions")["all"].metrics["cpu_seconds"] >= 0.5


def test_a_job_script_is_the_same_entry(recipes: Path, tmp_path: Path, modpo) -> None:
    run = tmp_path / "run"
    assert modpo("run", "configs/demo.yaml", "--run", run, "--until", "questions").returncode == 0
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def job(script: str, shard: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"jobs/{script}.py", str(run), "--shard", shard]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False)

    assert "already done" in job("prepare", "all").stdout
    unknown = job("prepare", "9")
    assert unknown.returncode == 2
    assert "no such shard" in unknown.stderr


def test_a_shard_made_again_differently_makes_what_rests_on_it_stale(recipes: Path, tmp_path: Path, modpo) -> None:
    (recipes / "generate.py").write_text(QUICK.format(verb="generate"))
    run = tmp_path / "run"
    words = ("run", "configs/demo.yaml", "--run", run, "--until", "rankings")
    assert modpo(*words).returncode == 0
    (recipes / "generate.py").write_text(QUICK.format(verb="generate").replace("'n': 1", "'n': 2"))
    assert modpo("rerun", run, "responses", "0").returncode == 0
    status = json.loads(modpo("status", run, "--json").stdout)
    rankings = next(stage for stage in status["stages"] if stage["stage"] == "rankings")
    assert (rankings["done"], rankings["stale"]) == (0, 4)
    second = modpo(*words)
    assert second.returncode == 0
    assert second.stdout.count(" done ") == 3 + 4, "the other responses, by the changed recipe, and all rankings"


def test_a_stage_needs_what_comes_before(recipes: Path, tmp_path: Path, modpo) -> None:
    result = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--only", "rankings")
    assert result.returncode == 3
    assert "questions" in result.stderr
    unknown = modpo("run", "configs/demo.yaml", "--run", tmp_path / "other", "--until", "verdict")
    assert unknown.returncode == 2
    assert "verdicts" in unknown.stderr
    assert not (tmp_path / "other").exists()
