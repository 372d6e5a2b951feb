"""Models that are not the sandbox's: folders, names on the hub, and words when they are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from modpo_hpc.errors import InputError
from modpo_hpc.models import locate_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub that cannot be reached, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_known_by_its_place_and_content(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    first = locate_model(str(folder), None)
    assert first["folder"] == str(folder)
    assert locate_model(str(folder), None) == first
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8}))
    assert locate_model(str(folder), None)["fingerprint"] != first["fingerprint"]


@pytest.mark.usefixtures("offline")
def test_a_name_that_cannot_be_fetched_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"nobody/nothing.*could not be fetched.*Check the name") as refused:
        locate_model("nobody/nothing", None)
    assert refused.value.exit_code == 2


@pytest.mark.usefixtures("offline")
def test_a_word_that_is_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="could not be fetched"):
        locate_model("no such/model/at all", None)


def test_without_network_what_was_fetched_before_is_used(offline: Path) -> None:
    model = offline / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "config.json").write_text("{}")
    assert locate_model("some/model", None) == {"hub": "some/model", "commit": COMMIT}
