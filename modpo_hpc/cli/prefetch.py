"""``modpo prefetch``: models and tokenizers of a study into the cache, on a machine that has the internet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modpo_hpc.study import Study

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", help="study file")
    overrides = {"action": "append", "default": [], "metavar": "KEY=VALUE", "dest": "overrides"}
    parser.add_argument("--set", help="override a field of the study", **overrides)  # type: ignore[arg-type]
    parser.add_argument("--check", action="store_true", help="only say what is in the cache; fetch nothing")


def run(arguments: argparse.Namespace) -> int:
    from modpo_hpc.study import load_study

    needed = models_of(load_study(arguments.study, arguments.overrides))
    if not needed:
        print("nothing to fetch: the models of this study are of the sandbox, in folders, or behind an API")
        return 0
    missing = 0
    for name, revision in needed:
        where = fetch(name, revision, offline=arguments.check)
        missing += where is None
        print(f"{name}{f' at {revision}' if revision else ''}: {where or 'not in the cache'}")
    return 3 if missing else 0


def models_of(study: Study) -> list[tuple[str, str | None]]:
    """The models that ``study`` takes from the hub: (name, revision)."""
    models = study.models
    named = [(models.base, models.base_revision), (models.reward, models.reward_revision)]
    if study.judge.kind == "server":
        named.append((study.judge.model, None))
    return list(dict.fromkeys(one for one in named if one[0] != "sandbox" and not Path(one[0]).is_dir()))


def fetch(name: str, revision: str | None, offline: bool) -> str | None:
    """The folder of a model in the cache, fetched if need be; None if it is not there and ``offline``.

    Raises:
        InputError: the hub has no such model, refuses it, or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from modpo_hpc.errors import InputError

    try:
        return str(snapshot_download(name, revision=revision, allow_patterns=list(WANTED), local_files_only=offline))
    except LocalEntryNotFoundError as error:
        if offline:
            return None
        raise InputError(
            "the hub cannot be reached from this machine",
            field="model",
            value=name,
            remedy="Run this on a login node with internet, with HF_HOME on a filesystem that the compute nodes see.",
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"the model cannot be fetched: {str(error).splitlines()[0]}",
            field="model",
            value=name,
            remedy="Check its name and revision; for a gated model accept its terms and log in: hf auth login",
        ) from error
