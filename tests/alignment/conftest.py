"""Fixtures of the alignment room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alignment.world import save_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))
