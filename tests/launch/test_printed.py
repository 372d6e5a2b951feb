"""What the commands print: words that can be copied into a shell, on narrow terminals and in poor locales."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.pipeline import STAGES
from tests.conftest import REPOSITORY
from tests.judging import worlds
from tests.launch.fake_slurm import install
from tests.launch.test_transactions import Desk, fail_with, with_a_failure

ODD = "Übung mit Leerzeichen"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    (tmp_path / ODD).mkdir()
    return Desk(tmp_path / ODD, install(monkeypatch), capsys)


def commands_in(output: str) -> list[list[str]]:
    """The words of each modpo command in what another one printed, as a shell takes them apart."""
    lines = (line.partition("modpo ")[2] for line in output.splitlines() if re.search(r"modpo \w+ ['/]", line))
    return [shlex.split(line) for line in lines]


def test_every_printed_command_can_be_copied_where_a_name_has_spaces(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert len(str(desk.root)) > 60
    with_a_failure(desk)
    fail_with(desk, "responses", "1", "ValueError: shape")
    found = [*commands_in(desk("status")[1]), *commands_in(desk("triage")[1]), *commands_in(desk("tend", "--once")[1])]
    assert {words[0] for words in found} >= {"triage", "rerun"}
    assert all(str(desk.root) in words for words in found), found


def test_no_place_stands_in_a_command_as_it_is() -> None:
    """Everywhere: a folder may have spaces, so its word in a command is quoted."""
    bare = re.compile(r"modpo [a-z]+ (?:[A-Z]+ |--[a-z]+ )*\{[\w.]+\.(?:root|path|study|run)\}")
    places = [*(REPOSITORY / "modpo_hpc").rglob("*.py"), *(REPOSITORY / "jobs").glob("*.py")]
    assert [f"{path.name}: {words}" for path in places for words in bare.findall(path.read_text())] == []


def test_watching_ends_with_where_the_results_are(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert desk.submit()[0] == 0
    for stage in STAGES:
        desk.finish(stage.name)
    code, output = desk("status", "--watch")
    assert code == 0
    assert f"modpo results {shlex.quote(str(desk.root))}" in output


def test_one_console_prints_for_all_commands() -> None:
    """The one that breaks no line: another would break the commands that it prints."""
    made = [
        path.stem for path in (REPOSITORY / "modpo_hpc").rglob("*.py") if re.search(r"\bConsole\(", path.read_text())
    ]
    assert made == ["consoles"]


def test_doctor_bears_a_locale_that_cannot_show_a_name(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": "/nonexistent"}
    command = [sys.executable, "-m", "modpo_hpc", "doctor", "--no-job", "--folder", str(folder)]
    done = subprocess.run(command, env={**os.environ, **poor}, cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 1, "there is no Slurm on this path"
    assert b"locks and renames work" in done.stdout
    assert b"Traceback" not in done.stderr


def test_the_fields_of_a_profile_are_told_without_our_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "fields"]) == 0
    fields = capsys.readouterr().out
    assert "gpu_partition" in fields
    assert "Undefined" not in fields


def test_a_shard_that_is_made_again_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = worlds.world(tmp_path / "run")
    shards = run.shard_ids("verdicts")
    command = ["rerun", "--local", "--jobs", "1", str(run.root), "verdicts"]
    assert main(command) == 0
    assert re.findall(r"(\d+) of 3\b", capsys.readouterr().out) == ["1", "2", "3"]
    assert main([*command, *shards[:2]]) == 0
    assert re.findall(r"(\d+) of 3\b", capsys.readouterr().out) == ["2", "3"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    assert main([*command, *shards[:2]]) == 0
    told = re.findall(r"(\d+)/3\b", capsys.readouterr().out)
    assert told[-1] == "3"
    assert max(map(int, told)) == 3
