"""Run directories whose early stages are finished, around the tiny random model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.models import locate_model, source_file
from modpo_hpc.run import Run
from modpo_hpc.stages.texts import BASE, REWARD
from modpo_hpc.study import parse_study

WORDS = "today my chest felt heavy again and i could not say why so i stayed in bed until noon"


def write_posts(path: Path, count: int = 60) -> Path:
    lines = ["sp_id,seeker_post"]
    lines += [f"q{number:03d},{number} {WORDS[: 12 + 5 * (number % 15)]}" for number in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def study_of(model: Path, posts: Path, **changes: Any) -> dict[str, Any]:
    study: dict[str, Any] = {
        "name": "tiny",
        "data": {"file": str(posts), "test_size": 20},
        "models": {"base": str(model), "reward": str(model)},
        "generation": {
            "responses": {"max_tokens": 12, "batch_size": 8},
            "answers": {"max_tokens": 12, "batch_size": 4},
        },
        "criteria": {"rank": ["empathy", "safety"]},
        "alignment": {
            "policies": {
                "Base": {"method": "base"},
                "DPO_Empathy": {"method": "dpo", "criteria": {"empathy": 1}},
                "DPO_Safety": {"method": "dpo", "criteria": {"safety": 1}},
            }
        },
        "judging": {"phases": {"phase1": {"policies": ["Base", "DPO_Empathy"], "criteria": ["empathy"]}}},
    }
    for section, fields in changes.items():
        study[section] = {**study.get(section, {}), **fields}
    return study


def started_run(folder: Path, study: dict[str, Any]) -> Run:
    """A run with finished questions and models."""
    run = Run.create(folder, parse_study(study, "test"))
    run_shard(str(folder), "questions", "all")
    sources = {BASE: locate_model(run.study.models.base, None), REWARD: locate_model(run.study.models.reward, None)}
    run.folder("models").mkdir()
    for role, source in sources.items():
        (run.folder("models") / source_file(role)).write_text(json.dumps(source))
    for role in sources:
        finish_by_hand(run, "models", role)
    return run


def finish_by_hand(run: Run, stage: str, shard: str) -> None:
    """Mark a shard whose files the test has made itself as finished."""
    marker = Marker(stage, shard, IMPORTED, {}, time.time(), 0.0, "here", None, 1)
    write_marker(run.folder(stage), marker)


def run_with_adapters(
    folder: Path, study: dict[str, Any], policies: tuple[str, ...] = ("DPO_Empathy", "DPO_Safety")
) -> Run:
    """A run with adapters of these policies: random, and large enough to be heard."""
    run = started_run(folder, study)
    for seed, policy in enumerate(policies):
        add_adapter(run, policy, seed)
    return run


def add_adapter(run: Run, policy: str, seed: int) -> None:
    """Give ``policy`` an adapter that no training made."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(run.study.models.base),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False),
    )
    model.save_pretrained(run.folder("policies") / policy / "adapter")
    finish_by_hand(run, "policies", policy)
