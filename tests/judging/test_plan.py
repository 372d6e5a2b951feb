"""What a plan says that a judge will read is what it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from modpo_hpc.data.questions import Question
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.requests import ranking_requests, verdict_requests
from modpo_hpc.judging.tasks import Persona
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import stage_named
from modpo_hpc.resources import resource
from modpo_hpc.stages.workload import (
    BYTES_PER_TOKEN,
    PERSONA_TOKENS,
    QUESTION_TOKENS,
    Counts,
    answer_tokens,
    response_tokens,
)
from modpo_hpc.study import load_study


def text(tokens: float) -> str:
    """Words of so many tokens, a line break now and then."""
    line = "What they say about it may be so, and then it may not be. I wonder. "
    return "\n".join([line * 8] * 100)[: round(tokens * BYTES_PER_TOKEN)]


@pytest.mark.parametrize("scene", [{}, {"scene": text(200)}])
def test_the_tokens_of_a_plan_are_those_of_the_prompts_that_are_sent(scene: dict[str, Any]) -> None:
    overrides = [f"judge.{name}={value!r}" for name, value in scene.items()]
    study = load_study(resource("configs/paper.yaml"), overrides)
    speeds = Profile.model_validate({}).speeds
    question = Question("q0", text(QUESTION_TOKENS))
    persona = Persona("p0", text(PERSONA_TOKENS), {})
    replies = [(str(n), text(response_tokens(study))) for n in range(study.generation.responses_per_question)]
    criteria = load_criteria(study.criteria.files, study.criteria.rank)
    _, asked = ranking_requests([question], {"q0": ("p0",)}, [persona], {"q0": replies}, [criteria], study.seed)
    keys = keys_of(study.judges[0])
    sent = len(keys.prompt(asked[0])) / BYTES_PER_TOKEN
    planned = stage_named("rankings").workload(study, Counts(10, 10), speeds)
    assert planned.tokens_read / planned.calls == pytest.approx(sent, rel=0.03)

    answers = {name: {"q0": text(answer_tokens(study))} for name in ("one", "two")}
    total = 0.0
    for phase in study.judging.phases.values():
        calls = [load_criteria(study.criteria.files, names) for names in phase.criteria_of_calls]
        _, asked = verdict_requests("one", "two", [(question, [persona])], answers, calls, study.seed)
        per_pair = 10 * study.judging.personas_per_question * len(phase.pairs)
        total += per_pair * sum(len(keys.prompt(one)) / BYTES_PER_TOKEN for one in asked)
    assert stage_named("verdicts").workload(study, Counts(10, 10), speeds).tokens_read == pytest.approx(total, rel=0.03)
