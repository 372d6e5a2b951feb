"""The sandbox's rule judge, in the form of a language model that answers with JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modpo_hpc.judging.kinds.kind import LocalJudge
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.sandbox import judge as sandbox
from modpo_hpc.study.judging import Judge

_SIDE = {1: "A", 0: "tie", -1: "B"}


class RuleJudge(LocalJudge):
    """No model, no network. Requests on one question share the arithmetic."""

    name = "rules"
    simulated = True

    def identity(self, settings: Judge) -> Mapping[str, Any]:
        return {"judge": "rules", "rules": sandbox.rules_fingerprint()}

    def answer(self, requests: Sequence[JudgeRequest], settings: Judge) -> list[str]:
        """One raw answer for each request, in order."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, request in enumerate(requests):
            group = (request.task, request.question_id, request.question, frozenset(request.shown), request.criteria)
            groups.setdefault(group, []).append(number)
        answers = [""] * len(requests)
        for numbers in groups.values():
            for number, answer in zip(numbers, _answer_group([requests[one] for one in numbers]), strict=True):
                answers[number] = answer
        return answers


def _answer_group(requests: Sequence[JudgeRequest]) -> list[str]:
    first = requests[0]
    texts = sorted(set(first.shown))
    place = {text: position for position, text in enumerate(texts)}
    names = [criterion.name for criterion in first.criteria]
    opinions = sandbox.scores(
        [request.persona.persona_id for request in requests],
        [request.persona.importance for request in requests],
        first.question_id,
        first.question,
        texts,
        names,
    )
    shown = np.array([[place[text] for text in request.shown] for request in requests])
    seen = np.take_along_axis(
        opinions, np.broadcast_to(shown[:, None, :], (len(requests), len(names), shown.shape[1])), 2
    )
    if first.task == "rank":
        ranked = (sandbox.orders(seen) + 1).tolist()
        return [json.dumps(dict(zip(names, one, strict=True))) for one in ranked]
    alike = 0.0 if first.task == "choose" else sandbox.NEARLY_ALIKE
    sides = sandbox.winners(seen[..., 0], seen[..., 1], alike=alike).tolist()
    return [json.dumps({name: _SIDE[side] for name, side in zip(names, one, strict=True)}) for one in sides]
