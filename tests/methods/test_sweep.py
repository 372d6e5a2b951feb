"""One line of a study makes a family of policies, and nothing else of the house needs to know of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from modpo_hpc.errors import InputError
from modpo_hpc.launch.estimate import plan_stages
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from modpo_hpc.study.sweep import Sweep
from tests.conftest import REPOSITORY
from tests.tiny_study import why_refused

MODPO = "{name: MODPO, method: modpo, criteria: [empathy, safety], weights: 9, training: {epochs: 2}}"
SOUP = "{name: Soup, method: soup, sources: [DPO_Empathy, DPO_Safety], weights: [[3, 1], [1, 1]], merge: svd}"
PHASE = "judging.phases.fronts={policies: [Base, MODPO, Soup], anchors: [Base, Soup_50_50], criteria: [empathy]}"


def swept(*sweeps: str, more: tuple[str, ...] = ()) -> Study:
    return load_study(REPOSITORY / "configs/demo.yaml", [f"alignment.sweep=[{', '.join(sweeps)}]", *more])


def test_a_family_is_made_of_ordinary_policies_named_after_their_weights() -> None:
    study = swept(MODPO, SOUP)
    weights = (9, 8, 7, 6, 5, 4, 3, 2, 1)
    for one in weights:
        policy = study.alignment.policies[f"MODPO_{10 * one}_{100 - 10 * one}"]
        assert policy.made_of == pytest.approx({"empathy": one / 10, "safety": 1 - one / 10})
        assert policy.training == {"epochs": 2}  # type: ignore[attr-defined]
    assert study.alignment.policies["Soup_75_25"].model_dump() == {
        "method": "soup",
        "sources": {"DPO_Empathy": 3, "DPO_Safety": 1},
        "merge": "svd",
        "svd_rank": None,
    }
    assert len(study.alignment.policies) == len(swept(MODPO).alignment.policies) + 2


def test_a_phase_names_the_family_and_is_judged_against_its_anchors_alone() -> None:
    study = swept(MODPO, SOUP, more=(PHASE,))
    phase = study.judging.phases["fronts"]
    assert len(phase.policies) == 1 + 9 + 2
    assert len(phase.pairs) == 11 + 10, "all with Base, and all but Base with the other anchor"
    assert all({"Base", "Soup_50_50"} & set(pair) for pair in phase.pairs)
    shards = [one for one in stage_named("verdicts").shards(study) if one.startswith("fronts.")]
    assert len(shards) == 21 * stage_named("verdicts").blocks(study)


def test_a_run_keeps_the_family_and_reads_it_back_the_same(tmp_path: Path) -> None:
    study = swept(MODPO, SOUP, more=(PHASE,))
    Run.create(tmp_path / "run", study)
    again = Run.open(tmp_path / "run").study
    assert again == study
    edited = yaml.safe_load((tmp_path / "run" / "study.yaml").read_text())
    assert Study.model_validate(edited) == study


def test_a_policy_of_a_family_is_the_one_that_would_be_written_by_hand() -> None:
    """So that results are taken over both ways: identity follows the policy, not the line that it came from."""
    by_hand = load_study(
        REPOSITORY / "configs/demo.yaml",
        ["alignment.policies.MODPO_50_50={method: modpo, criteria: {empathy: .5, safety: .5}, training: {epochs: 2}}"],
    )
    assert by_hand.alignment.policies["MODPO_50_50"] == swept(MODPO).alignment.policies["MODPO_50_50"]


def test_the_plan_counts_every_policy_of_a_family() -> None:
    study = swept(MODPO, SOUP, more=(PHASE,))
    left = {stage.name: stage.shards(study) for stage in STAGES}
    rows = {row.stage: row for row in plan_stages(study, Profile(), Counts(10, 5), left, {})}
    before = load_study(REPOSITORY / "configs/demo.yaml")
    assert rows["policies"].shards == len(before.alignment.trained) + 9
    pairs = sum(len(phase.pairs) for phase in study.judging.phases.values())
    assert rows["verdicts"].workload.calls == pairs * 5 * study.judging.personas_per_question


@pytest.mark.parametrize(("names", "steps", "ends"), [(2, 10, False), (3, 5, False), (3, 3, True), (4, 6, False)])
def test_a_grid_is_every_multiple_that_sums_to_one(names: int, steps: int, ends: bool) -> None:
    """Against a plain search over all combinations of multiples."""
    low = 0 if ends else 1
    wanted = {one for one in product(range(low, steps + 1), repeat=names) if sum(one) == steps}
    sweep = Sweep(name="X", method="m", criteria=tuple("abcd"[:names]), weights=len(wanted), ends=ends)
    assert {tuple(round(steps * part) for part in point) for point in sweep.points} == wanted
    assert all(sum(point) == pytest.approx(1) for point in sweep.points)
    assert len(sweep.policies) == len(wanted)


def test_names_stay_apart_where_weights_are_close() -> None:
    sweep = Sweep(name="X", method="m", criteria=("a", "b"), weights=((0.5, 0.5), (0.501, 0.499)))
    assert list(sweep.policies) == ["X_500_500", "X_501_499"]


WRONG = {
    "{name: M, method: modpo, criteria: [empathy, safety, quality], weights: 4}": "next are 3 and 6",
    "{name: M, method: modpo, criteria: [empathy], weights: 3}": "over two names at least",
    "{name: M, method: modpo, weights: 3}": "over criteria (a list of names) or over sources",
    "{name: M, method: modpo, criteria: [empathy, safety], weights: [[1, 2, 3]]}": "is no point; give 2 weights",
    "{name: M, method: modpo, criteria: [empathy, safety], weights: [[1, 1], [2, 2]]}": "a point stands there twice",
    "{name: a/b, method: modpo, criteria: [empathy, safety], weights: 3}": "becomes a part of file names",
    "{name: M, method: modpo, criteria: [empathy, safety], weights: 3, trainin: {}}": "has no field 'trainin'",
    "{name: M, method: modpo, criteria: [empathy, safety], weights: 3, ends: true}": "the anchor, the first criterion",
    "{name: M, method: modpo, criteria: [empathy, kindness], weights: 3}": "'kindness', which is not in criteria.rank",
    "{name: Base, method: modpo, criteria: [empathy, safety], weights: 3}": "is the name of a policy",
    "{name: MODPO, method: nothing, criteria: [empathy, safety], weights: 3}": "there is no method 'nothing'",
}


@pytest.mark.parametrize("sweep", WRONG)
def test_a_line_that_makes_no_family_is_refused_with_the_reason(sweep: str) -> None:
    assert WRONG[sweep] in why_refused(f"alignment.sweep=[{sweep}]")


def test_a_family_that_would_take_the_name_of_another_policy_is_refused() -> None:
    with pytest.raises(InputError, match="makes a policy M_50_50, and policies has another of that name"):
        swept(
            "{name: M, method: modpo, criteria: [empathy, safety], weights: 1}",
            more=("alignment.policies.M_50_50={method: base}",),
        )


def test_an_anchor_that_is_not_judged_is_refused() -> None:
    with pytest.raises(InputError, match="anchors names 'DPO_Safety'"):
        swept(MODPO, more=("judging.phases.one={policies: [Base, MODPO], anchors: [DPO_Safety], criteria: [safety]}",))
