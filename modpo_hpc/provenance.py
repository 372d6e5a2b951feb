"""Where a run comes from: who made it with what, and the versions that can change a result."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
import uuid
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import modpo_hpc


def new_provenance(name: str) -> dict[str, Any]:
    """The provenance of a run called ``name`` that begins now in this process.

    ``logs`` is where its logs go: below MODPO_LOGS (``logs`` if empty), beside those of another run of the same name.
    """
    identity = uuid.uuid4().hex[:12]
    logs = Path(os.environ.get("MODPO_LOGS", "logs")).resolve() / name
    return {
        "id": identity,
        "created": time.time(),
        "modpo_hpc": modpo_hpc.__version__,
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


@cache
def code_identity() -> dict[str, str]:
    """Which software this is: version of the package, digest of its source, and of a checkout commit and changes."""
    root = Path(modpo_hpc.__file__).parent
    total = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *(root.parent / "jobs").glob("*.py")]):
        total.update(path.name.encode() + path.read_bytes())
    found = {"version": modpo_hpc.__version__, "digest": total.hexdigest()[:12]}
    if (root.parent / ".git").exists():
        commit = _git(root.parent, "rev-parse", "--short=12", "HEAD")
        if commit:
            changed = _git(root.parent, "status", "--porcelain", "--untracked-files=no", "--", "modpo_hpc", "jobs")
            found |= {"commit": commit, "changed": "yes" if changed else "no"}
    return found


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
