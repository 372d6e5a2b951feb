"""The audit by commands: the paper's counts, a run without and with people's labels, and what it must not say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report.audit import audit_section, section_of
from modpo_hpc.report.human import human_section
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from tests.every_number import assert_traced

Command = Callable[..., CompletedProcess[str]]


def test_the_papers_counts_step_by_step(command: Command) -> None:
    shown = command("audit", "--counts", 40, 16, 9, 23)
    assert "sensitivity .714" in shown.stdout
    assert "specificity .719" in shown.stdout
    shown = command("audit", "--counts", 40, 16, 9, 23, "--rate", 0.54, "--of", 600)
    assert "corrected .598 [.299, .872]" in shown.stdout
    shown = command("audit", "--counts", 40, 16, 9, 23, "--rate", 0.54, "--of", 600, "--drawn")
    assert "corrected .630 [.534, .717]" in shown.stdout
    shown = command("audit", "--counts", 64, 0, 27, 0, "--rate", 0.7, "--of", 600)
    assert "worth nothing" in shown.stdout
    assert "[0, 1]" in shown.stdout
    whole = json.loads(command("audit", "--counts", 64, 0, 27, 0, "--rate", 0.7, "--of", 600, "--json").stdout)
    assert whole["corrected"]["constant"] is True


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--counts", 40, 16, 9, -1),
        ("--counts", 40, 16, 9, 23, "--rate", 0.5),
        ("--counts", 40, 16, 9, 23, "--rate", 1.5, "--of", 600),
        ("--counts", 40, 16, 9, 23, "--rate", 0.5, "--of", 80, "--drawn"),
    ],
)
def test_wrong_calls_are_refused(command: Command, words: tuple[object, ...]) -> None:
    refused = command("audit", *words)
    assert refused.returncode == 2
    assert "error: " in refused.stderr


def test_a_run_before_and_after_people_were_asked(made_run: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    said = audit_section(Run.open(run)).findings
    assert [one for one in said if one.startswith("Not known: ") and "nobody was asked" in one]
    assert [one for one in said if one.startswith("Next: ") and "modpo human sample" in one]
    for words in (("sample", run, "--questions", 40), ("forms", run, "--raters", 3), ("simulate", run)):
        assert command("human", *words).returncode == 0
    assert command("human", "analyze", run, "--bootstrap", 20).returncode == 0
    shown = command("audit", run)
    assert shown.returncode == 0, shown.stderr
    for said in (
        "sandbox: simulated raters",
        "by the label of simulated raters, 40 of them known",
        "in no interval",
        "wording",
    ):
        assert said in shown.stdout.replace("\n", " ")
    document = json.loads(command("audit", run, "--calls", 100_000, "--json").stdout)
    safety = next(row for row in document["people"]["criteria"] if row["criterion"] == "safety")
    powered = safety["prediction_powered"]
    assert powered["labels"] == 40
    assert powered["questions"] == 120
    assert powered["low"] < powered["estimate"] < powered["high"]
    assert sum(safety["counts"].values()) <= 40
    assert safety["corrected"]["drawn"]
    assert abs(safety["corrected"]["estimate"] - powered["estimate"]) < 0.1
    assert document["components"][0]["calls"] == 100_000
    assert document["components"][0]["total"] > document["components"][0]["naive"]
    assert document["components"][0]["purchases"]
    kept = run / "audit" / "audit.json"
    assert json.loads(kept.read_text()) == document
    assert kept.stat().st_mode & 0o077 == 0
    section = audit_section(Run.open(run))
    assert section.figures[0].draw().axes
    assert {table.file for table in section.tables} >= {"audit_prediction_powered", "audit_corrected", "audit_design"}
    run_shard(str(run), "statistics", "all")
    assert_traced(Run.open(run), "audit_corrected", "audit_prediction_powered", "human_outcomes")
    # the same labels from a file: every one of its questions counts as drawn at random
    judged = pd.read_parquet(run / "human" / "analysis" / "judgments.parquet")
    imported = tmp_path / "labels.csv"
    judged[["question_id", "criterion", "winner", "rater"]].to_csv(imported, index=False)
    again = json.loads(command("audit", run, "--labels", imported, "--json").stdout)
    other = next(row for row in again["people"]["criteria"] if row["criterion"] == "safety")
    assert other["prediction_powered"] == pytest.approx(powered)
    assert again["people"]["simulated"] is False


def test_random_raters_get_no_flattering_sentence(made_run: Path, tmp_path: Path, command: Command) -> None:
    """Six raters who click anything: their labels say nothing of model or judge, in no section and no command."""
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    for words in (("sample", run, "--questions", 60), ("forms", run, "--raters", 6), ("simulate", run)):
        assert command("human", *words).returncode == 0
    rng = rng_of("clicks")
    for path in sorted((run / "human" / "answers").glob("*.json")):
        form = json.loads(path.read_text())
        for given in form["answers"].values():
            given |= {criterion: str(rng.choice(["A", "B", "equal"])) for criterion in given}
        path.write_text(json.dumps(form))
    analyzed = command("human", "analyze", run, "--bootstrap", 200)
    assert analyzed.returncode == 0
    audited = command("audit", run)
    assert audited.returncode == 0
    opened = Run.open(run)
    sections = [human_section(opened), audit_section(opened)]
    said = " ".join([*(one for section in sections for one in section.findings), analyzed.stdout, audited.stdout])
    people = json.loads((run / "audit" / "audit.json").read_text())["people"]["criteria"]
    at_odds = [row["criterion"] for row in people if row["raters"]["at_odds"]]
    assert at_odds == ["safety", "overall"]
    for flattering in ("may replace", "labels more", "one half", "preferred most clearly", "is right on"):
        assert flattering not in said
    assert "no better than chance" in " ".join(sections[0].findings)
    assert "say nothing for the judge or against it" in " ".join(sections[1].findings)
    assert "no more labels for safety, overall until raters agree" in " ".join(sections[1].findings)


def test_an_audit_that_another_version_kept_is_not_read(made_run: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    command("audit", run)
    kept = run / "audit" / "audit.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "version": 1}))
    with pytest.raises(InputError, match="another version"):
        audit_section(Run.open(run))


def test_files_of_labels_that_do_not_fit_are_named(made_run: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "labels.csv"
    for text, said in (
        ("question_id,winner\nq001,A\n", "criterion"),
        ("question_id,criterion,winner\nq001,safety,Base\n", "line 2 has a winner"),
        ("question_id,criterion,winner\nq999,safety,A\n", "line 2 has a question_id"),
        ("question_id,criterion,winner\nq001,safety,A\nq001,safety,B\n", "judged a question twice"),
        ("", "cannot be read"),
    ):
        path.write_text(text)
        refused = command("audit", made_run, "--labels", path)
        assert refused.returncode == 2, refused.stdout
        assert said in refused.stderr
    assert command("audit", made_run, "--with", made_run).returncode == 2


def test_labels_that_follow_nothing_make_the_judge_worth_nothing(
    made_run: Path, tmp_path: Path, command: Command
) -> None:
    """Raters who click at random: no flattering sentence about the judge."""
    questions = [f"q{place:03d}" for place in range(60)]
    path = tmp_path / "labels.csv"
    rows = [f"{name},overall,{'AB'[(7 * place) % 5 % 2]}" for place, name in enumerate(questions)]
    path.write_text("\n".join(["question_id,criterion,winner", *rows]))
    found = json.loads(command("audit", made_run, "--labels", path, "--json").stdout)
    shutil.rmtree(made_run / "audit")
    said = " ".join(section_of(found).findings)
    assert "worth nothing that can be shown" in said
    assert "open" in said
    assert "labels more" not in said
