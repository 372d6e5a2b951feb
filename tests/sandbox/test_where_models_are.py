"""Models that are not the sandbox's: folders, names on the hub, and words when they are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from modpo_hpc.errors import InputError
from modpo_hpc.models import hub_models, locate_model
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.sandbox.hub import COMMIT, FILES, NAME, local_hub
from tests.waiting import PATIENCE


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
    with pytest.raises(InputError, match="could not be fetched"):
        locate_model("some/model", None)
    (model / "snapshots" / COMMIT / "model.safetensors").write_bytes(b"weights")
    assert locate_model("some/model", None) == {"hub": "some/model", "commit": COMMIT}


FETCH = "import sys; from modpo_hpc.models import fetch_model; print(fetch_model(sys.argv[1], None))"


def fetching(cache: Path, address: str, **variables: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_ENDPOINT": address,
        "PYTHONPATH": str(REPOSITORY),
        **variables,
    }
    environment.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in variables else None
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, NAME], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_twenty_processes_fill_one_cache_at_once_and_each_file_comes_once(tmp_path: Path) -> None:
    with local_hub() as (address, fetched):
        processes = [fetching(tmp_path / "hf", address) for _ in range(20)]
        ends = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * 20, ends
    folders = {out.strip() for out, _ in ends}
    assert len(folders) == 1
    [folder] = map(Path, folders)
    assert folder.name == COMMIT
    wanted = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {one.name for one in folder.iterdir()} == wanted
    assert all((folder / name).read_bytes() == FILES[name] for name in wanted)
    assert fetched == dict.fromkeys(wanted, 1)
    offline = fetching(tmp_path / "hf", address, HF_HUB_OFFLINE="1")
    assert offline.communicate(timeout=PATIENCE)[0].strip() == str(folder), "the hub is gone, the node is offline"


def test_everything_that_a_study_takes_from_the_hub_is_known_beforehand() -> None:
    """A compute node without internet finds all of it in the cache: judges on our own GPUs and toxicity models too."""
    paper, small = (load_study(REPOSITORY / f"configs/{name}.yaml") for name in ("paper", "open-small"))
    assert [name for name, _ in hub_models(paper)] == [
        "mistralai/Mistral-7B-Instruct-v0.2",
        "FacebookAI/roberta-large",
        "modelcitizens/LLAMACITIZEN-8B",
    ]
    assert "mistralai/Mistral-7B-Instruct-v0.3" in [name for name, _ in hub_models(small)]
    assert hub_models(load_study(REPOSITORY / "configs/demo.yaml")) == []
