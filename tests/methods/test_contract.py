"""The contract of a method: whatever is registered is planned, rehearsed, trained or merged, answered and reported.

One of the methods comes from outside the package: IPO, from the file that the docs print.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modpo_hpc.alignment.material import pairs_of_groups, votes_of
from modpo_hpc.data.questions import Question, study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.generation.engine import TransformersEngine
from modpo_hpc.generation.plan import answer_requests, corrections_of, groups_of
from modpo_hpc.generation.policies import load_policy, load_product, load_tokenizer
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.launch.estimate import plan_stages
from modpo_hpc.launch.profile import Profile
from modpo_hpc.llm.store import ledger_folder
from modpo_hpc.methods import METHODS, Trained, known_methods
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.rehearsal.study import rehearsed
from modpo_hpc.rewards.calibration import scales
from modpo_hpc.rewards.encoding import encode_responses
from modpo_hpc.rewards.model import load_tokenizer as reward_tokenizer
from modpo_hpc.rewards.scoring import ScoringBatch, score_batches
from modpo_hpc.run import Run
from modpo_hpc.stages.training import policies_made_by
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.methods.world import CRITERIA, PAGE, method_of_the_docs, run_whole, study_of_all

NAMES = (*METHODS, "ipo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of the study of all methods, from the first stage to the report."""
    folder = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch, counting_server(folder) as (url, _):
        patch.setenv("MODPO_LOGS", str(folder / "logs"))
        patch.setenv("OPENAI_API_KEY", "none")
        umask = os.umask(0o077)
        os.umask(umask)
        yield run_whole(folder / "run", study_of_all((method_of_the_docs(folder),), url))
        os.umask(umask)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of_all((method_of_the_docs(tmp_path),), "http://127.0.0.1:9/v1")


