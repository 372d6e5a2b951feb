"""When a study will be done: shards begin when what they read is there, as many at once as the throttle lets."""

from __future__ import annotations

import functools

import pytest

from modpo_hpc.launch.estimate import StagePlan, plan_stages
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY

LAST = "report"


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(REPOSITORY / "configs" / "demo.yaml")


def planned(study: Study, throttle: int, missing: dict[str, tuple[str, ...]] | None = None) -> dict[str, StagePlan]:
    """A plan in which every shard takes a second."""
    left = {stage.name: stage.shards(study) for stage in STAGES}
    profile = Profile.model_validate({"limits": {"throttle": throttle}})
    seconds = {stage.name: [1.0] for stage in STAGES}
    rows = plan_stages(
        study, profile, Counts(600, 200), left if missing is None else {**dict.fromkeys(left, ()), **missing}, seconds
    )
    return {row.stage: row for row in rows}


def longest_path(study: Study, missing: dict[str, tuple[str, ...]]) -> int:
    """Shards in a row that wait for each other, over all shards, by their needs alone."""

    @functools.cache
    def length(stage: str, shard: str) -> int:
        needs = stage_named(stage).needs_of_item(study, stage_named(stage).item(shard))
        read = [
            (need, one)
            for need, chosen in needs.items()
            for one in (stage_named(need).shards(study) if chosen is None else chosen)
        ]
        return max((length(*one) for one in read), default=0) + (shard in missing.get(stage, ()))

    return length(LAST, "all")


def test_without_a_throttle_it_takes_the_longest_row_of_shards(study: Study) -> None:
    every = {stage.name: stage.shards(study) for stage in STAGES}
    assert planned(study, 10**6)[LAST].ends_after_seconds == longest_path(study, every)
    some = {
        "policies": ("MODPO_Empathy",),
        "answers": ("MODPO_Empathy.0",),
        "rewards": ("empathy.final",),
        LAST: ("all",),
    }
    assert planned(study, 10**6, some)[LAST].ends_after_seconds == longest_path(study, some)


@pytest.mark.parametrize("throttle", [1, 2, 7])
def test_a_throttle_lets_no_more_at_once_and_barriers_never_win(study: Study, throttle: int) -> None:
    rows = planned(study, throttle)
    for row in rows.values():
        assert row.ends_after_seconds <= row.ends_after_barriers
        assert row.ends_after_seconds >= row.shards / throttle
    assert rows[LAST].ends_after_seconds < rows[LAST].ends_after_barriers, (
        "a policy without margins waits for no reward model"
    )


def test_what_is_done_takes_no_time(study: Study) -> None:
    assert planned(study, 3, {})[LAST].ends_after_seconds == 0
