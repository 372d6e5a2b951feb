"""Where the files that people edit are: ``jobs/``, ``configs/`` and ``slurm/``."""

from __future__ import annotations

import os
from pathlib import Path

from modpo_hpc.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def resource(relative: str) -> Path:
    """Path of ``relative`` (``"configs/demo.yaml"``) in the checkout, or in the installed wheel.

    Recipes (``jobs/...``) are looked for in the folder that MODPO_JOBS names first, so that a changed recipe can be
    tried without touching the shipped one.

    Raises:
        InputError: there is no such file.
    """
    own = os.environ.get("MODPO_JOBS")
    if own and relative.startswith("jobs/") and (path := Path(own) / relative.removeprefix("jobs/")).exists():
        return path
    return shipped(relative)


def shipped(relative: str) -> Path:
    """Path of ``relative`` as the project ships it, whatever MODPO_JOBS says.

    Raises:
        InputError: there is no such file.
    """
    for base in (_PACKAGE.parent, _PACKAGE):
        path = base / relative
        if path.exists():
            return path
    raise InputError(
        "this file is part of modpo-hpc but is not installed",
        file=relative,
        remedy="Install again from a complete checkout: pip install -e .",
    )
