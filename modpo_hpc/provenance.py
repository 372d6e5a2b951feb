"""Where a run comes from: who made it with what, and the versions that can change a result."""

from __future__ import annotations

import os
import platform
import sys
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from modpo_hpc import __version__


def new_provenance(name: str) -> dict[str, Any]:
    """The provenance of a run called ``name`` that begins now in this process.

    ``logs`` is where its logs go: below MODPO_LOGS (``logs`` if empty), beside those of another run of the same name.
    """
    identity = uuid.uuid4().hex[:12]
    logs = Path(os.environ.get("MODPO_LOGS", "logs")).resolve() / name
    return {
        "id": identity,
        "created": time.time(),
        "modpo_hpc": __version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "command": sys.argv,
        "logs": str(logs.with_name(f"{name}-{identity}") if logs.exists() else logs),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    names = (
        "torch",
        "transformers",
        "peft",
        "deepspeed",
        "optuna",
        "ray",
        "scipy",
        "numpy",
        "pyarrow",
        "datasets",
    )
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
