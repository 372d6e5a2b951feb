"""Which study a run follows: the present one, those before it, and who works on the run while it would change."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from modpo_hpc.core.atomic import read_document, write_text
from modpo_hpc.errors import InputError
from modpo_hpc.study import Study, differences, load_frozen_study

STUDY_FILE, PROVENANCE_FILE = "study.yaml", "run.json"
HISTORY, REUSE_FILE, LOCK = "studies", "reuse.json", ".at_work"


def study_text(study: Study) -> str:
    """``study`` as the YAML file that a run keeps."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def holds_others(root: Path) -> bool:
    """Whether the folder holds anything but what :func:`begin` writes before the study is there."""
    whole, beginnings = (LOCK, PROVENANCE_FILE), (f".{STUDY_FILE}", f"..{STUDY_FILE}", f".{PROVENANCE_FILE}")
    return any(one.name not in whole and not one.name.startswith(beginnings) for one in root.iterdir())


def begin(root: Path, study: Study, provenance: Mapping[str, Any]) -> bool:
    """Make ``root`` a run of ``study``; False if somebody else has just begun one there."""
    mine = root / f".{STUDY_FILE}.{os.getpid()}.{time.monotonic_ns()}"
    write_text(mine, study_text(study))
    try:
        with _lock(root, fcntl.LOCK_EX):
            if (root / STUDY_FILE).exists():
                return False
            write_text(root / PROVENANCE_FILE, json.dumps(provenance, indent=1))
            os.replace(mine, root / STUDY_FILE)
        return True
    finally:
        mine.unlink(missing_ok=True)


def read_provenance(root: Path) -> dict[str, Any]:
    """Where the run in ``root`` comes from; empty if that is not known.

    Raises:
        InputError: the file is damaged.
    """
    return read_document(root / PROVENANCE_FILE, "Remove it; it says only where the run comes from.", {})


def follow(root: Path, study: Study) -> None:
    """Have the run follow ``study``; the one before goes to ``DIR/studies/NNNN.yaml``, if it is not the last one there.

    Raises:
        InputError: a command makes results of the present study right now.
    """
    with alone(root, "the study of a run changes only while nobody works on it"):
        before = load_frozen_study(root / STUDY_FILE)
        if not differences(before, study):
            return
        (root / HISTORY).mkdir(exist_ok=True, mode=0o700)
        text, known = (root / STUDY_FILE).read_text(encoding="utf-8"), history(root)
        if not known or known[-1].read_text(encoding="utf-8") != text:
            write_text(root / HISTORY / f"{len(known) + 1:04d}.yaml", text)
        write_text(root / STUDY_FILE, study_text(study))


def history(root: Path) -> list[Path]:
    """The studies that the run followed before, oldest first."""
    return sorted((root / HISTORY).glob("[0-9]*.yaml"))


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """While the block runs, the run keeps the study that it follows; any number of commands may work at once."""
    with _lock(root, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(root: Path, why: str) -> Iterator[None]:
    """While the block runs, nobody else works on the run.

    Raises:
        InputError: somebody does.
    """
    try:
        with _lock(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        raise InputError(
            f"a modpo command works on this run right now, and {why}",
            file=root,
            remedy="Wait until it has ended, or stop it (Ctrl-C in its terminal); what is done is kept.",
        ) from None


def remember_reuse(root: Path, places: Sequence[str]) -> None:
    """Write down that the run takes results from ``places``, too (absolute paths)."""
    if places:
        write_text(root / REUSE_FILE, json.dumps(list(dict.fromkeys([*reused(root), *places])), indent=1))


def reused(root: Path) -> tuple[str, ...]:
    """What :func:`remember_reuse` wrote down."""
    return tuple(read_document(root / REUSE_FILE, "Remove it, and give --reuse again.", []))


@contextmanager
def _lock(root: Path, how: int) -> Iterator[None]:
    with open(root / LOCK, "a") as stream:
        fcntl.flock(stream, how)
        yield
