"""What the check on a GPU found goes into the profile of its user, and nothing else of the file changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from modpo_hpc.cli.main import main
from modpo_hpc.launch.doctor import Finding
from modpo_hpc.launch.drafting import with_speeds
from modpo_hpc.launch.profile import load_profile
from tests.conftest import REPOSITORY

TEXTS = {
    "empty": "",
    "without speeds": "# mine\npartition: gpu  # the large one\n",
    "no value": "partition: gpu\nspeeds:\nlimits: {throttle: 3}\n",
    "flow": "speeds: {calls_per_second: 2, training_tokens_per_second: 4e3}  # guessed\npartition: gpu\n",
    "flow without it": "partition: gpu\nspeeds: {calls_per_second: 2}\n# the end\n",
    "empty flow": "speeds: {}\npartition: gpu\n",
    "block": "speeds:\n  # mine\n  training_tokens_per_second: 4000  # so\n  calls_per_second: 2\n\npartition: gpu\n",
    "block without it": "speeds:\n    calls_per_second: 2  # asked\n\n# where\npartition: gpu\n",
    "no last line": "partition: gpu\nspeeds:\n  calls_per_second: 2",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_speed_is_written_and_every_other_line_stays(kind: str, tmp_path: Path) -> None:
    before = TEXTS[kind]
    after = with_speeds(before, {"training_tokens_per_second": 12473, "startup_seconds": 41.5})
    (tmp_path / "mine.yaml").write_text(after)
    raw, wanted = yaml.safe_load(after), yaml.safe_load(before) or {}
    speeds = {**(wanted.get("speeds") or {}), "training_tokens_per_second": 12473, "startup_seconds": 41.5}
    assert raw == {**wanted, "speeds": speeds}
    assert load_profile(tmp_path / "mine.yaml").speeds.training_tokens_per_second == 12473
    for line in before.splitlines():
        if "speeds" not in line and "training_tokens" not in line:
            assert line in after.splitlines()
    assert all(part.partition("#")[2] in after for part in before.splitlines() if "#" in part)
    assert with_speeds(after, {"training_tokens_per_second": 12473}) == after


def doctor(monkeypatch: pytest.MonkeyPatch, found: list[Finding], *words: str) -> int:
    for name in ("examine_cluster", "examine_machine"):
        monkeypatch.setattr(f"modpo_hpc.cli.doctor.{name}", lambda _: [])
    monkeypatch.setattr("modpo_hpc.cli.doctor.examine_training", lambda *_: found)
    return main(["doctor", "--gpu", str(REPOSITORY / "configs/demo.yaml"), "--no-job", *words])


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_doctor_writes_what_it_found_unless_something_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: str
) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("partition: gpu\n")
    speed = Finding("speed", "good", "12,473 tokens a second", {"training_tokens_per_second": 12473})
    found = [Finding("GPU", "bad" if verdict == "bad" else "good", "one"), speed]
    code = doctor(monkeypatch, found, "--profile", str(profile), "--write")
    said = capsys.readouterr().out
    if verdict == "good":
        assert code == 0
        assert load_profile(profile).speeds.training_tokens_per_second == 12473
        assert "nowsaystraining_tokens_per_second:12473" in "".join(said.split())
    else:
        assert code == 1
        assert profile.read_text() == "partition: gpu\n"


@pytest.mark.parametrize("words", [(), ("--profile", "gpu")])
def test_where_there_is_no_file_to_write_to_it_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert doctor(monkeypatch, [], *words, "--write") == 2
    assert "modpo profile show" in " ".join(capsys.readouterr().err.split())
