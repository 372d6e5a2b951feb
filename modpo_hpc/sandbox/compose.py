"""How the untaught counsellor of the small world talks: a few sentences, most of them kind, some of them not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, cycle, product

import numpy as np

from modpo_hpc.sandbox.moves import SENTENCES
from modpo_hpc.sandbox.topics import DEFAULT_FEELING, DEFAULT_TOPIC, FEELINGS, TOPICS, Post, read_post

# how often a sentence makes each move, relative to the others
FREQUENCY: Mapping[str, float] = {
    "acknowledge": 5, "validate": 4, "reflect": 5, "explore": 5, "goal": 5, "strength": 4, "choice": 4, "options": 4,
    "trust": 4, "safety_check": 3, "crisis_line": 3, "refer": 4, "hedge": 4, "summary": 4,
    "chat": 3, "rash": 2, "dismiss": 2, "claim": 3, "vague": 3, "obscure": 2,
}  # fmt: skip
# where in a reply a move belongs: it is this much likelier there
_OPENING, _CLOSING = ("acknowledge", "validate", "reflect"), ("choice", "crisis_line", "trust", "summary")
_IN_PLACE = 2.0
_DANGER_SEEN = 2.0
LENGTHS, LENGTH_SHARES = (2, 3, 4, 5), (0.1, 0.35, 0.4, 0.15)


def compose_reply(post: str, rng: np.random.Generator) -> str:
    """One reply to ``post``, as the base model is to learn to give."""
    read = read_post(post)
    length = int(rng.choice(LENGTHS, p=LENGTH_SHARES))
    return " ".join(_sentence(_draw_move(read, place, length, rng), read, rng) for place in range(length))


def every_sentence() -> Iterator[str]:
    """Every wording of every move, with every topic and feeling once at least."""
    fillings = cycle(product((*TOPICS, DEFAULT_TOPIC), (*FEELINGS, DEFAULT_FEELING)))
    for wording, (topic, feeling) in zip(chain.from_iterable(SENTENCES.values()), fillings, strict=False):
        yield wording.format(topic=topic, feeling=feeling)


def _draw_move(post: Post, place: int, length: int, rng: np.random.Generator) -> str:
    moves = tuple(FREQUENCY)
    weights = np.array([FREQUENCY[move] for move in moves], dtype=float)
    favoured = _OPENING if place == 0 else _CLOSING if place == length - 1 else ()
    for index, move in enumerate(moves):
        if move in favoured:
            weights[index] *= _IN_PLACE
        if post.risk and move in ("safety_check", "crisis_line"):
            weights[index] *= _DANGER_SEEN
    return moves[int(rng.choice(len(moves), p=weights / weights.sum()))]


def _sentence(move: str, post: Post, rng: np.random.Generator) -> str:
    wordings = SENTENCES[move]
    return wordings[int(rng.integers(len(wordings)))].format(topic=post.topic, feeling=post.feeling)
