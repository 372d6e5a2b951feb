"""The stages of personalization on a small world, through the one shard entry, and what a study may not ask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modpo_hpc.checks import check_inputs
from modpo_hpc.core.changes import changes
from modpo_hpc.core.declared_run import DeclaredRun
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.personalization import material, power
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.report.personalization import personalization_section
from modpo_hpc.run import Run
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.sandbox.judge import reply_values
from modpo_hpc.sandbox.survey import CRITERIA
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study, load_study, parse_study
from tests.conftest import REPOSITORY
from tests.judging.worlds import put

OWN = ("preferences", "profiles", "personal_verdicts", "personalization")
RANK = (*CRITERIA, "safety")


def study(**fields: Any) -> dict[str, Any]:
    """A study of 24 test personas, 110 training questions of five responses each, and the section."""
    return {
        "name": "personal",
        "data": {"sandbox_train": 110, "sandbox_test": 4},
        "personas": {"select": 40, "train": 16, "test": 24},
        "criteria": {"rank": list(RANK)},
        "judge": {"kind": "rules"},
        "ranking": {"personas_per_question": 4},
        "alignment": {
            "policies": {"Base": {"method": "base"}, "DPO": {"method": "dpo", "criteria": {"empathy": 1}}}
        },
        "judging": {
            "personas_per_question": 24,
            "phases": {"one": {"policies": ["Base", "DPO"], "criteria": ["overall", "safety"]}},
        },
        "personalization": {"teach_questions": 30, "test_questions": 80, "permutations": 999, **fields},
    }  # fmt: skip


def world(folder: Path, raw: dict[str, Any]) -> Run:
    """A run with real questions and personas, composed responses, and rewards that know what replies are worth."""
    run = Run.create(folder, parse_study(raw, source="test"))
    for stage in ("questions", "personas"):
        run_shard(str(run.root), stage, "all")
    posts = [post for post in run.table("questions").to_pylist() if post["split"] == "train"]
    rows = [
        {"question_id": post["question_id"], "response_id": f"{post['question_id']}.r{place}", "text": text}
        for post in posts
        for place in range(5)
        for text in [compose_reply(post["text"], rng_of(1, post["question_id"], place))]
    ]
    for role in run.shard_ids("models"):
        put(run, "models", role, [{"nothing": 0}])
    size, asked = len(rows) // 4 // 5 * 5, {post["question_id"]: post["text"] for post in posts}
    for block in range(4):
        put(run, "responses", str(block), rows[block * size : (block + 1) * size if block < 3 else None])
    for stage in ("rankings", "pairs", "reward_trials", "rewards"):
        for shard in run.shard_ids(stage):
            put(run, stage, shard, [{"nothing": 0}])
    for criterion in RANK:
        worth = [3 * reply_values(row["text"], asked[row["question_id"]])[criterion] for row in rows]
        scored = [
            {"question_id": row["question_id"], "response_id": row["response_id"], "criterion": criterion,
             "reward": reward}
            for row, reward in zip(rows, worth, strict=True)
        ]  # fmt: skip
        put(run, "scores", f"{criterion}.0", scored)
    return run


def make(run: Run, *stages: str) -> None:
    for stage in stages or OWN:
        for shard in run.shard_ids(stage):
            run_shard(str(run.root), stage, shard)


@pytest.fixture(scope="module")
def dialled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the positive control."""
    run = world(tmp_path_factory.mktemp("dialled") / "run", study(dial=4.0))
    make(run)
    return run


def followed(run: Run, folder: Path, raw: dict[str, Any]) -> Run:
    """A copy of ``run`` that follows another study, with everything made that it lacks."""
    shutil.copytree(run.root, folder)
    other = Run.create(folder, parse_study(raw, source="test"))
    make(other)
    return other


def effect(run: Run, arm: str = "rankings", against: str = "others") -> dict[str, Any]:
    rows = run.table("personalization").to_pylist()
    (found,) = [row for row in rows if (row["arm"], row["against"]) == (arm, against)]
    return dict(found)


def test_the_dial_is_found_and_a_stranger_is_not(dialled: Run) -> None:
    for arm in ("rankings", "ratings"):
        assert effect(dialled, arm)["found"]
        assert effect(dialled, arm)["p_adjusted"] < 0.01
        assert effect(dialled, arm, "population")["estimate"] > 0
        stranger = effect(dialled, arm, "stranger")
        assert stranger["p"] > 0.05
        assert not stranger["found"]
    gate = json.loads((dialled.folder("profiles") / "gate.json").read_text())
    assert gate["something"]
    assert gate["stated"] > 0.5
    assert gate["sandbox"]


def test_at_the_surveys_own_heterogeneity_nothing_is_found(dialled: Run, tmp_path: Path) -> None:
    run = followed(dialled, tmp_path / "run", study())
    assert not any(row["found"] for row in run.table("personalization").to_pylist())


def test_what_teaches_weights_does_not_test_them_and_everybody_is_asked(dialled: Run) -> None:
    taught, tested = (dialled.table(stage).to_pandas() for stage in ("preferences", "personal_verdicts"))
    assert not set(taught["question_id"]) & set(tested["question_id"])
    assert len(taught) == 30 * 24
    assert tested.groupby("criterion", observed=True).size().to_dict() == {"overall": 80 * 24, "safety": 80 * 24}
    with pytest.raises(InputError, match="both teach"):
        material.refuse_shared(["q1", "q2"], ["q2", "q3"])


