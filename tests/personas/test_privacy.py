"""Who stands out, by an own count; what is said before an outside judge reads the personas."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.cli.main import main
from modpo_hpc.judging.kinds import JUDGE_KINDS
from modpo_hpc.personas.privacy import anonymity, anonymity_of_study, warning
from modpo_hpc.sandbox.survey import invented_survey
from modpo_hpc.study import load_study
from tests.personas.test_selection import surveys

DEMO = "configs/demo.yaml"
Modpo = Callable[..., CompletedProcess[str]]
TRAITS = st.tuples(st.sampled_from(["18-24", "25-34"]), st.sampled_from(["f", "m"]), st.tuples(st.sampled_from("wx")))


@given(st.lists(TRAITS, min_size=1, max_size=60), st.integers(2, 6), st.data())
def test_every_rare_combination_is_found_and_no_other(pool: list, k: int, data: st.DataObject) -> None:  # type: ignore[type-arg]
    places = data.draw(st.lists(st.integers(0, len(pool) - 1), unique=True, min_size=1))
    personas = [(f"p{place}", pool[place]) for place in places]
    found = anonymity(pool, personas, k)
    counts = Counter(pool)
    expected = {identity for identity, traits in personas if counts[traits] < k}
    assert {identity for one in found.rare for identity in one.personas} == expected
    assert found.exposed == len(expected)
    assert found.smallest == min(counts[traits] for _, traits in personas)


def test_only_an_outside_judge_is_a_reason_to_warn() -> None:
    found = anonymity_of_study(load_study(DEMO))
    assert found.rare
    assert {name for name, kind in JUDGE_KINDS.items() if kind.texts_leave} == {"openai", "batch"}
    assert str(found.exposed) in (warning(found, "openai") or "")


def test_the_commands_name_combinations_and_never_texts(tmp_path: Path, modpo: Modpo) -> None:
    before = modpo("personas", "check", DEMO, "--json")
    assert before.returncode == 1
    modpo("run", DEMO, "--run", tmp_path / "run", "--only", "personas")
    after = modpo("personas", "check", tmp_path / "run", "--json")
    count = lambda done: json.loads(done.stdout)["exposed"]  # noqa: E731
    assert count(before) > 0
    assert 0 < count(after) < 150
    shown = modpo("personas", "show", tmp_path / "run")
    assert shown.returncode == 0, shown.stderr
    assert "335 participants" in shown.stdout
    assert "sandbox: invented personas" in shown.stdout
    assert "community" in shown.stdout
    tables = json.loads(modpo("personas", "show", tmp_path / "run", "--json").stdout)
    assert len(tables["balance"]) == 10
    assert len(tables["importance"]) == 20
    for done in (before, after, shown):
        assert "You are a person" not in done.stdout
        assert "language models" not in done.stdout
    assert modpo("personas", "check", tmp_path / "run", "--k", 1).returncode == 2


def test_a_plan_and_a_run_warn_before_anything_is_made(
    tmp_path: Path, modpo: Modpo, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = invented_survey(42)
    files = surveys(tmp_path, campus=rows["campus"], community=rows["community"])
    given = json.dumps({name: str(path) for name, path in files.items()})
    settings = ["--set", f"personas.surveys={given}", "--set", "judge={kind: openai, model: some-model}"]
    assert main(["plan", DEMO, *settings]) == 0
    assert "privacy: " in capsys.readouterr().out
    assert main(["plan", DEMO, "--json", *settings]) == 0
    (caution,) = json.loads(capsys.readouterr().out)["cautions"]
    done = modpo("run", DEMO, "--run", tmp_path / "run", "--only", "personas", *settings)
    assert done.returncode == 0, done.stderr
    assert caution in done.stderr

    # of surveys that are not there yet nothing can be said, and the plan stands all the same
    for path in files.values():
        path.unlink()
    assert main(["plan", DEMO, "--json", *settings]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["cautions"] == []
    assert any("campus.csv" in sentence for sentence in planned["assumptions"])


def test_a_judge_in_the_house_is_no_reason_to_warn_in_a_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = surveys(tmp_path, **invented_survey(42))
    given = json.dumps({name: str(path) for name, path in files.items()})
    assert main(["plan", DEMO, "--json", "--set", f"personas.surveys={given}"]) == 0
    assert json.loads(capsys.readouterr().out)["cautions"] == []
