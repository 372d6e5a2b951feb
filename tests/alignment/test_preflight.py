"""The check before a first GPU hour: what it finds, on a CPU and a small model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modpo_hpc.alignment.preflight import examine_gpu
from modpo_hpc.launch.doctor import examine_training
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY

DEMO = REPOSITORY / "configs/demo.yaml"
SMALL = "alignment.training={max_length: 48, micro_batch_size: 2, batch_size: 4, lora_rank: 2}"


def study(model_folder: Path, *more: str) -> Study:
    return load_study(DEMO, [f"models.base={model_folder}", SMALL, *more])


def test_it_scores_the_studys_own_model_both_ways_and_trains_its_longest_pass(model_folder: Path) -> None:
    found = {one["name"]: one for one in examine_gpu(study(model_folder), torch.device("cpu"))}
    assert found["scoring along a tree"]["verdict"] == "good"
    assert found["longest pass"]["message"].startswith("164 tokens (2 pairs of 48)"), "12 + 2 * 35 for each"
    assert "speeds.training_tokens_per_second" in found["speed"]["message"]


def test_a_pass_that_does_not_fit_is_told_with_the_number_to_set(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modpo_hpc.alignment import passes

    whole = passes._whole

    def small_card(engine, policy, settings, examples, *rest):
        if len(examples) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(engine, policy, settings, examples, *rest)

    monkeypatch.setattr(passes, "_whole", small_card)
    found = {one["name"]: one for one in examine_gpu(study(model_folder), torch.device("cpu"))}
    assert found["longest pass"]["verdict"] == "note"
    assert "pass_tokens to 82" in found["longest pass"]["message"]


def test_a_model_that_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = list(examine_gpu(load_study(DEMO, ["models.base=nobody/nothing"]), torch.device("cpu")))
    assert found[-1]["verdict"] == "bad"
    assert "modpo doctor --fetch" in found[-1]["message"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is seen here")
def test_doctor_says_that_no_gpu_is_seen(tmp_path: Path, model_folder: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"extends: {DEMO}\nmodels: {{base: {model_folder}}}\nalignment:\n  {SMALL.split('.')[1]}".replace(
            "training=", "training: "
        )
        + "\n"
    )
    found = {one.name: one for one in examine_training(str(file))}
    assert found["GPU"].verdict == "bad"
    assert "none is seen: torch" in found["GPU"].message
    assert found["longest pass"].verdict == "good"
