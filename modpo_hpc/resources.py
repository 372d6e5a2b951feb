"""Where the files that people edit are: ``jobs/``, ``configs/`` and ``slurm/``."""

from __future__ import annotations

from pathlib import Path

from modpo_hpc.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def resource(relative: str) -> Path:
    """Path of ``relative`` (``"configs/demo.yaml"``) in the checkout, or in the installed wheel.

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
