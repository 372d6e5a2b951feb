"""The two models that a study starts from, as folders that every tool can load."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.run import Run
from modpo_hpc.stages.texts import BASE, MODELS, REWARD, SANDBOX, model_of
from modpo_hpc.study import Study

_TEXT_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
_WEIGHTS = ("*.safetensors", "*.bin")
_DUPLICATE_WEIGHTS = ("consolidated*", "original/*", "onnx/*")


def base_model_path(run: Run) -> str:
    """Folder of the model that answers and is aligned, with its tokenizer.

    Raises:
        IncompleteError: the stage ``models`` is not finished.
        InputError: the model's files are not on this machine any more.
    """
    return _model_path(run, BASE)


def reward_model_path(run: Run) -> str:
    """Folder of the encoder that reward models start from, with its tokenizer. Raises as ``base_model_path``."""
    return _model_path(run, REWARD)


def locate_model(name: str, revision: str | None) -> dict[str, Any]:
    """Where the files of a model that is not the sandbox's are: a folder, or a name on the hub.

    A name is resolved to one commit and its files are fetched once, so that workers without network find them.

    Raises:
        InputError: there is neither such a folder nor such a name, or the hub cannot be reached.
    """
    if (folder := Path(name).expanduser()).is_dir():
        return {"folder": str(folder.resolve()), "fingerprint": _fingerprint(folder)}
    return {"hub": name, "commit": fetch_model(name, revision).name}


def auxiliary_model_path(run: Run, role: str) -> str | None:
    """Folder of another model that the stage ``models`` has fetched for ``role``; None if it has fetched none."""
    return _model_path(run, role) if role in run.shard_ids("models") else None


def hub_models(study: Study) -> list[tuple[str, str | None]]:
    """Every model that ``study`` takes from the hub: (name, revision). Folders, the sandbox's and APIs' are not."""
    from modpo_hpc.judging.kinds import judge_kind

    named = [model_of(study, role) for role in MODELS.shards(study)]
    named += [(judge.model, None) for judge in study.judges if judge_kind(judge.kind).serves]
    return list(dict.fromkeys(one for one in named if one[0] != SANDBOX and not Path(one[0]).expanduser().is_dir()))


def cached_model(name: str, revision: str | None) -> Path | None:
    """Folder of a model of the hub in the cache of this machine, whole; None if it is not there.

    The same files are asked for as are fetched: the client refuses a snapshot that lacks any that it was asked for.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    for weights in _WEIGHTS:
        with suppress(LocalEntryNotFoundError):
            folder = _snapshot(name, revision, weights, local_files_only=True)
            if any(folder.glob(weights)):
                return folder
    return None


def _snapshot(name: str, revision: str | None, weights: str, local_files_only: bool = False) -> Path:
    """Folder of the hub's ``name`` in the cache: its small files, and its ``weights`` of one format."""
    from huggingface_hub import snapshot_download

    wanted, doubled = [*_TEXT_FILES, weights], list(_DUPLICATE_WEIGHTS)
    found = snapshot_download(
        name, revision=revision, allow_patterns=wanted, ignore_patterns=doubled, local_files_only=local_files_only
    )
    return Path(found)


def source_file(role: str) -> str:
    """The file below DIR/models that says where the model for ``role`` is."""
    return f"{role}.json"


def _model_path(run: Run, role: str) -> str:
    run.require("models", [role])
    folder = run.folder("models")
    source = json.loads((folder / source_file(role)).read_text(encoding="utf-8"))
    if "sandbox" in source:
        return str(folder / source["sandbox"])
    if "folder" in source:
        if not (Path(source["folder"]) / "config.json").is_file():
            raise InputError(
                "the model's folder has no config.json any more",
                file=source["folder"],
                field=f"models.{role}",
                remedy="Put the folder back where the run was started with it.",
            )
        return str(source["folder"])
    name, commit = source["hub"], source["commit"]
    if (path := cached_model(name, commit)) is None:
        raise IncompleteError(
            f"commit {commit} of {name} is not in the model cache of this machine. Set HF_HOME to a folder that all "
            f"nodes share, and fetch it with: hf download {name} --revision {commit}"
        )
    return str(path)


def fetch_model(name: str, revision: str | None) -> Path:
    """Folder of a model of the hub in the cache of this machine, fetched if need be; its name is the commit.

    Without network the cache alone is asked, so that a node that reaches nothing can use what was fetched before.
    Of weights in several formats one is fetched. Any number of processes may do this at once on one cache.

    Raises:
        InputError: there is no such name, or neither the hub nor the cache has it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = HfApi().model_info(name, revision=revision)
        weights = _WEIGHTS[0] if any(_is_weight(one.rfilename) for one in found.siblings or ()) else _WEIGHTS[1]
        return _snapshot(name, revision, weights)  # by its name, under which offline nodes look it up in the cache
    except (HfHubHTTPError, HFValidationError) as error:
        raise _no_such_model(name, error) from error
    except (OSError, httpx.TransportError) as error:
        found_before = cached_model(name, revision)
        if found_before is None:
            raise _no_such_model(name, error) from error
        return found_before


def _no_such_model(name: str, error: Exception) -> InputError:
    return InputError(
        f"this model is no folder here and could not be fetched from the hub ({type(error).__name__})",
        field="models",
        value=name,
        remedy="Check the name and the network, log in for a gated model, or give the folder of a downloaded copy.",
    )


def _is_weight(file: str) -> bool:
    return file.endswith(".safetensors") and not file.startswith(("consolidated", "original/", "onnx/"))


def _fingerprint(folder: Path) -> str:
    """Hash of the small files and of the names and sizes of the large ones: changes when the model is another."""
    total = hashlib.sha256()
    for file in sorted(one for one in folder.rglob("*") if one.is_file()):
        total.update(f"{file.relative_to(folder)}\x1f{file.stat().st_size}\n".encode())
        if file.stat().st_size < 1 << 20:
            total.update(file.read_bytes())
    return total.hexdigest()
