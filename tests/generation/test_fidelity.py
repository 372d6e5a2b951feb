"""configs/paper.yaml is the paper's study, as far as the table of statements goes: over all of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modpo_hpc.resources import resource
from modpo_hpc.study import load_study
from modpo_hpc.study.fidelity import Statement, drift, page, statements

OF_THE_MACHINE = (
    "name",
    "shards.",
    "resources.",
    "generation.engine",
    "generation.responses.batch_size",
    "generation.answers.batch_size",
    "models.attention",
    "judge.kind",
    "judge.price.",
    "data.epitome",
    "alignment.training.micro_batch_size",
    "alignment.training.checkpoint_seconds",
    "rewards.folds",
    "human.material",
    "human.notice",
)
"""Fields of the file that say how it is run, not what: batch sizes do not change a text or a step."""


def leaves(tree: Any, prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_study_is_what_the_table_says() -> None:
    assert drift(load_study(resource("configs/paper.yaml")), statements()) == []


@pytest.mark.parametrize("one", [one for one in statements() if one.field], ids=lambda one: one.field)
def test_a_value_that_drifts_is_found(one: Statement) -> None:
    """Each field, moved by itself, is named."""
    other = Statement(**{**vars(one), "theirs": "something else", "ours": "something else"})
    (found,) = drift(load_study(resource("configs/paper.yaml")), [other])
    assert found.startswith(f"{one.field}: ")


def test_a_study_with_another_value_is_not_the_papers() -> None:
    judge = json.dumps({"kind": "openai", "model": "gpt-5-2025-08-07"})
    changed = load_study(resource("configs/paper.yaml"), [f"judge={judge}", "judging.forced_choice=false"])
    named = {line.split(":")[0] for line in drift(changed, statements())}
    assert {"judge.model", "judging.forced_choice"} <= named


def test_every_value_that_the_file_sets_is_in_the_table() -> None:
    raw = yaml.safe_load(resource("configs/paper.yaml").read_text())
    stated = {one.field for one in statements() if one.field}
    for field in leaves(raw):
        if field.startswith(OF_THE_MACHINE) or field.endswith(".method"):
            continue
        assert any(field == one or field.startswith(f"{one}.") for one in stated), field


def test_whatever_cannot_be_had_says_why_or_what_is_instead() -> None:
    for one in statements():
        assert one.had in ("yes", "near", "no"), one
        assert one.had == "yes" or one.note, one
        assert one.source.startswith(("paper", "code: ")), one
        assert one.had != "near" or one.ours is not None, one


def test_the_page_is_that_of_the_table() -> None:
    assert (resource("docs/fidelity.md")).read_text() == page(statements())


def test_the_better_study_names_only_what_differs() -> None:
    """No field of configs/paper-better.yaml repeats the paper's value."""
    paper = load_study(resource("configs/paper.yaml")).model_dump(mode="json")
    raw = yaml.safe_load(resource("configs/paper-better.yaml").read_text())
    raw.pop("extends")
    for field in leaves(raw):
        place: Any = paper
        for name in field.split("."):
            place = place.get(name) if isinstance(place, dict) else None
        own: Any = raw
        for name in field.split("."):
            own = own[name]
        assert own != place, field
    assert load_study(resource("configs/paper-better.yaml")).name == "paper-better"
