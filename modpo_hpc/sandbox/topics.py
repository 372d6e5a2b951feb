"""What a post of the small world can be about, and how a reader notices it, in invented and in real posts alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

# topic as a reply names it -> words that show it in a post (beginnings of words)
TOPICS: Mapping[str, tuple[str, ...]] = {
    "work": ("work", "job", "boss", "office", "shift", "manager", "colleague", "coworker", "career"),
    "school": ("school", "exam", "class", "college", "university", "grade", "semester", "study", "studies", "teacher"),
    "sleep": ("sleep", "insomnia", "awake", "nightmare", "tired", "exhaust"),
    "family": ("family", "mother", "father", "mom", "dad", "parent", "sister", "brother", "home"),
    "the breakup": ("breakup", "broke up", "ex ", "boyfriend", "girlfriend", "divorce", "relationship", "partner"),
    "friends": ("friend", "lonely", "isolat", "left out"),
    "the loss": ("died", "death", "grief", "funeral", "passed away", "lost my"),
    "money": ("money", "debt", "rent", "bills", "afford", "loan"),
    "health": ("illness", "pain", "doctor", "hospital", "diagnos", "medic", "symptom", "body"),
    "panic": ("panic", "anxi", "worr", "nervous", "heart race", "breathe"),
    "drinking": ("drink", "drunk", "alcohol", "sober", "wine", "weed"),
    "food": ("eat", "food", "meal", "binge", "weight", "appetite"),
}

# feeling as a reply names it -> words that show it in a post
FEELINGS: Mapping[str, tuple[str, ...]] = {
    "sad": ("sad", "cry", "cried", "tears", "depress", "miserable", "unhappy"),
    "anxious": ("anxi", "panic", "worr", "nervous", "scared", "afraid", "fear"),
    "angry": ("angry", "anger", "furious", "hate", "unfair", "resent"),
    "lonely": ("lonely", "alone", "nobody", "isolat", "no one", "ignored"),
    "hopeless": ("hopeless", "pointless", "give up", "no future", "worthless", "end it", "die", "dead"),
    "overwhelmed": ("overwhelm", "too much", "stress", "exhaust", "cannot keep up", "drown"),
    "ashamed": ("asham", "guilt", "embarrass", "failure", "disgust", "my fault"),
    "numb": ("numb", "empty", "feel nothing", "hollow", "blank"),
}

DEFAULT_TOPIC, DEFAULT_FEELING = "this", "low"

# a post with one of these speaks of danger; a reader who is careful about safety answers to it
RISK_PATTERN = re.compile(
    r"\b((kill|hurt|harm|cutt?)(ing)? my ?self|suicid|end(ing)? it|want(ed)? to die"
    r"|not wake up|better off without me|no reason to live|self[- ]?harm|wish i (was|were) dead)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Post:
    """What a careful reader takes from a post: the topic and feeling that show most, and a sign of danger."""

    topic: str
    feeling: str
    risk: bool


@lru_cache(maxsize=65536)
def read_post(text: str) -> Post:
    """Read a post: the topic and the feeling with most matching words (the first listed wins a tie), and the risk."""
    lowered = f" {text.lower()} "
    return Post(
        _most_mentioned(lowered, TOPICS, DEFAULT_TOPIC),
        _most_mentioned(lowered, FEELINGS, DEFAULT_FEELING),
        RISK_PATTERN.search(lowered) is not None,
    )


def _most_mentioned(text: str, cues: Mapping[str, tuple[str, ...]], default: str) -> str:
    counts = {name: sum(text.count(f" {word}") for word in words) for name, words in cues.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else default
