"""What all tests share: logs kept out of the checkout, and one thread of arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests.machine import lacking
from tests.waiting import PATIENCE

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# a busy machine is no defect
hypothesis.settings.register_profile("no_clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("no_clock")
REPOSITORY = Path(__file__).resolve().parent.parent
EPITOME = REPOSITORY.parent / "shared" / "data" / "epitome" / "explorations-reddit.csv"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays on one worker, and so do all tests of Slurm: what they share is made once. First come those that
    wait more than they work, and the few that are long, so that both workers are busy to the end.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            of_slurm = item.path.parent.name == "slurm"
            item.add_marker(
                pytest.mark.xdist_group("slurm" if of_slurm else f"{item.path.parent.name} {item.path.stem}")
            )
    items.sort(key=lambda item: item.path.parent.name not in ("slurm", "spine"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing := lacking():
        terminalreporter.section("skipped for want of a program")
        terminalreporter.write_line(missing)


@pytest.fixture(autouse=True)
def _logs_of_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODPO_LOGS", str(tmp_path / "logs"))


@pytest.fixture
def modpo() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command as a person types it: ``modpo("run", "configs/demo.yaml", "--run", ...)``."""

    def call(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            [sys.executable, "-m", "modpo_hpc", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env=environment,
            timeout=PATIENCE,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return call


@pytest.fixture
def epitome() -> Path:
    """The real posts, where they lie beside the checkout."""
    if not EPITOME.exists():
        pytest.skip("EPITOME is not beside the checkout: put explorations-reddit.csv at ../shared/data/epitome/")
    return EPITOME
