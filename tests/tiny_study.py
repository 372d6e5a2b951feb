"""A whole study of every stage in seconds: for what is to be seen of a finished run, whatever its results."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.sandbox.survey import invented_survey
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY


def why_refused(setting: str) -> str:
    """Why the demo is no study with ``setting``, which is KEY=VALUE."""
    with pytest.raises(InputError) as caught:
        load_study(REPOSITORY / "configs" / "demo.yaml", [setting])
    return str(caught.value)


def tiny_study(folder: Path) -> dict[str, Any]:
    """The raw study; the criteria and the survey that it reads are files in ``folder``, to be edited."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = load_study(REPOSITORY / "configs" / "demo-smallest.yaml").model_dump(mode="json")
    raw["name"] = "tiny"
    raw["data"] |= {"sandbox_train": 24, "sandbox_test": 8, "use_train": 24, "use_test": 6}
    raw["models"]["teach_steps"] = 10
    raw["personas"] |= {"quota": {}, "select": 20, "train": 12, "test": 8, "surveys": _surveys(folder)}
    for what in ("responses", "answers"):
        raw["generation"][what] |= {"max_tokens": 20}
    raw["criteria"] = {"files": _criteria(folder), "rank": ["empathy", "safety", "manner"]}
    raw["ranking"]["personas_per_question"] = 4
    raw["statistics"] |= {"draws": 200, "non_inferiority": {}}
    raw["rewards"]["search"] |= {"trials": 1, "epochs": [1, 1]}
    raw["alignment"]["training"]["epochs"] = 1
    raw["alignment"]["policies"] = {
        "Base": {"method": "base"},
        "DPO_Empathy": {"method": "dpo", "criteria": {"empathy": 1.0}},
        "DPO_Safety": {"method": "dpo", "criteria": {"safety": 1.0}},
        "Soup": {"method": "soup", "sources": {"DPO_Empathy": 0.5, "DPO_Safety": 0.5}},
        "MODPO": {"method": "modpo", "criteria": {"empathy": 0.5, "safety": 0.5}},
    }
    compared = ["Base", "DPO_Empathy", "Soup", "MODPO"]
    raw["judging"] |= {
        "personas_per_question": 4,
        "phases": {"phase1": {"policies": compared, "criteria": ["empathy", "safety"]}},
    }
    raw["shards"] = {"responses": 2, "rankings": 2}
    raw["resources"] = {}
    return raw


def write_study(folder: Path, raw: dict[str, Any]) -> Path:
    """The study as a file in ``folder``."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path


def _criteria(folder: Path) -> list[str]:
    path = folder / "criteria.yaml"
    known: dict[str, Any] = {}
    for name in ("therapeutic", "gricean"):
        known |= yaml.safe_load((REPOSITORY / "configs" / "criteria" / f"{name}.yaml").read_text())["criteria"]
    path.write_text(yaml.safe_dump({"criteria": known}, sort_keys=False))
    return [str(path)]


def _surveys(folder: Path) -> dict[str, str]:
    places = {}
    for population, rows in invented_survey(7).items():
        places[population] = str(folder / f"{population}.csv")
        with open(places[population], "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return places
