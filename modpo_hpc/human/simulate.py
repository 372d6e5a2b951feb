"""Raters who do not exist: they fill in the forms by the sandbox's rules, so that the whole path can be tried."""

from __future__ import annotations

from collections.abc import Mapping

from modpo_hpc.human.forms import Form, Key, shown
from modpo_hpc.sandbox.judge import score_response
from modpo_hpc.sandbox.moves import THERAPEUTIC
from modpo_hpc.seeds import rng_of

NEARLY_EQUAL = 0.25
TASTE = 0.8
_IMPORTANCE = dict.fromkeys(THERAPEUTIC, 4)


def fill_in(
    form: Form, key: Key, questions: Mapping[str, str], answers: Mapping[str, Mapping[str, str]], seed: int
) -> dict[str, object]:
    """The file that a simulated rater would hand in, marked as simulated.

    The rater scores either response by the moves it makes, as the sandbox's judge does, with a normal taste of his
    own for each rater, question and criterion, and calls nearly equal scores equal. Attention checks are answered.
    """
    filled: dict[str, dict[str, str]] = {}
    comparison = key.comparison
    for item in form.key:
        if item.question_id is None:
            assert item.expected is not None
            filled[item.item] = dict.fromkeys(key.criteria, item.expected)
            continue
        post = questions[item.question_id]
        first, second = shown(item, comparison, answers)
        filled[item.item] = {}
        for criterion in key.criteria:
            taste = TASTE * float(rng_of(seed, "rater", form.form_id, item.question_id, criterion).normal())
            # the taste belongs to the pair of policies and not to the side on which they are shown
            lean = taste if item.shown_as_a == comparison.a else -taste
            difference = (
                score_response(first, post, criterion, _IMPORTANCE)
                - score_response(second, post, criterion, _IMPORTANCE)
                + lean
            )
            equal = abs(difference) < NEARLY_EQUAL
            filled[item.item][criterion] = "equal" if equal else "A" if difference > 0 else "B"
    return {
        "form": form.form_id,
        "stamp": key.stamp,
        "participant": "",
        "answers": filled,
        "seconds": {},
        "simulated": True,
    }
