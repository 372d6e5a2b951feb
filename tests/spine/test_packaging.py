"""A wheel holds what a checkout holds: every package, recipe, study and cluster file."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY


def test_every_package_is_named_in_setup_cfg() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    named = set(setup["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts) for path in REPOSITORY.glob("modpo_hpc/**/__init__.py")
    }
    assert named == found | {"modpo_hpc.jobs", "modpo_hpc.configs", "modpo_hpc.slurm"}


def test_a_study_of_the_project_is_found_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_study("configs/demo-smallest.yaml").name == "demo-smallest"
