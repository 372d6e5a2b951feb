"""The study files that come with the project say what their comments claim."""

from __future__ import annotations

import pytest

from modpo_hpc.pipeline import stage_named
from modpo_hpc.resources import resource
from modpo_hpc.study import load_study

STUDIES = ("paper", "paper-better", "paper-qwen", "paper-sweep", "open-small")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_is_no_demo_names_real_models(name):
    study = load_study(resource(f"configs/{name}.yaml"))
    assert study.name == name
    assert study.simulated == ("personas",)
    assert study.data.epitome is not None


def test_the_papers_counts():
    study = load_study(resource("configs/paper.yaml"))
    assert study.models.base == "mistralai/Mistral-7B-Instruct-v0.2"
    assert study.generation.responses_per_question == 5
    assert (study.personas.select, study.personas.train, study.personas.test) == (150, 100, 50)
    assert len(study.judging.phases["phase1"].pairs) == 21
    assert len(study.judging.phases["phase2"].pairs) == 6
    assert study.rewards.search.trials == 20
    assert len(stage_named("reward_trials").shards(study)) == 200
    assert (study.generation.responses.temperature, study.generation.responses.max_tokens) == (0.8, 512)


def test_the_sweep_is_the_paper_and_ten_weights_twice():
    paper, sweep = (load_study(resource(f"configs/{name}.yaml")) for name in ("paper", "paper-sweep"))
    added = [name for name in sweep.alignment.policies if name not in paper.alignment.policies]
    assert [sum(name.startswith(family) for name in added) for family in ("MODPO_", "Conditioned_")] == [10, 10]
    assert len(sweep.judging.phases["fronts"].pairs) == 1 + 2 * 20
    for phase in paper.judging.phases:
        assert sweep.judging.phases[phase].pairs == paper.judging.phases[phase].pairs
    trials = [len(stage_named("policy_trials").shards(study)) for study in (paper, sweep)]
    assert trials[1] - trials[0] == 10 * paper.alignment.search.trials


def test_another_family_differs_in_the_model_and_what_it_needs():
    from modpo_hpc.study import differences

    paper, other = (load_study(resource(f"configs/{name}.yaml")) for name in ("paper", "paper-qwen"))
    changed = {line.split(":")[0] for line in differences(paper, other)}
    assert {"name", "models.base"} <= changed
    assert changed <= {
        "name",
        "models.base",
        "generation.responses.batch_size",
        "generation.answers.batch_size",
        "alignment.training.micro_batch_size",
    }
