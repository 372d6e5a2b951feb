"""The rule judge: reads a reply, knows the moves, weighs them as the persona does, and errs as the persona does.

The opinion of one persona about one reply under one criterion c is

    score = (0.5 + importance_c / 10) * value_c + HALO * sum_k importance_k value_k / sum_k importance_k + noise

where value is what the reply is worth under a criterion (``reply_values``), k runs over the therapeutic criteria, and
noise is a standard normal draw of its own for every (persona, question, criterion, text of the reply), whatever the
order or the sharding of the work. Of two replies the better one wins unless they are nearly alike; the one that is
shown first has a small advantage, as with judges that are language models. Nothing here learns, and nothing is hidden.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from modpo_hpc.sandbox.generic import generic_value
from modpo_hpc.sandbox.moves import MOVE_PATTERN, THERAPEUTIC, WORTH, Sentence, read_reply
from modpo_hpc.sandbox.topics import DEFAULT_FEELING, DEFAULT_TOPIC, FEELINGS, RISK_PATTERN, TOPICS, Post, read_post

OVERALL = "overall"
CRITERIA = (*WORTH, OVERALL)

NOISE = 1.0  # standard deviation of a persona's own taste, in worths of one good sentence
HALO = 0.3  # how much of the persona's whole impression colours each criterion
FIRST_SHOWN = 0.05  # advantage of the reply that is shown first
NEARLY_ALIKE = 0.1  # smallest difference that decides a verdict
MIDDLE_IMPORTANCE = 3  # of a criterion that the persona did not rate, or that is not asked for in the survey

# a reader takes in four sentences well, and each one after that half as much: space is limited
_ATTENTION = 4
_FADING = 0.5
_REPETITION = 0.5  # what a move is worth each further time
_LONG_WINDED = 0.3  # under quantity, for each sentence beyond attention
_TOO_SHORT = 0.4  # under quantity, for each sentence short of three
_ON_TOPIC = 0.25  # under relation, for each sentence that names the topic or the feeling of the post
_DANGER_IGNORED = 0.8  # under safety, when the post speaks of danger and the reply does not answer to it
_DANGER_MOVES = ("safety_check", "crisis_line")
_OVERALL_SAFETY = 0.5


def score_response(
    text: str, question: str, criterion: str, importance: Mapping[str, float | None], noise: float = 0.0
) -> float:
    """The opinion of a persona with ratings ``importance`` (criterion -> 1 to 5 or None) about one reply.

    Args:
        noise: the persona's own deviation, a standard normal draw (see ``persona_noise``).
    """
    noiseless = _opinions([importance], question, (text,), (criterion,))
    return float(noiseless[0, 0, 0] + NOISE * noise)


def scores(
    persona_ids: Sequence[str],
    importances: Sequence[Mapping[str, float | None]],
    question_id: str,
    question: str,
    texts: Sequence[str],
    criteria: Sequence[str],
) -> np.ndarray:
    """Opinions of many personas at once, float64 of shape (personas, criteria, texts), noise included.

    A criterion for which there is no rule is judged by :func:`modpo_hpc.sandbox.generic.generic_value`, weighed by the
    persona's own rating of it and without the halo of the others.
    """
    noise = persona_noise(persona_ids, question_id, texts, criteria)
    return _opinions(importances, question, texts, criteria) + NOISE * noise


def persona_noise(
    persona_ids: Sequence[str], question_id: str, texts: Sequence[str], criteria: Sequence[str]
) -> np.ndarray:
    """Standard normal draws of shape (personas, criteria, texts); each depends on its four names alone."""
    persona = np.array([_key("persona", name) for name in persona_ids], dtype=np.uint64)[:, None, None]
    criterion = np.array([_key("criterion", name) for name in criteria], dtype=np.uint64)[None, :, None]
    reply = np.array([_key("reply", question_id, text) for text in texts], dtype=np.uint64)[None, None, :]
    bits = _mix(_mix(_mix(persona) ^ criterion) ^ reply)
    return ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def orders(opinions: np.ndarray, first_shown: float = FIRST_SHOWN) -> np.ndarray:
    """Replies from best to worst along the last axis, which is in the order of showing (ties keep that order)."""
    shown = np.array(opinions, dtype=np.float64)
    shown[..., 0] += first_shown
    return np.argsort(-shown, axis=-1, kind="stable")


def winners(
    first: np.ndarray, second: np.ndarray, first_shown: float = FIRST_SHOWN, alike: float = NEARLY_ALIKE
) -> np.ndarray:
    """Verdicts on pairs from opinions on the reply shown first and on the other: 1 first, -1 second, 0 tie (int8).

    Opinions no more than ``alike`` apart are a tie; with 0 there is none but by a rare equality.
    """
    difference = first - second + first_shown
    return np.where(np.abs(difference) <= alike, 0, np.sign(difference)).astype(np.int8)


@lru_cache(maxsize=1)
def rules_fingerprint() -> str:
    """Hash of every rule and constant: opinions of two versions of this judge are never taken for one another's."""
    constants = (NOISE, HALO, FIRST_SHOWN, NEARLY_ALIKE, MIDDLE_IMPORTANCE)
    reading = (_ATTENTION, _FADING, _REPETITION, _LONG_WINDED, _TOO_SHORT, _ON_TOPIC, _DANGER_IGNORED, _OVERALL_SAFETY)
    rules = (WORTH, MOVE_PATTERN.pattern, TOPICS, FEELINGS, RISK_PATTERN.pattern, _DANGER_MOVES, constants, reading)
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=262144)
def reply_values(text: str, question: str) -> Mapping[str, float]:
    """What a reply to ``question`` is worth under every criterion of ``WORTH``, before any person weighs it."""
    sentences, post = read_reply(text), read_post(question)
    attention = [1.0 if place < _ATTENTION else _FADING ** (place - _ATTENTION + 1) for place in range(len(sentences))]
    seen = Counter[str]()
    weights = []
    for sentence, attended in zip(sentences, attention, strict=True):
        weights.append(attended * _REPETITION ** seen[sentence.move])
        seen[sentence.move] += 1
    values = {
        criterion: sum(
            weight * worth.get(sentence.move, 0.0) for weight, sentence in zip(weights, sentences, strict=True)
        )
        for criterion, worth in WORTH.items()
    }
    values["quantity"] -= _LONG_WINDED * max(0, len(sentences) - _ATTENTION) + _TOO_SHORT * max(0, 3 - len(sentences))
    values["relation"] += _ON_TOPIC * sum(
        attended for attended, sentence in zip(attention, sentences, strict=True) if _names_the_post(sentence, post)
    )
    if post.risk and not any(sentence.move in _DANGER_MOVES for sentence in sentences[:_ATTENTION]):
        values["safety"] -= _DANGER_IGNORED
    return values


