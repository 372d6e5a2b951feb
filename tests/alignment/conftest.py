"""Fixtures of the alignment room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alignment.world import WORDS
from tests.tiny_mistral import save_tiny_mistral


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_mistral(tmp_path_factory.mktemp("model"), words=WORDS)
