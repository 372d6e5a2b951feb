"""A Slurm test bed for the session, and a study on it whose shards do what a test tells them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from modpo_hpc.cli.main import main
from modpo_hpc.generation.machine import is_free
from modpo_hpc.pipeline import STAGES
from tests.conftest import REPOSITORY
from tests.machine import ACCOUNTING, SLURM, SYSTEM_PATH
from tests.slurm.fates import write_recipes
from tests.waiting import PATIENCE, wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


def testbed_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("testbed", REPOSITORY / "slurm" / "testbed" / "testbed.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def start_bed(name: str, **settings: Any) -> Any:
    """A running test bed in a short folder of its own (socket paths are short), with ports of this process."""
    module = testbed_module()
    for need in (SLURM, ACCOUNTING)[: 1 + settings.get("accounting", True)]:
        if need.missing:
            pytest.skip(need.reason)
    folder = Path(f"/tmp/mb{os.getpid()}{name}")
    bed = module.TestBed(folder, port=free_ports(), **settings)
    try:
        bed.start()
    except SystemExit:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return bed


def free_ports() -> int:
    """The first of twenty ports in a row that nobody listens on, below those that the kernel gives out by itself."""
    for first in range(21000 + os.getpid() % 500 * 20, 32000, 20):
        if all(is_free(port) for port in range(first, first + 20)):
            return first
    raise AssertionError("no twenty free ports in a row")


def stop_bed(bed: Any) -> None:
    bed.stop()
    shutil.rmtree(bed.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def bed() -> Iterator[Any]:
    running = start_bed("a")
    yield running
    stop_bed(running)


class Cluster:
    """A test bed as a person uses it: a terminal, a study, a profile."""

    def __init__(self, bed: Any, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.bed, self.folder, self.run_dir, self._capture = bed, folder, folder / "study", capture
        self.tended_by: subprocess.Popen[Any] | None = None
        self.fates = folder / "fates"
        self.fates.mkdir()
        write_recipes(folder / "recipes")
        study = yaml.safe_load((REPOSITORY / "configs" / "demo.yaml").read_text())
        study["shards"] = {"responses": 8, "rankings": 2}
        study["resources"] = {stage.name: {"memory_gb": 0.4, "minutes": 30} for stage in STAGES}
        self.study = folder / "study.yaml"
        self.study.write_text(yaml.safe_dump(study))
        self.profile({"partition": "cpu"})

    def profile(self, fields: dict[str, Any]) -> None:
        limits = {"signal_seconds": 30, "throttle": 8, "timeouts": 2, "preemptions": 3, **fields.pop("limits", {})}
        (self.folder / "profile.yaml").write_text(yaml.safe_dump({**fields, "limits": limits}))

    def __call__(self, *words: object) -> tuple[int, str]:
        """Exit code and output of a modpo command."""
        self._capture.readouterr()
        code = main([str(word) for word in words])
        captured = self._capture.readouterr()
        return code, captured.out + captured.err

    def submit(self, *words: object, expect: int = 0) -> str:
        code, output = self(
            "submit", self.study, "--run", self.run_dir, "--profile", self.folder / "profile.yaml", *words
        )
        assert code == expect, output
        return output

    def status(self) -> dict[str, dict[str, Any]]:
        _, output = self("status", self.run_dir, "--json")
        return {stage["stage"]: stage for stage in json.loads(output)["stages"]}

    def shards(self, stage: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self("status", self.run_dir, "--shards", stage, "--json")[1])
        return found

    def triage(self) -> dict[str, list[list[str]]]:
        """Class -> its shards."""
        found: dict[str, list[list[str]]] = {}
        for group in json.loads(self("triage", self.run_dir, "--json")[1])["groups"]:
            found.setdefault(group["class"], []).extend(group["shards"])
        return found

    def wait(self, state: Callable[[], object]) -> None:
        """Until ``state``; not for what cannot come any more, since the run has ended badly."""
        wait_until(
            state, lambda: self("status", self.run_dir)[1] + self.slurm("squeue"), pause=0.3, in_vain=self._ended_badly
        )

    def wait_for_slurm(self, state: Callable[[], object]) -> None:
        """Until ``state``, which Slurm comes to by itself, however the run has ended."""
        wait_until(state, lambda: self.slurm("squeue"), pause=0.3)

    def _ended_badly(self) -> str:
        """Why nothing changes any more: shards have failed, no other can run, and nobody tends the run."""
        if not (self.run_dir / "study.yaml").exists() or (self.tended_by and self.tended_by.poll() is None):
            return ""
        found = self.status().values()
        if any(one["running"] + one["queued"] + one["unknown"] for one in found):
            return ""
        return self("triage", self.run_dir)[1] if any(one["failed"] for one in found) else ""

    def wait_until_idle(self) -> None:
        """Until nothing of the run is running or queued; what waits for ever does not count."""
        self.wait(lambda: not any(one["running"] + one["queued"] for one in self.status().values()))

    def wait_until_still(self) -> None:
        """Until no job runs or is completing: only then has Slurm said its last word about those that ended."""
        self.wait_for_slurm(lambda: not self.slurm("squeue", "-h", "-t", "configuring,running,completing").strip())

    def wait_until_empty(self) -> None:
        """Until Slurm has let go of every job: one whose work is done is still completing for a while."""
        self.wait_for_slurm(lambda: not self.slurm("squeue", "-h").strip())

    def slurm(self, *command: str) -> str:
        """What Slurm printed. A query may fail, since jobs are forgotten; what changes something must not."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if command[0] == "sbatch" or " ".join(command).startswith(("scontrol release", "scontrol update JobId=")):
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def fate(self, stage: str, shard: str, fate: str) -> None:
        (self.fates / f"{stage}.{shard}").write_text(fate)

    def mercy(self) -> None:
        for path in self.fates.iterdir():
            path.unlink()


@pytest.fixture
def cluster(
    bed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cluster]:
    yield from clustered(bed, tmp_path, monkeypatch, capsys)


def clustered(
    bed: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cluster]:
    monkeypatch.setenv("SLURM_CONF", str(bed.conf))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{SYSTEM_PATH}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MODPO_JOBS", str(folder / "recipes"))
    monkeypatch.setenv("MODPO_TEST_FATES", str(folder / "fates"))
    one = Cluster(bed, folder, capsys)
    yield one
    one.slurm("scancel", "--user", str(os.getuid()))
    wait_until(lambda: not one.slurm("squeue", "-h").strip(), lambda: one.slurm("squeue"), pause=0.1)
