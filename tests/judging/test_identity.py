"""The identity of the judges: what can change an answer is in it, whatever else is not."""

from __future__ import annotations

from typing import Any

import pytest

from modpo_hpc.judging.settings import identity_of_judges
from modpo_hpc.study import parse_study
from tests.judging import worlds

CHAT = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}


def identity(environment: dict[str, str] | None = None, **judge: Any) -> list[dict[str, Any]]:
    return identity_of_judges(parse_study(worlds.study(**{**CHAT, **judge}), "study.yaml"), environment or {})


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"base_url": "http://127.0.0.1:8/v1"},
        {"temperature": 1.0},
        {"max_tokens": 7},
        {"sampling_seed": 7},
        {"reasoning_effort": "low"},
        {"extra": {"top_k": 1}},
        {"prompt_order": "criteria_last"},
        {"scene": "Somebody asks a tutor."},
        {"structured": "none"},
        {"repair_rounds": 0},
        {"kind": "batch"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_an_answer_is_in_it(change: dict[str, Any]) -> None:
    assert identity(**change) != identity()


@pytest.mark.parametrize(
    "change",
    [
        {"price": {"input": 1.0, "output": 2.0}},
        {"window": 3},
        {"max_usd": 3.0, "price": {"input": 1.0, "output": 2.0}},
        {"requests_per_minute": 3},
        {"tokens_per_minute": 3},
        {"executor": "ray"},
        {"actors": 7},
        {"ledger": "/somewhere"},
        {"timeout_seconds": 7.0},
        {"name": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_pace_price_and_place_are_not(change: dict[str, Any]) -> None:
    assert identity(**change) == identity()


def test_it_is_that_of_the_judge_that_is_really_asked() -> None:
    assert identity({"MODPO_JUDGE_MODEL": "other"}) == identity(model="other")
    assert identity({"MODPO_JUDGE_BASE_URL": "http://127.0.0.1:7/v1"}) == identity(base_url="http://127.0.0.1:7/v1")
    assert identity({"MODPO_JUDGE_WINDOW": "3"}) == identity()


def test_a_panel_has_one_for_each_judge() -> None:
    study = parse_study(worlds.study(judges=[CHAT, {"kind": "rules"}]), "study.yaml")
    chat, rules = identity_of_judges(study, {})
    assert (chat["name"], chat["kind"], rules["name"], rules["kind"]) == ("m", "openai", "rules", "rules")