def test_nobody_weighs_safety_less_than_the_population(dialled: Run) -> None:
    profiles = dialled.table("profiles").to_pandas()
    assert profiles.groupby(["arm", "persona_id"])["weight"].apply(lambda one: one.abs().sum()).to_numpy() == (
        pytest.approx(1)
    )
    safety = profiles[profiles["criterion"] == "safety"]
    for _, of_arm in safety.groupby("arm"):
        common = of_arm[of_arm["persona_id"] == ""]["weight"].item()
        assert common >= 0.1
        assert (of_arm["weight"] >= common - 1e-12).all()


def test_the_report_says_what_was_found_and_what_it_would_take(dialled: Run) -> None:
    section = personalization_section(DeclaredRun(dialled, stage_named("report"), "all"))
    assert section is not None
    told = " ".join(section.findings)
    assert "That is personal" in told
    assert "positive control" in told
    assert "2605.13307" in told
    assert "not those of people" in told
    assert len(section.tables[0].rows) == 9
    share = effect(dialled)["estimate"]
    assert f"{50 + 100 * share:.2f}%" in section.tables[0].rows[0][2]


def test_blocks_of_questions_change_no_judgment(dialled: Run, tmp_path: Path) -> None:
    raw = study(dial=4.0) | {"shards": {"preferences": 3, "personal_verdicts": 5}}
    run = followed(dialled, tmp_path / "run", raw)
    assert len(run.table("personal_verdicts")) == len(dialled.table("personal_verdicts"))
    assert run.table("personalization").to_pandas().equals(dialled.table("personalization").to_pandas())
    keys = ["question_id", "persona_id", "criterion"]
    judged = [one.table("personal_verdicts").to_pandas().sort_values(keys) for one in (run, dialled)]
    assert [list(one) for one in judged[0]["order"]] == [list(one) for one in judged[1]["order"]]


@pytest.mark.parametrize(
    ("field", "value", "stale"),
    [
        ("smallest", 0.02, {"personalization"}),
        ("safety_floor", 0.3, {"profiles", "personalization"}),
        ("teach_questions", 20, {"preferences", "profiles", "personalization"}),
        ("test_questions", 70, {"personal_verdicts", "personalization"}),
        ("dial", 2.0, set(OWN)),
        ("difference", 0.03, set()),
    ],
)
def test_a_change_makes_anew_what_rests_on_it_and_nothing_else(
    dialled: Run, field: str, value: float, stale: set[str]
) -> None:
    changed = parse_study(study(**{"dial": 4.0, field: value}), source="test")
    fates = changes(Run.envisage(dialled.root, changed), [])
    assert {one.stage for one in fates if one.stage in OWN and one.fate == "again"} == stale


def test_a_study_without_the_section_has_no_shards_of_it_and_plans_nothing(tmp_path: Path) -> None:
    plain = load_study(REPOSITORY / "configs" / "demo.yaml")
    assert not any(stage_named(name).shards(plain) for name in OWN)
    assert power.sentences(plain) == []
    report = stage_named("report")
    assert not set(report.needs_of_item(plain, "")) & {*OWN}
    with_it = load_study(REPOSITORY / "configs" / "demo.yaml", ["personalization={}"])
    assert {"profiles", "personalization"} <= set(report.needs_of_item(with_it, ""))
    assert [stage.name for stage in STAGES if stage.shards(with_it) and not stage.shards(plain)] == list(OWN)


def wrong(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    raw = study()
    change(raw)
    return raw


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["personalization"].update(safety="kindness"), "not in criteria.rank"),
        (lambda raw: raw["personalization"].update(preference="safety"), "same criterion"),
        (lambda raw: raw["personalization"].update(arms=["ratings", "ratings"]), "twice"),
        (lambda raw: raw.update(rewards={"scale": "raw"}), "calibrated"),
        (lambda raw: raw.update(rewards={"score_with": "final"}), "folds"),
        (lambda raw: raw.update(judge=[{"name": "a"}, {"name": "b"}]), "panel"),
        (lambda raw: (raw.update(judge={"kind": "openai"}), raw["personalization"].update(dial=2.0)), "rule judge"),
        (lambda raw: raw["personalization"].update(test_questions=81), "training questions"),
        (lambda raw: raw["personalization"].update(preference="beauty"), "defines this criterion"),
        (
            lambda raw: (
                raw["criteria"].update(rank=["safety", "manner"]),
                raw["alignment"]["policies"].pop("DPO"),
                raw["alignment"]["policies"].update(DPO={"method": "dpo", "criteria": {"manner": 1}}),
            ),
            "rated",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_inputs(parse_study(wrong(change), source="test"))


def test_the_papers_study_with_its_fifty_personas_is_planned() -> None:
    paper: Study = load_study(REPOSITORY / "configs" / "paper-personal.yaml")
    assert paper.judging.personas_per_question == 50
    told = " ".join(power.sentences(paper))
    assert "questions that 50 personas rank" in told
    assert np.isfinite(power.error(50, 600))
