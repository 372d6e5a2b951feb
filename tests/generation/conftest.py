"""A tiny random Mistral and a byte tokenizer: fast, and no text of it means anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_mistral import save_tiny_mistral


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_mistral(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_model: Path):
    """(model, tokenizer) of the tiny random Mistral."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)
