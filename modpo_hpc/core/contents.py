"""Hashes of what a study reads from outside: files and folders, by their content and never by their place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from modpo_hpc.core.atomic import atomic_file
from modpo_hpc.errors import InputError
from modpo_hpc.resources import shipped

REMEMBERED_ABOVE = 64 << 20
"""Bytes of a file whose hash is kept between commands, by size and time of change: weights take minutes to read."""


def hash_of(value: Any) -> str:
    """16 hexadecimal digits (SHA-256) of a JSON value; the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """16 hexadecimal digits of the content of a file; ``absent`` if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return "absent"
    return _hash_of_file(str(path), (found.st_ino, found.st_size, found.st_mtime_ns))


def configuration_hash(name: str) -> str:
    """As :func:`file_hash`, of a file of the user (an absolute path) or one that the project ships."""
    with suppress(InputError):
        return file_hash(name if Path(name).is_absolute() else shipped(name))
    return "absent"


def folder_hash(path: str | Path) -> str:
    """16 hexadecimal digits of the names and contents of all files below a folder; ``absent`` if there is none."""
    root = Path(path)
    if not root.is_dir():
        return "absent"
    files = sorted(one for one in root.rglob("*") if one.is_file() and not _hidden(one.relative_to(root)))
    return hash_of({str(one.relative_to(root)): file_hash(one) for one in files})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@lru_cache(maxsize=4096)
def _hash_of_file(path: str, signature: tuple[int, int, int]) -> str:
    large = signature[1] > REMEMBERED_ABOVE
    key = hash_of([os.path.realpath(path), *signature])
    if large and (known := _remembered().get(key)):
        return str(known)
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    result = total.hexdigest()[:16]
    if large:
        with suppress(OSError):  # a home that cannot be written costs time, nothing else
            with atomic_file(_memory(), "w", durable=False) as stream:
                json.dump({**_remembered(), key: result}, stream)
    return result


def _remembered() -> Mapping[str, str]:
    with suppress(OSError, ValueError):
        found: dict[str, str] = json.loads(_memory().read_text())
        return found
    return {}


def _memory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modpo-hpc" / "hashes.json"
