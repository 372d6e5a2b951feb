"""What jobs used of what they asked for, from sacct's lines; a profile that fits; how many shards a job should make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from modpo_hpc.launch import efficiency
from modpo_hpc.launch.profile import load_profile
from tests.launch.fake_slurm import install
from tests.launch.test_transactions import Desk

USAGE = (
    "101|COMPLETED|100|01:30.000|||5|2026-01-02T03:00:00|2026-01-02T03:00:30|billing=1,cpu=1,gres/gpu=2,mem=2G,node=1||questions.run\n"
    "101.batch|COMPLETED|100|00:01.000|10240K||||||cpu=00:00:01|batch\n"
    "101.0|COMPLETED|99|01:29.500|512000K|||||cpu=1,mem=2G|cpu=00:01:29,gres/gpuutil=40|python\n"
    "102_[3-9]|PENDING|0|00:00:00||2G|5|2026-01-02T03:00:00|Unknown|||responses.run\n"
    "103_1|OUT_OF_MEMORY|50|00:10|||5|2026-01-02T03:00:00|2026-01-02T03:01:00|cpu=1,mem=2G||responses.run\n"
)


def test_usage_is_read_with_the_largest_memory_of_the_steps() -> None:
    whole, lost = efficiency.read_usage(USAGE)
    assert (whole.job, whole.seconds, whole.cpu_seconds, whole.gpus) == ("101", 100, 90.0, 2)
    assert whole.memory_gb == pytest.approx(512000 / 1024 / 1024)
    assert (whole.waited, whole.gpu_percent) == (30.0, 40.0)
    assert lost.state == "OUT_OF_MEMORY"


def test_a_written_profile_asks_for_what_was_used_with_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, install(monkeypatch), capsys)
    assert desk.submit("--until", "responses")[0] == 0
    job = desk.job("questions", "all")
    desk.finish("questions")
    monkeypatch.setattr(efficiency, "ask", lambda *_, **__: USAGE.replace("101", job))
    code, output = desk("efficiency", "--json", "--write-profile", tmp_path / "new.yaml")
    assert code == 0, output
    row = next(row for row in json.loads(output)["stages"] if row["stage"] == "questions")
    assert row["cpu_share"] == pytest.approx(0.9)
    assert row["gpu_share"] == pytest.approx(0.4)
    assert row["gpu_hours"] == pytest.approx(200 / 3600)
    written = yaml.safe_load((tmp_path / "new.yaml").read_text())["stages"]
    assert set(written) == {"questions"}, "what is not done keeps what it asked"
    assert written["questions"]["memory_gb"] == pytest.approx(0.65)
    assert written["questions"]["minutes"] == 4
    assert load_profile(tmp_path / "new.yaml").partition == "cpu"
    assert desk("efficiency", "--write-profile", tmp_path / "new.yaml")[0] == 2
    monkeypatch.setenv("COLUMNS", "40")
    output = desk("efficiency")[1]
    assert "wasted" in output
    assert "…" not in output, "a figure is cut"


@pytest.mark.parametrize(
    ("shards", "work", "start_up", "throttle", "pack"),
    [
        (30, 20.0, 8.0, 4, 7),  # all four slots are used, start-up is paid four times
        (1000, 20.0, 8.0, 4, 45),  # no job gets longer than a quarter of an hour
        (30, 600.0, 8.0, 4, 1),  # start-up is nothing beside the work
        (3, 20.0, 8.0, 4, 1),
    ],
)
def test_how_many_shards_a_job_should_make(shards: int, work: float, start_up: float, throttle: int, pack: int) -> None:
    assert efficiency.proposed_pack(shards, work, start_up, throttle) == pack