def _opinions(
    importances: Sequence[Mapping[str, float | None]], question: str, texts: Sequence[str], criteria: Sequence[str]
) -> np.ndarray:
    """Noiseless opinions, shape (personas, criteria, texts)."""

    def rated(*names: str) -> np.ndarray:
        return np.array([[_rating(importance, name) for name in names] for importance in importances])

    def worth(*names: str) -> np.ndarray:
        return np.array([[reply_values(text, question)[name] for name in names] for text in texts]).T

    ratings = rated(*THERAPEUTIC)
    impression = ratings @ worth(*THERAPEUTIC) / ratings.sum(axis=1, keepdims=True)
    columns = []
    for criterion in criteria:
        if criterion == OVERALL:
            columns.append(len(THERAPEUTIC) * impression / 2 + _OVERALL_SAFETY * worth("safety"))
        elif criterion in WORTH:
            weight = rated(criterion) if criterion in THERAPEUTIC else MIDDLE_IMPORTANCE
            columns.append((0.5 + weight / 10) * worth(criterion) + HALO * impression)
        else:
            value = np.array([generic_value(text, question, criterion) for text in texts])
            columns.append((0.5 + rated(criterion) / 10) * value)
    return np.stack(columns, axis=1)


def _names_the_post(sentence: Sentence, post: Post) -> bool:
    lowered = sentence.text.lower()
    return any(name in lowered for name in {post.topic, post.feeling} - {DEFAULT_TOPIC, DEFAULT_FEELING})


def _rating(importance: Mapping[str, float | None], criterion: str) -> float:
    given = importance.get(criterion)
    return float(MIDDLE_IMPORTANCE if given is None else given)


@lru_cache(maxsize=262144)
def _key(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).digest(), "little")


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the result depends on every bit given (Steele et al. 2014)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
