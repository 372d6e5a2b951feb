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

from modpo_hpc.core.atomic import write_text
from modpo_hpc.errors import InputError
from modpo_hpc.resources import shipped

REMEMBERED_ABOVE = 64 << 20
"""Bytes of a file whose hash is kept between commands, by size and time of change: weights take minutes to read."""


def hash_of(value: Any) -> str:
    """16 hexadecimal digits (SHA-256) of a JSON value; the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: str | Path) -> str:
    """SHA-256 of the content of a file, in hexadecimal digits."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


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
    files = {one.relative_to(root): one for one in root.rglob("*") if one.is_file()}
    shown = {name: one for name, one in files.items() if not any(part.startswith(".") for part in name.parts)}
    return hash_of({str(name): file_hash(one) for name, one in shown.items()})


@lru_cache(maxsize=4096)
def _hash_of_file(path: str, signature: tuple[int, int, int]) -> str:
    large = signature[1] > REMEMBERED_ABOVE
    key = hash_of([os.path.realpath(path), *signature])
    if large and (known := _remembered().get(key)):
        return str(known)
    result = sha256_of(path)[:16]
    if large:
        with suppress(OSError):  # a home that cannot be written costs time, nothing else
            write_text(_memory(), json.dumps({**_remembered(), key: result}), durable=False)
    return result


def _remembered() -> Mapping[str, str]:
    with suppress(OSError, ValueError):
        return json.loads(_memory().read_text())
    return {}


def _memory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modpo-hpc" / "hashes.json"
