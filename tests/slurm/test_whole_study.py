"""A whole study handed to a real Slurm by ``modpo submit`` alone, beside the same study run on this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.slurm.conftest import Cluster
from tests.waiting import PATIENCE

POLICIES = ("Base", "SFT_Empathy", "DPO_Empathy", "DPO_Safety", "DPO_Soup", "MODPO_Empathy")


def smaller_study() -> dict[str, Any]:
    """Every stage of the smallest demo with fewer criteria, policies and pairs of them, and models hardly taught."""
    study = load_study(REPOSITORY / "configs" / "demo-smallest.yaml").model_dump(mode="json")
    study["models"]["teach_steps"] = 8
    study["criteria"]["rank"] = ["empathy", "safety"]
    study["alignment"]["policies"] = {name: study["alignment"]["policies"][name] for name in POLICIES}
    study["judging"]["phases"] = {
        "phase1": {"policies": ["Base", "MODPO_Empathy"], "criteria": ["empathy", "safety"]},
        "phase2": {"policies": ["DPO_Empathy", "DPO_Soup"], "criteria": ["overall"]},
    }
    return study


def tables(run: Path) -> dict[str, str]:
    """Every table of a run and the hash of its bytes."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in run.rglob("*.parquet")
    }


def through_slurm_and_here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *words: str) -> Path:
    """Hand the smaller study to Slurm and run it here beside it; the folder of the local run, when both have ended."""
    monkeypatch.delenv("MODPO_JOBS")  # the real recipes
    cluster.study = cluster.folder / "smaller.yaml"
    cluster.study.write_text(yaml.safe_dump(smaller_study()))
    cluster.profile({"partition": "cpu", "limits": {"throttle": 4}})
    cluster.submit(*words)
    here = cluster.folder / "here"
    local = subprocess.run(
        [sys.executable, "-m", "modpo_hpc", "run", str(cluster.study), "--run", str(here), "--jobs", "1", *words],
        env={**os.environ, "MODPO_LOGS": str(cluster.folder / "logs-here")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert local.returncode == 0, local.stderr
    cluster.wait_until_idle()
    assert tables(cluster.run_dir) == tables(here), cluster("triage", cluster.run_dir)[1]
    return here


def test_the_first_stages_come_out_of_slurm_byte_for_byte_as_of_this_machine(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(tables(through_slurm_and_here(cluster, monkeypatch, "--until", "personas"))) == 2


@pytest.mark.slow
def test_a_study_comes_out_of_slurm_byte_for_byte_as_of_this_machine(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = through_slurm_and_here(cluster, monkeypatch)
    code, output = cluster("status", cluster.run_dir)
    assert code == 0, output + cluster("triage", cluster.run_dir)[1]
    assert len(tables(here)) > 20
    assert (cluster.run_dir / "report" / "report.html").stat().st_size > 10_000
    assert "MODPO_Empathy" in cluster("results", cluster.run_dir)[1]
    assert cluster("pack", "--verify", cluster.run_dir)[0] == 0
