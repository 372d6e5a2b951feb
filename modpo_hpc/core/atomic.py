"""Files and folders that are there whole or not at all: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from modpo_hpc.errors import InputError

T = TypeVar("T")


@contextmanager
def atomic_file(path: Path, mode: str = "wb", durable: bool = True) -> Iterator[IO[Any]]:
    """A stream that becomes ``path`` when the block ends well, and leaves nothing behind otherwise.

    With ``durable`` it is on disk before it gets its name; what a restart can do without may skip that.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Make ``text`` the whole of the file ``path``, as :func:`atomic_file` does."""
    with atomic_file(path, "w", durable) as stream:
        stream.write(text)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder that becomes ``path`` when the block ends well; an older one at that place is replaced."""
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in (one for one in temporary.rglob("*") if one.is_file()):
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
        old = _temporary(path)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_document(path: Path, remedy: str, absent: T) -> T:
    """The content of the JSON file ``path``; ``absent`` if there is none.

    Raises:
        InputError: the file is damaged; ``remedy`` says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return absent
    except ValueError as error:
        raise InputError(f"this file is damaged: {error}", file=path, remedy=remedy) from None


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network filesystems know no fsync of a folder; the file itself is on disk, and has its name.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
