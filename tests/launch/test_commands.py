"""The commands that need no Slurm: plan, verify, profile, and what a command may import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modpo_hpc.cli.main import COMMANDS, main
from modpo_hpc.core.markers import Marker, describe_output, write_marker
from modpo_hpc.launch.profile import load_profile
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY

DEMO = str(REPOSITORY / "configs" / "demo.yaml")


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict]:
    assert main(["plan", DEMO, "--json", *words]) == 0
    plan = json.loads(capsys.readouterr().out)
    return {**{stage["stage"]: stage for stage in plan["stages"]}, "total": plan["total"]}


def test_a_plan_counts_calls_and_takes_off_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys)
    assert plan["rankings"]["calls_left"] == 600 * 50
    assert plan["verdicts"]["calls_left"] == (28 + 3) * 200 * 50
    assert plan["verdicts"]["workload"]["items"] == 2 * 31 * 200 * 50
    run = Run.create(tmp_path / "run", load_study(DEMO))
    marker = Marker("personas", "all", run.inputs("personas", "all"), {}, 0.0, 7.0, "h", None, 1)
    write_marker(run.folder("personas"), marker)
    again = planned(capsys, "--run", str(run.root))
    assert again["personas"]["left"] == 0
    assert again["total"]["shards_left"] == plan["total"]["shards_left"] - 1


def test_the_price_is_that_of_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text("prices: {models: {judge: {input: 2, output: 4, batch: 0.5}}}")
    words = ("--profile", str(profile), "--set", "judge.model=judge")
    full = planned(capsys, *words, "--set", "judge.kind=openai")["verdicts"]
    work = full["workload"]
    assert full["price"] == pytest.approx((2 * work["tokens_read"] + 4 * work["tokens_written"]) / 1e6)
    assert planned(capsys, *words, "--set", "judge.kind=batch")["verdicts"]["price"] == pytest.approx(full["price"] / 2)


def plan_of(name: str, capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["plan", str(REPOSITORY / "configs" / f"{name}.yaml"), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "train", "test"), [("paper", 2379, 600), ("paper-qwen", 2379, 600), ("open-small", 1000, 200)]
)
def test_a_study_is_planned_before_its_data_is_there(
    name: str, train: int, test: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "posts.csv"
    surveys = ("--set", f"personas.surveys={{general: {tmp_path / 'survey.csv'}}}")
    plan = plan_of(name, capsys, "--set", f"data.epitome={absent}", *surveys)
    assert plan["questions"] == {"train": train, "test": test}
    assert str(absent) in plan["assumptions"][0]
    assert "survey.csv" in plan["assumptions"][1]
    assert not plan["sandbox"]


def test_a_criterion_that_no_file_defines_is_refused_before_anything_is_queued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", DEMO, "--set", "judging.phases.phase2.criteria=[overall, tempo]"]) == 2
    assert "tempo" in capsys.readouterr().err
    assert main(["plan", DEMO, "--set", f"criteria.files=[{tmp_path / 'mine.yaml'}]"]) == 2
    assert "mine.yaml, field 'criteria.files': there is no such file of criteria" in capsys.readouterr().err


def test_a_plan_does_not_guess_how_many_posts_a_file_will_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", DEMO, "--set", f"data.file={tmp_path / 'mine.csv'}"]) == 2
    assert "data.sandbox_train=N" in capsys.readouterr().err


def test_the_arithmetic_in_the_docs_is_that_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/replicate-the-paper.md does one stage of each study by hand."""
    page = (REPOSITORY / "docs" / "replicate-the-paper.md").read_text()
    posts = ("--set", "data.epitome=absent.csv")
    paper, small = plan_of("paper", capsys, *posts), plan_of("open-small", capsys, *posts)
    trials, verdicts, rankings = (
        next(one for one in plan["stages"] if one["stage"] == stage)
        for plan, stage in ((paper, "reward_trials"), (paper, "verdicts"), (small, "rankings"))
    )
    tokens = 200 * 5 * 2379 * 2 * (120 + 0.6 * 512)
    assert trials["gpu_hours"] == pytest.approx((3 * tokens / 40_000 + 200 * 90) / 3600)
    read = 300 + 120 + 2 * 0.6 * 512
    both, overall, safety = (
        (read + told) * 1.25 + criteria * 25 * 10 for told, criteria in ((417, 2), (173, 1), (291, 1))
    )
    assert verdicts["price"] == pytest.approx(600 * 50 * (21 * both + 6 * (overall + safety)) / 1e6, rel=1e-3)
    assert rankings["gpu_hours"] == pytest.approx((1000 * 10 / 8 + 2 * 90) / 3600)
    for figure in (f"{trials['gpu_hours']:.1f}", f"{verdicts['price']:,.0f}", f"{rankings['gpu_hours']:.1f}"):
        assert f"**{figure}" in page


def test_verify_finds_a_changed_a_shortened_and_a_missing_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.create(tmp_path / "run", load_study(DEMO))
    folder = run.folder("responses")
    folder.mkdir()
    for shard in "0123":
        (folder / shard).write_text("whole")
        outputs = {shard: describe_output(folder / shard)}
        write_marker(folder, Marker("responses", shard, "x", outputs, 0.0, 1.0, "h", None, 1))
    (folder / "1").write_text("WHOLE")
    (folder / "2").write_text("who")
    (folder / "3").unlink()
    assert main(["pack", "--verify", str(run.root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == 4
    assert [one["shard"] for one in found["damaged"]] == ["1", "2", "3"]


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert all(any(line.split()[:1] == [name] for line in lines) for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "found"), [(("ten",), "tend"), (("rerun", "--fai"), "--failed"), (("logs", "run", "respon"), "responses")]
)
def test_bash_completes_commands_options_and_stages(
    words: tuple[str, ...], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--completion"]) == 0
    script = capsys.readouterr().out
    line = f"COMP_WORDS=(modpo {' '.join(words)}); COMP_CWORD={len(words)}; _modpo; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


@pytest.mark.parametrize("name", ["gpu", "gpu-preemptible", "testbed"])
def test_the_shipped_profiles_are_whole(name: str) -> None:
    assert load_profile(name).description


def test_no_command_imports_torch_ray_or_transformers(tmp_path: Path) -> None:
    """Asked how it is used, every command; and those that plan and watch, at work."""
    run = Run.create(tmp_path / "run", load_study(DEMO))
    calls = [[name, "--help"] for name in COMMANDS]
    calls += [["plan", DEMO], ["status", str(run.root)], ["triage", str(run.root)], ["pack", "--verify", str(run.root)]]
    script = (
        "import sys; from modpo_hpc.cli.main import main\n"
        f"for words in {calls!r}:\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "    if found := {'torch', 'ray', 'transformers'} & set(sys.modules): sys.exit(f'{words} imports {found}')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
