"""A finished tiny run, made once, and copies of it that a test may change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.run import Run
from tests.tiny_study import tiny_study, write_study


class Finished:
    """A finished run in a folder of its own, with the study and the files that it reads."""

    def __init__(self, folder: Path, raw: dict[str, Any]) -> None:
        self.folder, self.raw = folder, raw

    @property
    def root(self) -> Path:
        return self.folder / "run"

    def run(self) -> Run:
        return Run.open(self.root)

    def write(self) -> Path:
        """The study as it is in ``raw`` now, as a file."""
        return write_study(self.folder, self.raw)

    def modpo(self, *words: object, expect: int = 0) -> str:
        command = [sys.executable, "-m", "modpo_hpc", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def follow(self, *words: object, expect: int = 0) -> str:
        return self.modpo("run", self.write(), "--run", self.root, *words, expect=expect)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("tiny")
    one = Finished(folder, tiny_study(folder))
    one.follow()
    return one


@pytest.fixture
def finished(original: Finished, tmp_path: Path) -> Finished:
    """A copy; its paths are those of the copy."""
    return copied(original, tmp_path / "copy")


@pytest.fixture
def another(original: Finished, tmp_path: Path) -> Callable[[str], Finished]:
    """More copies, by name."""
    return lambda name: copied(original, tmp_path / name)


def copied(original: Finished, place: Path) -> Finished:
    subprocess.run(["cp", "-a", str(original.folder), str(place)], check=True)
    return Finished(place, json.loads(json.dumps(original.raw).replace(str(original.folder), str(place))))
