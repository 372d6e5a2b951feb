"""A run follows its study: what a change touches is made again, nothing else, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modpo_hpc.core.changes import changes
from modpo_hpc.core.studies import history
from modpo_hpc.pipeline import STAGES
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.changes_of_a_study import CHANGES, StudyChange
from tests.core.conftest import Finished

pytestmark = pytest.mark.xdist_group("tiny")


def files_of(run: Run) -> dict[str, str]:
    return {
        f"{stage.name}/{name}": output.sha256
        for stage in STAGES
        if stage.name != "report"
        for marker in run.done(stage.name).values()
        for name, output in marker.outputs.items()
    }


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.name)
def test_the_plan_names_what_a_change_touches_and_nothing_else(finished: Finished, change: StudyChange) -> None:
    change.edit(finished.raw, finished.folder)
    run = Run.envisage(finished.root, load_study(finished.write()))
    found = {(one.stage, one.shard) for one in changes(run) if one.fate in ("again", "new")}
    wanted = {
        (stage, shard)
        for stage, listed in change.again.items()
        for shard in (run.shard_ids(stage) if listed == ("*",) else listed)
    }
    assert found == wanted
    assert all(one.why for one in changes(run) if one.fate == "again")


def test_a_changed_study_makes_what_it_touches_and_the_old_one_comes_back_at_once(
    finished: Finished, another: Callable[[str], Finished]
) -> None:
    before = files_of(finished.run())
    finished.raw["alignment"]["policies"]["MODPO"]["training"] = {"beta": 3.0}
    plan = finished.modpo("plan", finished.write(), "--run", finished.root)
    assert "beta: 1.0 -> 3.0" in plan
    assert "policies: MODPO" in plan
    began = {key: one.started for stage in STAGES for key, one in finished.run().done(stage.name).items()}
    finished.follow()
    changed = files_of(finished.run())
    assert (
        changed["policies/MODPO/adapter/adapter_model.safetensors"]
        != (before["policies/MODPO/adapter/adapter_model.safetensors"])
    )
    kept = finished.run().done("policies")["DPO_Empathy"]
    assert kept.started == began["DPO_Empathy"], "kept as it was"
    assert len(history(finished.root)) == 1

    anew = another("anew")
    anew.raw["alignment"]["policies"]["MODPO"]["training"] = {"beta": 3.0}
    anew.modpo("run", anew.write(), "--run", anew.folder / "fresh")
    assert changed == files_of(Run.open(anew.folder / "fresh")), "byte for byte a run from nothing"

    back = finished.modpo("run", history(finished.root)[0], "--run", finished.root)
    assert files_of(finished.run()) == before
    assert "attempt" not in back
    assert not [one for one in changes(finished.run()) if one.fate in ("again", "new")]


def test_another_run_takes_what_fits_by_its_hash_and_nothing_that_was_tampered_with(
    finished: Finished, tmp_path: Path
) -> None:
    damaged = finished.root / "policies" / "DPO_Safety" / "adapter" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    finished.raw["judging"]["phases"]["phase1"]["policies"] = ["Base", "MODPO"]
    other = tmp_path / "other"
    finished.modpo("run", finished.write(), "--run", other, "--reuse", finished.root, "--until", "verdicts")
    run = Run.open(other)
    sources = {(stage.name, shard): one.source for stage in STAGES for shard, one in run.done(stage.name).items()}
    made_here = {key for key, source in sources.items() if not source}
    assert made_here == {("policies", "DPO_Safety")}
    assert set(sources.values()) == {"", str(finished.root)}
    explained = json.loads(finished.modpo("explain", other, "policies", "MODPO", "--json"))
    assert explained["source"] == str(finished.root)
    assert explained["state"] == "done"


def test_results_of_another_study_are_refused_while_somebody_works_on_the_run(finished: Finished) -> None:
    from modpo_hpc.core import studies

    finished.raw["statistics"]["alpha"] = 0.2
    with studies.at_work(finished.root):
        said = finished.follow(expect=2)
    assert "works on this run right now" in said
    assert finished.run().study.statistics.alpha == 0.05


@pytest.mark.parametrize(
    ("name", "environment", "stage", "cause"),
    [
        ("words", {}, "rankings", "the content of criterion empathy"),
        ("recipe", {"MODPO_JOBS": "{folder}/jobs"}, "pairs", "the recipe: pairs version 1 -> vote.py"),
        ("judge", {"MODPO_JUDGE_BASE_URL": "http://127.0.0.1:1/v1"}, "rankings", "the judge that is asked, endpoint"),
        ("deepspeed", {}, "policies", "DeepSpeed configuration"),
    ],
)
def test_every_hidden_input_makes_stale_what_reads_it_and_is_named(
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    environment: dict[str, str],
    stage: str,
    cause: str,
) -> None:
    finished.follow()  # the same contents in other places: nothing is stale
    if name == "words":
        path = finished.folder / "criteria.yaml"
        path.write_text(path.read_text().replace("definition: ", "definition: Truly, ", 1))
    elif name == "recipe":
        from modpo_hpc.resources import shipped

        (finished.folder / "jobs").mkdir()
        (finished.folder / "jobs" / "vote.py").write_text(f"# a lab's own\n{shipped('jobs/vote.py').read_text()}")
    elif name == "deepspeed":
        configuration = finished.folder / "zero.json"
        configuration.write_text('{"zero_optimization": {"stage": 1}}')
        finished.raw["alignment"]["training"]["deepspeed"] = str(configuration)
    elif name == "judge":
        finished.raw["judge"] = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    run = Run.envisage(finished.root, load_study(finished.write()))
    before = run.inventory()
    if name == "deepspeed":
        was = before.made_from(stage, "MODPO").hash
        configuration.write_text('{"zero_optimization": {"stage": 2}}')
    elif name == "judge":
        was = before.made_from(stage, "0").hash
    for key, value in environment.items():
        monkeypatch.setenv(key, value.format(folder=finished.folder))
    if name in ("deepspeed", "judge"):
        shard = "MODPO" if name == "deepspeed" else "0"
        from modpo_hpc.core.changes import differences_of

        now = run.inventory().made_from(stage, shard)
        assert now.hash != was
        assert any(cause in why for why in differences_of(before.made_from(stage, shard).document, now.document))
    else:
        said = finished.modpo("explain", finished.root, stage)
        assert "stale" in said
        assert cause in said


def test_a_run_that_is_opened_elsewhere_reads_the_same_criteria_and_the_same_ledger(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.raw["criteria"]["files"] = ["criteria.yaml"]
    finished.raw["judge"] = {**finished.raw.get("judge", {}), "ledger": "answers"}
    monkeypatch.chdir(finished.folder)
    finished.follow()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "criteria.yaml").write_text("criteria: {empathy: {definition: something else}}\n")
    monkeypatch.chdir(elsewhere)
    run = finished.run()
    assert run.study.judges[0].ledger == finished.folder / "answers"
    assert not any(run.missing(stage.name) for stage in STAGES)
