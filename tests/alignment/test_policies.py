"""Policies through the one entry: every method trains, resumes to the same bytes, and refuses what it cannot do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from tests.alignment.world import started_run, study_of
from tests.conftest import REPOSITORY
from tests.waiting import TRIES, killed_when

pytestmark = pytest.mark.xdist_group("policies")
METHODS = ("SFT", "DPO", "MODPO", "Joint")


def content(folder: Path) -> dict[str, str]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Run:
    """A run in which every policy is trained."""
    base = tmp_path_factory.mktemp("runs")
    os.environ["MODPO_LOGS"] = str(base / "logs")
    run = started_run(base / "run", study_of(model_folder, base / "posts.csv"))
    for policy in run.shard_ids("policies"):
        run_shard(str(run.root), "policies", policy)
    for soup in run.shard_ids("soups"):
        run_shard(str(run.root), "soups", soup)
    return run


@pytest.mark.parametrize("policy", METHODS)
def test_training_lowers_the_loss_and_peft_loads_the_adapter(finished: Run, model_folder: Path, policy: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = finished.folder("policies") / policy
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    adapted = PeftModel.from_pretrained(base, folder / "adapter")
    moved = [one.abs().max() for name, one in adapted.named_parameters() if "lora_B" in name]
    assert moved
    assert all(one > 0 for one in moved)


def test_the_first_loss_of_dpo_is_log_2(finished: Run) -> None:
    first = json.loads((finished.folder("policies") / "DPO" / "log.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)


def test_every_policy_holds_out_the_same_questions(finished: Run) -> None:
    counts = {
        policy: json.loads((finished.folder("policies") / policy / "summary.json").read_text())["examples"]
        for policy in METHODS
    }
    assert counts["DPO"] == {"training": 29, "held_out": 3, "dropped": 0}
    assert len({tuple(one.values()) for one in counts.values()}) == 1


def test_the_reference_is_scored_once_for_all_policies(finished: Run) -> None:
    files = list((finished.root / "cache" / "reference").rglob("*.json"))
    keys = [key for file in files for key in json.loads(file.read_text())]
    assert len(keys) == len(set(keys)) == 32


def test_another_run_of_the_same_study_gives_the_same_bytes(finished: Run, tmp_path: Path, model_folder: Path) -> None:
    again = started_run(tmp_path / "run", study_of(model_folder, Path(finished.study.data.file or "")))
    run_shard(str(again.root), "policies", "MODPO")
    assert content(again.folder("policies") / "MODPO") == content(finished.folder("policies") / "MODPO")


@pytest.mark.parametrize("policy", ["MODPO", "Joint"])
def test_killed_at_any_instant_and_resumed_it_ends_the_same(
    finished: Run, tmp_path: Path, model_folder: Path, policy: str
) -> None:
    """Dropout, warmup and evaluation are in it; the study differs from ``finished`` so the baseline is made here."""
    settings = {"lora_dropout": 0.2, "checkpoint_seconds": 0, "evaluations": 2, "epochs": 3, "patience": 50}
    study = study_of(model_folder, Path(finished.study.data.file or ""), settings)
    undisturbed = started_run(tmp_path / "undisturbed", study)
    run_shard(str(undisturbed.root), "policies", policy)

    def killed(run: Run) -> bool:
        checkpoints = run.folder("policies") / ".work" / policy / "checkpoints"
        command = [sys.executable, "jobs/align.py", str(run.root), "--shard", policy]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
        return killed_when(process, (checkpoints / "step-00000003").exists)

    runs = (started_run(tmp_path / f"disturbed-{number}", study) for number in range(TRIES))
    disturbed = next(run for run in runs if killed(run))
    assert list(disturbed.folder("policies").glob(f".work/{policy}/checkpoints/step-*/complete"))
    assert not (disturbed.folder("policies") / policy).exists()
    run_shard(str(disturbed.root), "policies", policy)
    assert content(disturbed.folder("policies") / policy) == content(undisturbed.folder("policies") / policy)


def test_a_pair_that_is_too_long_is_dropped_counted_and_listed(tmp_path: Path, model_folder: Path) -> None:
    study = study_of(model_folder, tmp_path / "posts.csv", {"max_length": 200, "epochs": 1})
    run = started_run(tmp_path / "run", study)
    run_shard(str(run.root), "policies", "DPO")
    summary = json.loads((run.folder("policies") / "DPO" / "summary.json").read_text())
    examples, dropped = summary["examples"], summary["dropped"]
    assert examples["training"] + examples["held_out"] + examples["dropped"] == 32
    assert 0 < examples["dropped"] == dropped["reasons"]["too long"] == len(dropped["questions"])


def test_nothing_left_to_train_on_is_an_input_error(tmp_path: Path, model_folder: Path) -> None:
    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv", {"max_length": 8}))
    with pytest.raises(InputError, match="no question is left") as caught:
        run_shard(str(run.root), "policies", "DPO")
    assert caught.value.exit_code == 2
    assert not (run.folder("policies") / "DPO").exists()


def test_an_adapter_target_that_the_model_lacks_is_an_input_error(tmp_path: Path, model_folder: Path) -> None:
    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv", {"lora_targets": ["query"]}))
    with pytest.raises(InputError, match=r"query.*q_proj"):
        run_shard(str(run.root), "policies", "DPO")
