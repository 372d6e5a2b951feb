"""The search of settings as Slurm array trials: recorded, chosen by held-out accuracy, used by the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.study import parse_study
from tests.alignment.world import finish, started_run, study_of

SEARCH = {
    "trials": 3,
    "startup": 2,
    "wave": 1,
    "learning_rate": [1e-4, 1e-2],
    "lora_rank": [2, 4],
    "lora_alpha": [4],
    "micro_batch_size": [4],
    "gradient_accumulation": [1, 2],
    "epochs": [1, 2],
}


def test_trials_run_in_any_order_and_the_best_one_trains_the_policy(tmp_path: Path, model_folder: Path) -> None:
    study = study_of(model_folder, tmp_path / "posts.csv", {"held_out": 0.25})
    study["alignment"]["search"] = SEARCH
    run = started_run(tmp_path / "run", study)
    for shard in ("DPO.2", "DPO.0", "DPO.1"):
        run_shard(str(run.root), "policy_trials", shard)
    rows = [run.table("policy_trials", shard_ids=[f"DPO.{number}"]).to_pylist()[0] for number in range(3)]
    complete = [row for row in rows if row["state"] == "complete"]
    best = min(complete, key=lambda row: (-row["accuracy"], row["loss"], row["trial"]))
    for shard in run.shard_ids("policy_trials"):
        if not shard.startswith("DPO."):
            run.table_path("policy_trials", shard).write_bytes(run.table_path("policy_trials", "DPO.0").read_bytes())
            finish(run, "policy_trials", shard)
    run_shard(str(run.root), "policies", "DPO")
    summary = json.loads((run.folder("policies") / "DPO" / "summary.json").read_text())
    assert summary["settings"] == json.loads(best["settings"])
    assert summary["settings"]["batch_size"] in (4, 8)


def test_without_a_search_there_are_no_trials(tmp_path: Path, model_folder: Path) -> None:
    study = parse_study(study_of(model_folder, tmp_path / "posts.csv"), "test")
    from modpo_hpc.pipeline import stage_named

    assert stage_named("policy_trials").shards(study) == ()


def test_settings_that_make_no_sense_are_refused(tmp_path: Path, model_folder: Path) -> None:
    study = study_of(model_folder, tmp_path / "posts.csv", {"processes": 2, "gradient_cosine": True})
    with pytest.raises(InputError, match="gradient_cosine is measured in one process"):
        parse_study(study, "test")
    study = study_of(model_folder, tmp_path / "posts.csv")
    study["alignment"]["policies"]["DPO"]["training"] = {"bta": 1}
    with pytest.raises(InputError, match=r"policies.DPO.training.bta"):
        parse_study(study, "test")


def test_gradient_cosines_are_of_the_criteria(tmp_path: Path, model_folder: Path) -> None:
    study = study_of(model_folder, tmp_path / "posts.csv", {"gradient_cosine": True, "epochs": 1})
    run = started_run(tmp_path / "run", study)
    run_shard(str(run.root), "policies", "Joint")
    cosines = json.loads((run.folder("policies") / "Joint" / "summary.json").read_text())["gradient_cosine"]
    assert set(cosines) == {"empathy and safety", "empathy and manner", "safety and manner"}
    assert all(-1 <= one <= 1 for one in cosines.values())