def test_the_method_of_the_docs_is_one_short_file(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    assert len(file.read_text().splitlines()) <= 40
    assert set(known_methods((file,))) - set(known_methods()) == {"ipo"}


def test_every_method_is_planned(study: Study) -> None:
    left = {stage.name: stage.shards(study) for stage in STAGES}
    rows = {row.stage: row for row in plan_stages(study, Profile(), Counts(12, 4), left, {})}
    trained = [name for name, policy in study.alignment.policies.items() if policy.stage == "policies"]
    assert rows["policies"].workload.items == rows["policies"].shards == len(trained)
    assert {"sft", "dpo", "modpo", "joint_dpo", "listwise", "safe_dpo", "group_robust", "raco", "ipo"} <= set(trained)
    assert rows["soups"].shards == 3
    assert rows["conditioned"].shards == 2
    assert rows["answers"].shards == len(study.alignment.policies) == len(NAMES) + 1


def test_a_plan_counts_every_objective_and_every_policys_own_epochs(study: Study) -> None:
    def tokens(stage: str) -> float:
        return stage_named(stage).workload(study, Counts(12, 4), Profile().speeds).tokens_read

    names = {stage: policies_made_by(stage)(study) for stage in ("policies", "conditioned")}
    one = tokens("policies") / (len(names["policies"]) + 2)  # raco has two criteria, group_robust two groups
    assert tokens("conditioned") == pytest.approx(one * (1 + 6))  # ham: three policies by two criteria
    study.alignment.policies["dpo"].__dict__["training"] = {"epochs": 5}
    assert tokens("policies") == pytest.approx(one * (len(names["policies"]) + 2 + 4))


def test_every_method_is_rehearsed(study: Study) -> None:
    stand_in = rehearsed(study, "test")
    assert stand_in.alignment.policies == study.alignment.policies
    assert stand_in.alignment.policies["ipo"].label == "IPO"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_made_answered_and_judged(finished: Run, name: str) -> None:
    policy = finished.study.alignment.policies[name]
    if policy.stage:
        assert (finished.folder(policy.stage) / name / "adapter" / "adapter_config.json").is_file()
    if isinstance(policy, Trained):
        rows = [json.loads(line) for line in (finished.folder(str(policy.stage)) / name / "log.jsonl").open()]
        assert rows[0]["loss"]
        assert rows[0]["grad_norm"] > 0
    answers = finished.table("answers", ["policy"]).to_pydict()["policy"]
    assert answers.count(name) == 4
    judged = finished.table("verdicts", ["policy_a", "policy_b"]).to_pydict()
    assert name in {*judged["policy_a"], *judged["policy_b"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_reported(finished: Run, name: str) -> None:
    policy, page = finished.study.alignment.policies[name], next(finished.folder("report").glob("*.html")).read_text()
    assert policy.label in page
    if isinstance(policy, Trained):
        summary = json.loads((finished.folder(str(policy.stage)) / name / "summary.json").read_text())
        for column, value in policy.figures(summary).items():
            assert column in page
            assert value in page


def test_votes_are_mean_ranks_above_the_middle_one(finished: Run) -> None:
    """Counted anew from the rankings: of five responses, the one put first has rank 2, the last -2."""
    table = finished.table("rankings", ["question_id", "criterion", "order", "state"]).to_pylist()
    ranks: dict[str, list[int]] = {}
    for row in table:
        assert row["state"] == "ok"
        if row["criterion"] == "safety":
            for place, response in enumerate(row["order"]):
                ranks.setdefault(response, []).append(2 - place)
    votes = votes_of(finished, "safety")
    assert votes == pytest.approx({one: sum(ranks[one]) / len(ranks[one]) for one in votes})
    assert len(votes) >= 5 * 8


def test_rerank_gives_the_candidate_that_the_weighted_rewards_like_best(finished: Run) -> None:
    """All candidates are made again by its source's model and scored by the final models, one text at a time."""
    policy = finished.study.alignment.policies["rerank"]
    questions = study_questions(finished, "test")
    requests = answer_requests(finished, "rerank", questions)
    assert len(requests) == 3 * len(questions)
    engine = TransformersEngine(
        load_policy(finished, "dpo"),
        load_tokenizer(finished),
        finished.study.generation.answers,
        finished.study.generation.instruction,
    )
    texts = {one.id: one.text for one in engine.complete(requests)}
    scale = scales(finished.table("rewards").to_pandas(), finished.study)
    sums = dict.fromkeys(texts, 0.0)
    for criterion, weight in policy.chosen_by.items():
        folder = finished.folder("rewards") / f"{criterion}.final"
        tokenizer = reward_tokenizer(folder)
        question_of = {one.id: one.question_id for one in requests}
        encoded = encode_responses(tokenizer, {one.question_id: one.text for one in questions}, texts, question_of)
        for one in texts:
            ((raw,),) = score_batches(
                folder, [ScoringBatch("final", (one,))], encoded, tokenizer.pad_token_id, "float32"
            )
            sums[one] += weight * scale[criterion, "final"].apply(raw)
    answers = {row["question_id"]: row["text"] for row in finished.table("answers", None, ["rerank.0"]).to_pylist()}
    for question in questions:
        mine = [f"{question.question_id}.a{at}" for at in range(3)]
        assert sums[max(mine, key=sums.__getitem__)] == pytest.approx(
            max(sums[one] for one in mine if texts[one] == answers[question.question_id]), abs=1e-5
        )


def test_mod_multiplies_what_its_sources_and_the_base_model_say(finished: Run) -> None:
    """The study's weights; and weights that leave the base model the rest, against each policy loaded alone."""
    text = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    with torch.no_grad():
        each = [load_policy(finished, name)(**text).logits[0, -1].double() for name in ("dpo", "dpo_safety", "base")]
        for powers in ({"dpo": 0.5, "dpo_safety": 0.5}, {"dpo": 0.9, "dpo_safety": 0.6}):
            product = load_product(finished, powers)
            mine = product(past_key_values=product.new_cache(), **text).logits[0, -1].double()
            weights = (*powers.values(), 1 - sum(powers.values()))
            wanted = sum(w * torch.log_softmax(one, -1) for w, one in zip(weights, each, strict=True))
            torch.testing.assert_close(torch.softmax(mine, -1), torch.softmax(wanted, -1), rtol=1e-4, atol=1e-6)
    assert len(load_product(finished, {"dpo": 0.9, "dpo_safety": 0.6}).experts) == 3


def test_a_correction_is_of_the_answers_that_were_judged(finished: Run) -> None:
    """What the corrector was asked holds the very answers of its source, one of them a model behind an endpoint."""
    questions = study_questions(finished, "test")
    answers = {
        name: {row["question_id"]: row["text"] for row in finished.table("answers", None, [f"{name}.0"]).to_pylist()}
        for name in ("dpo", "remote", "corrector", "corrected")
    }
    criteria = load_criteria(finished.study.criteria.files, CRITERIA)
    engine = TransformersEngine(
        load_policy(finished, "corrector"),
        load_tokenizer(finished),
        finished.study.generation.answers,
        finished.study.generation.instruction,
    )
    for name, source in (("corrector", "dpo"), ("corrected", "remote")):
        groups = groups_of(answer_requests(finished, source, questions), 100)
        asked = corrections_of(finished, name, groups, answers[source], criteria)
        texts = {made.id: made.text for group in asked for made in engine.complete(group)}
        assert texts == answers[name]


def test_a_remote_draft_is_not_paid_twice(finished: Run) -> None:
    entries = [json.loads(line) for file in ledger_folder(finished).rglob("*.jsonl") for line in file.open()]
    answered = [one for one in entries if "key" in one]
    assert len(answered) == len({one["key"] for one in answered})


def test_common_random_numbers_give_policies_that_are_the_same_the_same_answers(study: Study, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", study)
    question = [Question("q1", "How?"), Question("q2", "Why?")]
    apart = {name: [one.seed for one in answer_requests(run, name, question)] for name in ("dpo", "sft")}
    assert len({seed for seeds in apart.values() for seed in seeds}) == 4
    stage = stage_named("answers")
    before = stage.contents(study, "dpo")
    study.generation.__dict__["common_random_numbers"] = True
    run.study.generation.__dict__["common_random_numbers"] = True
    seeds = [[one.seed for one in answer_requests(run, name, question)] for name in ("dpo", "sft")]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2
    assert stage.contents(study, "dpo") != before


def test_answers_made_with_others_are_made_from_them(study: Study) -> None:
    stage = stage_named("answers")
    assert stage.needs_of_item(study, "mod")["policies"] == ("dpo", "dpo_safety")
    needs = stage.needs_of_item(study, "rerank")
    assert needs["policies"] == ("dpo",)
    assert set(needs["rewards"] or ()) >= {"empathy.final", "safety.final", "safety.fold0"}
    assert "rewards" not in stage.needs_of_item(study, "dpo")
    assert stage.needs_of_item(study, "corrected") == {
        "questions": None,
        "models": ("base",),
        "policies": ("corrector",),
    }
    assert stage.needs_of_item(study, "corrector")["policies"] == ("corrector", "dpo")
    asked = stage.contents(study, "corrected")
    study.generation.remote["remote"].__dict__["model"] = "another"
    assert stage.contents(study, "corrected") != asked
    before = stage.contents(study, "rerank")
    study.rewards.__dict__["scale"] = "raw"  # a field that only a choice by rewards rests on
    assert stage.contents(study, "rerank") != before
    assert stage.contents(study, "dpo") == {}
    assert stage.contents(study, "mod")["answered by"]["sources"] == {"dpo": 0.5, "dpo_safety": 0.5}


def test_what_is_put_together_from_objectives_says_so_in_its_log(finished: Run) -> None:
    rows = {
        name: [json.loads(line) for line in (finished.folder("policies") / name / "log.jsonl").open()]
        for name in ("raco", "group_robust")
    }
    assert {"mixture of empathy", "loss of safety"} <= set(rows["raco"][0])
    groups = {"mixture of population campus", "mixture of population community"}
    assert groups <= set(rows["group_robust"][0])
    assert sum(rows["group_robust"][0][one] for one in groups) == pytest.approx(1)


def test_a_groups_pairs_are_those_of_its_votes(finished: Run) -> None:
    """Counted anew from the rankings of the personas of one population."""
    table = finished.table("responses", ["question_id", "response_id"]).to_pylist()
    responses: dict[str, list[str]] = {}
    for row in table:
        responses.setdefault(row["question_id"], []).append(row["response_id"])
    campus = {row["persona_id"] for row in finished.table("personas").to_pylist() if row["population"] == "campus"}
    found = pairs_of_groups(finished, "empathy", "population", responses)
    assert set(found) == {"population campus", "population community"}
    ranks: dict[str, int] = {}
    for row in finished.table("rankings").to_pylist():
        if row["criterion"] == "empathy" and row["persona_id"] in campus:
            for place, response in enumerate(row["order"]):
                ranks[response] = ranks.get(response, 0) + 2 - place
    for question, (chosen, rejected) in found["population campus"].items():
        mine = [ranks[one] for one in responses[question]]
        assert (ranks[chosen], ranks[rejected]) == (max(mine), min(mine))
    needs = stage_named("policies").needs_of_item(finished.study, "group_robust")
    assert {"rankings", "personas"} <= set(needs)


def test_a_first_step_of_ipo_has_the_loss_that_the_paper_gives(finished: Run) -> None:
    """At the start ``h`` is 0, so the loss is ``(target / (2 beta))**2``."""
    first = json.loads((finished.folder("policies") / "ipo" / "log.jsonl").read_text().splitlines()[0])
    beta = finished.study.alignment.training_of("ipo").beta
    assert first["loss"] == pytest.approx((1 / (2 * beta)) ** 2, rel=1e-4)
    assert first["distance"] == pytest.approx(-1 / (2 * beta), rel=1e-4)


def test_the_study_of_the_docs_is_read(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    text = text.replace("configs/demo.yaml", str(REPOSITORY / "configs/demo.yaml")).replace("[ipo.py]", f"[{file}]")
    (tmp_path / "study.yaml").write_text(text)
    policy = load_study(tmp_path / "study.yaml").alignment.policies["IPO_Empathy"]
    assert policy.model_dump()["target"] == 0.5
    assert policy.file_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_file_is_another_method(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    before = known_methods((file,))["ipo"](criteria={"empathy": 1}).file_sha256  # type: ignore[call-arg]
    file.write_text(file.read_text() + "\n# another\n")
    assert known_methods((file,))["ipo"](criteria={"empathy": 1}).file_sha256 != before  # type: ignore[call-arg]


REFUSED = {
    "no method": ("x = 1\n", "has no class that is a modpo_hpc.methods.Method"),
    "no Python": ("def (:\n", "cannot be loaded: SyntaxError"),
    "no loss": (
        "from typing import Literal\nfrom modpo_hpc.methods import Trained\n"
        "class Mine(Trained):\n    label = 'mine'\n    method: Literal['mine'] = 'mine'\n",
        "lacks a default of its field method, a label or a loss",
    ),
    "a name that is taken": (
        "from typing import Literal\nfrom modpo_hpc.methods.dpo import DPO\n"
        "class Mine(DPO):\n    method: Literal['dpo'] = 'dpo'\n",
        "brings a method 'dpo', and there is one of that name",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_brings_no_method_is_an_input_error(tmp_path: Path, kind: str) -> None:
    code, reason = REFUSED[kind]
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(InputError, match=reason) as caught:
        load_study(REPOSITORY / "configs/demo.yaml", [f"alignment.methods=[{tmp_path / 'mine.py'}]"])
    assert caught.value.field == "alignment.policies"


WRONG = {
    "X={method: nothing}": ("X", "there is no method 'nothing'; methods are: base, sft"),
    "X={method: dpo, criteria: {empathy: 1}, sources: {}}": ("X", "method dpo has no field 'sources'"),
    "X={method: base, criteria: {empathy: 1}}": ("X", "method base has no field 'criteria'; it has none"),
    "X={method: dpo, criteria: {empathy: 1, safety: 1}}": ("X", "takes exactly one criterion, here are 2"),
    "X={method: modpo, criteria: {empathy: 1}}": ("X", "takes at least two criteria, here are 1"),
    "X={method: modpo, criteria: {empathy: 0, safety: 1}}": ("X", "needs a weight above zero"),
    "X={method: listwise, criteria: {empathy: 0}}": ("X", "at least one criterion needs a weight"),
    "X={method: safe_dpo, criteria: {empathy: 1}, constraint: kindness}": (
        None,
        "X.constraint is 'kindness', which is",
    ),
    "X={method: safe_dpo, criteria: {empathy: 1}, offset: -1}": ("X.offset", "greater than or equal to 0"),
    "X={method: mod, sources: {DPO_Safety: 1}}": ("X", "at least two sources"),
    "X={method: mod, sources: {DPO_Safety: 1, Base: 1}}": (None, "names 'Base', which is no policy with an adapter"),
    "X={method: rerank, source: Base, criteria: {}}": ("X.criteria", "at least 1 item"),
    "X={method: rerank, source: Nobody, criteria: {safety: 1}}": (None, "X.source is 'Nobody', which is neither the"),
    "X={method: rerank, source: Base, criteria: {kindness: 1}}": (None, "names 'kindness', which is not in"),
    "X={method: raco, criteria: {empathy: 1, safety: 1}}": ("X", "sum to one, here to 2"),
    "X={method: raco, criteria: {empathy: .5, safety: .5}, training: {deepspeed: configs/deepspeed/zero1.json}}": (
        None,
        "takes the gradients of its objectives apart, which DeepSpeed",
    ),
    "X={method: group_robust, criteria: {empathy: 1}, attribute: shoe_size}": ("X.attribute", "Input should be"),
    "X={method: joint_dpo, criteria: {empathy: 0, safety: 0}}": ("X", "at least one criterion needs a weight"),
    "X={method: dpo, criteria: {empathy: -1}}": ("X", "weights are zero or more"),
    "X={method: soup, sources: {DPO_Safety: 1}}": ("X", "at least two sources"),
    "DPO_Soup.svd_rank=0": ("DPO_Soup.svd_rank", "greater than or equal to 1"),
    "DPO_Soup.sources={DPO_Safety: 1, Base: 1}": (None, "names 'Base', which is no trained policy"),
    "X={method: dpo, criteria: {kindness: 1}}": (None, "names 'kindness', which is not in criteria.rank"),
    "X={method: remote}": (None, "generation.remote has no endpoint of that name"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_method_does_not_take_is_refused_by_field(wrong: str) -> None:
    place, reason = WRONG[wrong]
    with pytest.raises(InputError) as caught:
        load_study(REPOSITORY / "configs/demo.yaml", [f"alignment.policies.{wrong}"])
    assert reason in str(caught.value)
    assert caught.value.field == (f"alignment.policies.{place}" if place else None)
