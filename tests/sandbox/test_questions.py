"""Invented posts and their readers."""

from __future__ import annotations

import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.sandbox.questions import MOST_POSTS, invented_posts
from modpo_hpc.sandbox.topics import FEELINGS, TOPICS, read_post


def test_posts_are_different_and_of_a_length_that_the_study_keeps() -> None:
    posts = invented_posts(1000, seed=42)
    assert posts["question_id"].is_unique
    assert posts["text"].is_unique
    assert posts["text"].str.len().between(10, 2000).all()
    assert (posts["text"].str.split().str.len() >= 3).all()


def test_a_larger_world_begins_with_the_smaller_one() -> None:
    assert invented_posts(50, seed=1).equals(invented_posts(200, seed=1).head(50))


def test_another_seed_is_another_world() -> None:
    assert not set(invented_posts(50, seed=1)["text"]) & set(invented_posts(50, seed=2)["text"])


def test_every_topic_and_feeling_comes_up_and_some_posts_speak_of_danger() -> None:
    read = [read_post(text) for text in invented_posts(1000, seed=3)["text"]]
    assert {one.topic for one in read} == set(TOPICS)
    assert {one.feeling for one in read} == set(FEELINGS)
    assert 0.15 < sum(one.risk for one in read) / len(read) < 0.35


def test_more_posts_than_there_are_words_for() -> None:
    with pytest.raises(InputError, match="at most"):
        invented_posts(MOST_POSTS + 1, seed=1)


@pytest.mark.parametrize(
    ("text", "risk"),
    [
        ("I want to die", True),
        ("thinking of killing myself again", True),
        ("They would be better off without me", True),
        ("my plants die all the time", False),
        ("the weekend is coming", False),
    ],
)
def test_danger_is_noticed(text: str, risk: bool) -> None:
    assert read_post(text).risk is risk
