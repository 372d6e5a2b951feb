"""A stage is whole: what the rest of the house must know of it stands on it, and holds for every stage."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from modpo_hpc.core.identity import NOT_IDENTITY, identity_fields
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.estimate import plan_stages
from modpo_hpc.launch.profile import load_profile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.resources import shipped
from modpo_hpc.stages.stage import Stage
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY

EVERYTHING = (
    "rewards.score_answers=true",
    "rewards.compare_losses=true",
    "rewards.learning_curve=[0.5]",
    "alignment.search.trials=2",
    "alignment.policies.One={method: conditioned, criteria: {empathy: 1, safety: 1}, "
    "start: {empathy: DPO_Empathy, safety: DPO_Safety}}",
    "alignment.sweep=[{name: MODPO, method: modpo, criteria: [empathy, safety], weights: 3}]",
    "judging.repeats={comparisons: 5}",
    "personalization={teach_questions: 10, test_questions: 50}",
    "toxicity.backends={words: {kind: words}, model: {kind: classifier}}",
)
TRAINED = (
    *("responses", "reward_trials", "rewards", "scores", "policy_trials", "policies"),
    *("conditioned", "answers", "answer_scores"),
)
NAMES = [stage.name for stage in STAGES]


@pytest.fixture(scope="module")
def study() -> Study:
    """A study in which every stage has work."""
    return load_study(REPOSITORY / "configs" / "demo.yaml", EVERYTHING)


def items(stage: Stage, study: Study) -> dict[str, str]:
    """Item -> one of its shards."""
    return {stage.item(shard): shard for shard in stage.shards(study)}


def test_no_recipe_hides_a_module_of_python() -> None:
    """A recipe that is run as a script has its folder first on the path: jobs/profile.py would break cProfile."""
    assert not sys.stdlib_module_names & {stage.verb for stage in STAGES}


@pytest.mark.parametrize("name", [stage.name for stage in STAGES if stage.in_blocks])
def test_what_is_cut_into_blocks_has_a_shard_for_each_block(name: str) -> None:
    """A block without a shard is work that nobody does: ``Shard.block`` gives a shard its part alone."""
    study = load_study(REPOSITORY / "configs" / "demo.yaml", [*EVERYTHING, f"shards.{name}=3"])
    stage = stage_named(name)
    of_item: dict[str, list[str]] = {}
    for shard in stage.shards(study):
        of_item.setdefault(stage.item(shard), []).append(shard.rpartition(".")[2])
    assert of_item
    assert all(blocks == ["0", "1", "2"] for blocks in of_item.values()), of_item


def test_the_report_reads_every_stage(study: Study) -> None:
    """It counts the cost of all of them; in this study each has work."""
    report = stage_named("report")
    assert {*report.needs_of_item(study, "all")} == {*NAMES} - {"report"}


@pytest.mark.parametrize("stage", STAGES, ids=NAMES)
def test_what_a_stage_reads_is_there(stage: Stage, study: Study) -> None:
    found = items(stage, study)
    assert found, "every stage has shards in this study"
    for item in found:
        identity, readable = stage.fields_of_item(item)
        identity_fields(study, readable)
        assert set(identity) <= set(readable)
        known = NAMES[: NAMES.index(stage.name)]
        for need, chosen in stage.needs_of_item(study, item).items():
            assert need in known, "work flows one way"
            assert need in (*stage.needs, *stage.reads_too)
            assert set(chosen or ()) <= set(stage_named(need).shards(study)), "only shards that there are"
        assert isinstance(stage.contents(study, item), dict)
    assert stage.needed_stages(study) <= set(stage.needs)


@pytest.mark.parametrize("stage", STAGES, ids=NAMES)
def test_a_stage_has_its_recipe_and_in_a_rehearsal_a_stand_in_for_its_models(stage: Stage) -> None:
    assert shipped(f"jobs/{stage.verb}.py").is_file()
    stand_in = REPOSITORY / "modpo_hpc" / "rehearsal" / "jobs" / f"{stage.verb}.py"
    assert stand_in.is_file() or not stage.uses_models or stage.name == "pairs", "pairs only count tokens"


@pytest.mark.parametrize("profile", ["gpu", "gpu-preemptible"])
@pytest.mark.parametrize("name", TRAINED)
def test_what_loads_real_models_gets_a_gpu_from_the_shipped_profiles(profile: str, name: str) -> None:
    paper = load_study(REPOSITORY / "configs" / "paper.yaml", EVERYTHING[:-2])
    stage = stage_named(name)
    assert stage.uses_models
    allocation = allocate(load_profile(profile), paper, stage)
    assert allocation.gpus >= 1
    assert allocation.memory_gb >= 32


def test_the_plan_counts_the_work_of_every_stage_that_takes_time(study: Study) -> None:
    rows = plan_stages(
        study, load_profile("gpu"), Counts(100, 20), {one.name: one.shards(study)[:1] for one in STAGES}, {}
    )
    assert [row.stage for row in rows] == NAMES
    with_work = {row.stage for row in rows if row.workload.seconds > 0}
    assert with_work == {*TRAINED, "rankings", "verdicts", "repeats", "preferences", "personal_verdicts"}
    for row in rows:
        stage, larger = stage_named(row.stage), Counts(1000, 200)
        more = stage.workload(study, larger, load_profile("gpu").speeds).seconds
        assert more == pytest.approx(row.workload.seconds * 10**stage.growth.questions), "as its growth says"


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in _models(field.annotation):
            yield from fields_of(part, f"{prefix}{name}.")
            yield from fields_of(part, f"{prefix}{name}.NAME.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    found = [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
    return found + [one for part in getattr(annotation, "__args__", ()) for one in _models(part)]


@pytest.mark.parametrize("pattern", NOT_IDENTITY)
def test_what_is_no_part_of_the_identity_is_a_field_with_a_reason(pattern: str) -> None:
    known = {*fields_of(Study), "alignment.policies.NAME.training"}
    assert [field for field in known if fnmatch.fnmatchcase(field, pattern)], "no such field any more"
    assert len(NOT_IDENTITY[pattern]) > 3
