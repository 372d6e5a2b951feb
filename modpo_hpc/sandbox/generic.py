"""An opinion for any criterion, so that a study of another field can be tried from end to end without a model or a key.

It weighs plain features of a reply by weights that the criterion's name draws. It knows nothing of what the criterion
means: what comes of it shows that the study runs, and nothing else.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from modpo_hpc.seeds import rng_of

STRENGTH = 1.5  # of the whole, in standard deviations of a persona's own taste
_LONG, _LONG_SENTENCE, _MANY_QUESTIONS = 80, 30, 3
_WORD = re.compile(r"\w+")


def generic_value(text: str, question: str, criterion: str) -> float:
    """What a reply to ``question`` is worth under ``criterion``, about -2 to 2; the same wherever it is asked."""
    words, asked = _WORD.findall(text.lower()), set(_WORD.findall(question.lower()))
    sentences = max(1, len(re.findall(r"[.!?]+", text)))
    count = max(1, len(words))
    features = np.array(
        [
            2 * min(len(words), _LONG) / _LONG - 1,
            2 * min(len(words) / sentences, _LONG_SENTENCE) / _LONG_SENTENCE - 1,
            2 * min(text.count("?"), _MANY_QUESTIONS) / _MANY_QUESTIONS - 1,
            2 * len(set(words) & asked) / max(1, len(asked)) - 1,
            2 * len(set(words)) / count - 1,
            20 * sum(word in ("you", "your") for word in words) / count - 1,
        ]
    )
    return float(STRENGTH * _weights(criterion, len(features)) @ features)


@lru_cache(maxsize=1024)
def _weights(criterion: str, count: int) -> np.ndarray:
    drawn = rng_of("generic judge", criterion).normal(size=count)
    return drawn / np.linalg.norm(drawn)
