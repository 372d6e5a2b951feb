"""A study in which every method that is known here has a policy, small enough to be run whole in one process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modpo_hpc.launch.entry import run_shard
from modpo_hpc.methods import Method, Trained, known_methods
from modpo_hpc.methods.conditioned import AtWeights, Conditioned
from modpo_hpc.methods.corrector import Corrected, Corrector
from modpo_hpc.methods.ham import Member
from modpo_hpc.methods.mod import MOD
from modpo_hpc.methods.rerank import Rerank
from modpo_hpc.methods.soup import Soup
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY

CRITERIA = ("empathy", "safety")
PAGE = REPOSITORY / "docs" / "bring-your-own-method.md"


def method_of_the_docs(folder: Path) -> Path:
    """IPO, as the docs print it, in a file of its own."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code
    file = folder / "ipo.py"
    file.write_text(code[1])
    return file


def policies_of_all(files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    """One policy a method, named after it; and a second DPO, so that a soup has two sources."""
    return {
        "dpo_safety": {"method": "dpo", "criteria": {"safety": 1}},
        **{name: _policy(name, method) for name, method in known_methods(files).items()},
    }


def _policy(name: str, method: type[Method]) -> dict[str, Any]:
    if issubclass(method, Conditioned):
        return {**_at_halves(name), "start": {"empathy": "dpo", "safety": "dpo_safety"}}
    if method is AtWeights:
        return {**_at_halves(name), "of": "conditioned"}
    if method is Member:
        return {"method": name, "of": "ham", "number": 2}
    if method is Corrector:
        return {**_at_halves(name), "source": "dpo"}
    if method is Corrected:
        return {"method": name, "by": "corrector", "source": "remote", "criteria": list(CRITERIA)}
    if issubclass(method, Trained):
        return {"method": name, "criteria": dict.fromkeys(CRITERIA[: max(1, method.least_criteria)], 0.5)}
    if method in (Soup, MOD):
        return {"method": name, "sources": {"dpo": 0.5, "dpo_safety": 0.5}}
    if method is Rerank:
        return {"method": name, "source": "dpo", "criteria": {"empathy": 0.5, "safety": 0.5}, "candidates": 3}
    return {"method": name}


def _at_halves(name: str) -> dict[str, Any]:
    return {"method": name, "criteria": dict.fromkeys(CRITERIA, 0.5)}


def study_of_all(files: tuple[Path, ...], url: str) -> Study:
    """The demo, cut to what shows that every stage takes every method."""
    policies = policies_of_all(files)
    settings: dict[str, Any] = {
        "data": "{sandbox_train: 12, sandbox_test: 4, use_train: 12, use_test: 4}",
        "models.teach_steps": 2,
        "personas.select": 12,
        "personas.train": 6,
        "personas.test": 6,
        "personas.quota": "{}",
        "generation.responses": "{max_tokens: 12, batch_size: 100}",
        "generation.answers": "{max_tokens: 12, batch_size: 100}",
        "generation.remote": {name: {"model": "m", "base_url": url} for name in policies if name == "remote"},
        "criteria.rank": list(CRITERIA),
        "ranking.personas_per_question": 3,
        "judging": {
            "personas_per_question": 2,
            "phases": {"phase1": {"policies": list(policies), "criteria": list(CRITERIA)}},
        },
        "rewards.folds": 2,
        "rewards.search.trials": 0,
        "rewards.settings": "{learning_rate: 1.0e-3, epochs: 1, max_length: 64}",
        "alignment": {
            "training": {"epochs": 1, "batch_size": 16, "max_length": 512, "lora_rank": 4},
            "methods": [str(file) for file in files],
            "policies": policies,
        },
        "statistics.draws": 20,
        "shards": "{responses: 1, rankings: 1, scores: 1}",
    }
    return load_study(REPOSITORY / "configs/demo.yaml", [f"{field}={value}" for field, value in settings.items()])


def run_whole(root: Path, study: Study) -> Run:
    """Every shard of every stage, in this process, by the one entry."""
    run = Run.create(root, study)
    for stage in STAGES:
        for shard in run.shard_ids(stage.name):
            run_shard(str(root), stage.name, shard)
    return Run.open(root)
