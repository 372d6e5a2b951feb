"""A Slurm in this process: it keeps a queue, answers as Slurm's commands do, and fails when a test says so."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from modpo_hpc.launch import commands

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
LIMIT = (
    "sbatch: error: AssocMaxSubmitJobLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


class Killed(BaseException):
    """The command was killed here."""


@dataclass
class Array:
    """A job or an array: the state of each element, and all options of its script."""

    states: dict[str, str]
    options: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeSlurm:
    """``fault`` is the number of the call at which it fails, and how: ``killed``, ``silent`` or ``away``, ``before`` or
    ``after`` the call has done its work. Silence lasts until ``fault`` is taken away."""

    cluster: str = "one"
    arrays: dict[str, Array] = field(default_factory=dict)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    fault: tuple[int, str, str] | None = None
    limit: int = 10**9
    partitions: str = "cpu|infinite\n"
    last: int = 100
    TimeoutExpired = subprocess.TimeoutExpired

    def run(self, command: tuple[str, ...], **options: object) -> SimpleNamespace:
        self.calls.append(tuple(command))
        number, kind, when = self.fault or (0, "", "")
        hit = number == len(self.calls)
        if (hit and when == "before") or (number and len(self.calls) > number):
            if kind == "away":
                return SimpleNamespace(returncode=1, stdout="", stderr=AWAY)
            self._fail(kind, command)
        try:
            output = self._answer(command, options)
        except ValueError as error:
            return SimpleNamespace(returncode=1, stdout="", stderr=str(error))
        if hit:
            self._fail(kind, command)
        return SimpleNamespace(returncode=0, stdout=output, stderr="")

    def _fail(self, kind: str, command: tuple[str, ...]) -> None:
        if kind == "killed":
            raise Killed
        raise subprocess.TimeoutExpired(command, 10)

    def _answer(self, command: tuple[str, ...], options: dict[str, object]) -> str:
        program, *words = command
        if program == "sbatch":
            given = "".join(f"#SBATCH {word}\n" for word in words if word.startswith("--comment="))
            text = given + str(options.get("input") or "") if options.get("input") else Path(words[-1]).read_text()
            return self._sbatch(text, "--test-only" in words)
        if program == "squeue":
            wanted = next((word.partition("=")[2].split(",") for word in words if word.startswith("--jobs=")), None)
            return self._squeue(wanted)
        if program == "scancel":
            self._cancel(words)
        if program == "scontrol" and words[0] == "release":
            number, _, element = words[1].partition("_")
            self.arrays[number].reasons.pop(element)
        if program == "sacct":
            raise ValueError("Slurm accounting storage is disabled")
        if program == "sinfo":
            return self.partitions
        return f"ClusterName = {self.cluster}\nMaxArraySize = 1001\n" if "config" in words else ""

    def _sbatch(self, text: str, test_only: bool) -> str:
        found = dict(re.findall(r"^#SBATCH --([\w-]+)='?(.*?)'?$", text, re.MULTILINE))
        count = int(re.match(r"0-(\d+)", found["array"])[1]) + 1 if "array" in found else 1  # type: ignore[index]
        if test_only:
            return ""
        alive = sum(state not in ENDED for one in self.arrays.values() for state in one.states.values())
        if alive + count > self.limit:
            raise ValueError(LIMIT)
        self.last += 1
        elements = [str(index) for index in range(count)] if "array" in found else [""]
        self.arrays[str(self.last)] = Array(dict.fromkeys(elements, "PENDING"), found)
        return f"{self.last}\n"

    def _squeue(self, wanted: list[str] | None) -> str:
        lines = []
        for number, one in self.arrays.items():
            for element, state in one.states.items():
                if wanted is None or number in wanted:
                    job = f"{number}_{element}" if element else number
                    reason = one.reasons.get(element) or self._reason(one) if state == "PENDING" else "None"
                    comment = one.options.get("comment", "")
                    lines.append(f"{job}|{number}|{state}|N/A|N/A|n1|0:00|{comment}|{reason}\n")
        return "".join(lines)

    def _reason(self, one: Array) -> str:
        needed = re.findall(r"(\d+)(?:_(\d+))?", one.options.get("dependency", ""))
        kind = one.options.get("dependency", "").partition(":")[0]
        states = [
            state
            for number, element in needed
            if number in self.arrays
            for index, state in self.arrays[number].states.items()
            if not element or element == index
        ]
        if kind == "afterok" and any(state in ENDED and state != "COMPLETED" for state in states):
            return "DependencyNeverSatisfied"
        return "Dependency" if any(state != "COMPLETED" for state in states) else "Priority"

    def _cancel(self, jobs: list[str]) -> None:
        for job in jobs:
            number, _, element = job.partition("_")
            states = self.arrays[number].states
            for index in [element] if "_" in job else list(states):
                if states[index] not in ENDED:
                    states[index] = "CANCELLED"

    def end(self, job: str, state: str) -> None:
        """The job ends so."""
        number, _, element = job.partition("_")
        self.arrays[number].states[element] = state

    def alive(self) -> list[str]:
        """Every job that waits or runs and can still come to something."""
        return [
            f"{number}_{element}" if element else number
            for number, one in self.arrays.items()
            for element, state in one.states.items()
            if state not in ENDED and self._reason(one) != "DependencyNeverSatisfied"
        ]


def install(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A fake Slurm in the place of the machine's, which never makes anybody wait."""
    fake = FakeSlurm()
    no_wait = SimpleNamespace(sleep=lambda _: None, time=lambda: 1e9)
    monkeypatch.setattr(commands, "subprocess", fake)
    monkeypatch.setattr(commands, "time", no_wait)
    monkeypatch.setattr(commands, "shutil", SimpleNamespace(which=lambda name: name))
    monkeypatch.setattr(commands, "WAIT_SECONDS", 0.0)
    return fake
