"""The rehearsal, small: every count as the study says, and predictions that follow from them."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.rehearsal.measure import StageCost, footprint
from modpo_hpc.rehearsal.scaling import BASE_MEMORY_GB, DIMENSIONS, predict
from modpo_hpc.rehearsal.study import rehearsed
from modpo_hpc.resources import resource
from modpo_hpc.study import load_study
from tests.study_for_rehearsal import SMALL


def cost(stage: str, **changes: float) -> StageCost:
    facts = {
        "shards": 27, "rows": 1, "bytes": 1_000_000, "seconds": 100.0, "stand_in_seconds": 40.0,
        "cpu_seconds": 90.0, "longest_seconds": 10.0, "peak_memory_gb": 1.25,
    }  # fmt: skip
    return StageCost(stage=stage, **{**facts, **changes})  # type: ignore[arg-type]


def test_what_is_rehearsed_needs_no_gpu_no_key_and_keeps_the_counts():
    study = load_study(resource("configs/paper.yaml"))
    stand_in = rehearsed(study, "paper.yaml")
    assert stand_in.judges[0].kind == "rules"
    assert {"judge", "models"} <= set(stand_in.simulated)
    assert not any(one.gpus for one in stand_in.resources.values())
    for same in ("ranking", "judging", "shards", "criteria", "statistics"):
        assert getattr(stand_in, same) == getattr(study, same)
    assert stand_in.alignment.policies == study.alignment.policies
    assert (stand_in.data.sandbox_train, stand_in.data.sandbox_test) == (2379, 600)


def test_a_panel_is_rehearsed_as_a_panel():
    three = [{"name": name, "kind": "openai", "model": name} for name in ("a", "b", "c")]
    study = load_study(resource("configs/paper.yaml"), [f"judge={json.dumps(three)}"])
    stand_in = rehearsed(study, "paper.yaml")
    assert stand_in.panel == ("a", "b", "c")
    assert {one.kind for one in stand_in.judges} == {"rules"}


def test_questions_grow_a_shard_and_policies_grow_their_number():
    bigger = predict(cost("verdicts"), "questions", 10)
    assert bigger.shards == 27
    assert bigger.memory_gb == pytest.approx(BASE_MEMORY_GB + 10 * (1.25 - BASE_MEMORY_GB))
    assert bigger.seconds_a_shard == pytest.approx(10 * 10 * 0.6)
    more_policies = predict(cost("verdicts"), "policies", 10)
    assert more_policies.shards == 2700
    assert more_policies.seconds_a_shard == pytest.approx(10 * 0.6)


@given(st.sampled_from(["responses", "rankings", "verdicts", "statistics", "models"]), st.sampled_from(DIMENSIONS))
def test_a_hundred_times_hurts_no_less_than_ten_times(stage, dimension):
    ten, hundred = (predict(cost(stage), dimension, factor) for factor in (10, 100))
    assert hundred.memory_gb >= ten.memory_gb
    assert len(hundred.pains) >= len(ten.pains)


def test_files_and_folders_are_counted(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for number in range(5):
        (tmp_path / f"a/b/{number}").write_bytes(b"x" * 10)
    found = footprint(tmp_path)
    assert (found.files, found.folders, found.bytes, found.fullest) == (5, 3, 50, 5)
    assert found.fullest_folder == "a/b"


def test_a_small_study_is_rehearsed_to_the_end(tmp_path, modpo):
    study = tmp_path / "small.yaml"
    study.write_text(yaml.safe_dump(SMALL))
    command = ["rehearse", study, "--run", tmp_path / "run", "--until", "statistics", "--json"]
    done = modpo(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"]["posts"] == 2379 + 600, "the posts of a file that is not there are as many as it gives"
    assert found["counts"]["responses"] == 12 * 5
    assert found["counts"]["rankings by a criterion"] == 12 * 50 * 2
    assert found["counts"]["answers"] == 6 * 3
    assert found["counts"]["verdicts"] == 1 * 6 * 50 * 2
    assert found["tasks"] == sum(one["shards"] for one in found["costs"])
    assert found["stand_in_seconds"] > 0
    assert (tmp_path / "run/rehearsal.md").read_text().count("| verdicts |") == 1
    again = modpo(*command)
    assert json.loads(again.stdout)["wall_seconds"] == found["wall_seconds"], "nothing is run twice"
    assert "if each stage waited" in found["makespan"]
