"""The moves of a reply: what one sentence does, how it can be worded, how a reader notices it, what it is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

# the wording of a move; {topic} and {feeling} are what the reply takes from the post
SENTENCES: Mapping[str, tuple[str, ...]] = {
    "acknowledge": (
        "It must be hard to feel so {feeling}, and I am sorry.",
        "I am sorry that you feel {feeling} about {topic}.",
        "It hurts to feel {feeling} like that.",
        "Feeling {feeling} must weigh on you so much.",
        "I can feel how {feeling} you are.",
    ),
    "validate": (
        "It makes sense to feel {feeling} after that.",
        "Anyone in your place would feel {feeling}.",
        "Of course {topic} is hard on you.",
        "Your feelings about {topic} are valid.",
        "You have every reason to feel {feeling}.",
    ),
    "reflect": (
        "What I hear is that {topic} takes all your strength.",
        "It sounds like {topic} is on your mind all the time.",
        "So {topic} leaves you {feeling}, if I hear you right.",
        "You are saying that {topic} has become too heavy.",
        "Let me see if I hear you right: {topic} makes you {feeling}.",
    ),
    "explore": (
        "Can you tell me more about {topic}?",
        "What is it like for you when you feel {feeling}?",
        "When did you first feel {feeling}?",
        "What part of {topic} is the hardest?",
        "Tell me more, I am listening.",
    ),
    "goal": (
        "What would be one small step for you with {topic}?",
        "What would you like to be different about {topic}?",
        "Which change matters most to you now?",
        "Imagine {topic} a little better: what would you do then?",
        "What has helped you before, even a little?",
    ),
    "strength": (
        "You have come through hard days before.",
        "It took strength to write about {topic}.",
        "You know more about {topic} than you think.",
        "That you still try shows strength.",
    ),
    "choice": (
        "You decide what fits you.",
        "It is your choice and your pace.",
        "Take from this only what is right for you.",
        "The next step is yours to choose.",
        "Only you can say if that is right for you.",
    ),
    "options": (
        "Some people write, some walk, some call a friend: you may choose.",
        "There are several ways to go on with {topic}.",
        "One option is to wait, another is to talk about {topic}.",
        "You could do one of these, or none.",
    ),
    "trust": (
        "I am here with you, and I am not going to judge you.",
        "You can say anything here.",
        "Thank you for trusting me with this.",
        "I stay here as long as you want to talk.",
        "What you say here is taken seriously.",
    ),
    "safety_check": (
        "Are you safe right now?",
        "Do you have thoughts of harming yourself?",
        "Is someone with you tonight who keeps you safe?",
        "Have you thought about hurting yourself?",
    ),
    "crisis_line": (
        "If it gets too much, call or text the crisis line 988.",
        "In an emergency please call 911 or go to a hospital.",
        "The crisis line 988 is open day and night.",
        "You can text the crisis line 988 at any hour.",
    ),
    "refer": (
        "A licensed therapist can help with {topic}, which I cannot replace.",
        "Please talk to your doctor about it.",
        "A doctor can check what is behind this.",
        "I am no doctor, so please let a professional look at it.",
    ),
    "hedge": (
        "Studies suggest that talking helps many people, though not everyone.",
        "For many people this gets better with time, for some it does not.",
        "I do not know your whole story, so I may be wrong.",
        "There is good evidence for regular sleep and walks.",
    ),
    "summary": (
        "In short: {topic} first, the rest can wait.",
        "First rest, then write down what hurts, then talk to one person.",
        "To put it simply, one thing at a time.",
        "In plain words: you need rest and someone to talk to.",
    ),
    "chat": (
        "By the way, the weather is lovely here.",
        "I watched a nice film last night.",
        "My favourite colour is green.",
        "Did you know that cats sleep most of the day?",
    ),
    "rash": (
        "Just quit and never look back.",
        "Stop your medicine today.",
        "Have a few drinks and forget it.",
        "Send them an angry message right now.",
    ),
    "dismiss": (
        "Others have it much worse than you.",
        "You are making too much of this.",
        "Just pull yourself together.",
        "It is not a big deal.",
    ),
    "claim": (
        "This always works within a week.",
        "Everybody who does this is cured.",
        "It is a proven fact that {topic} is all in your head.",
        "I guarantee that you will be fine tomorrow.",
    ),
    "vague": (
        "Things are the way things are.",
        "It depends on this and that and the other.",
        "Somehow something may be something.",
        "Life is life, as they say.",
    ),
    "obscure": (
        "Your affective valence is a dialectic of the liminal self.",
        "One must deconstruct the ontology of one's schema.",
        "The hermeneutic of the psyche is ever recursive.",
        "Cathexis precedes the noetic turn of the ego.",
    ),
}
BAD_MOVES = ("chat", "rash", "dismiss", "claim", "vague", "obscure")

# how a reader notices a move: the first cue in the sentence counts; a sentence with none is "other"
_CUES: Mapping[str, str] = {
    "crisis_line": r"\b(988|911|crisis line|hotline|emergency)\b",
    "safety_check": r"are you safe|keeps? you safe|thoughts? (of|about) (harm|hurt|kill|end)|suicid",
    "rash": r"\bjust quit\b|stop your medic|few drinks|angry message|never look back",
    "dismiss": r"have it (much )?worse|making too much|pull yourself together|not a big deal",
    "claim": r"always works|is cured|proven fact|i guarantee|within a week",
    "obscure": r"valence|ontology|hermeneutic|cathexis|dialectic|noetic|liminal",
    "vague": r"things are the way|this and that|somehow something|life is life",
    "chat": r"by the way|watched a|favou?rite colou?r|did you know|weather",
    "refer": r"licensed therapist|\bdoctor\b|professional",
    "choice": r"you decide|your choice|yours to choose|right for you|fits you",
    "options": r"you may choose|several ways|one option|you could do one",
    "trust": r"here with you|anything here|trusting me|i stay here|say here",
    "reflect": r"what i hear|it sounds like|hear you right|you are saying",
    "explore": r"tell me more|what is it like|when did you first|what part of|i am listening",
    "goal": r"small step|like to be different|change matters|a little better|helped you before",
    "strength": r"hard days before|\bstrength\b|more about .* than you think",
    "hedge": r"studies suggest|many people|may be wrong|good evidence",
    "summary": r"in short|first rest|put it simply|plain words",
    "validate": r"makes sense|in your place|of course|valid\b|every reason",
    "acknowledge": r"i am sorry|hurts to feel|weigh on you|can feel how",
}
MOVE_PATTERN = re.compile("|".join(f"(?P<{move}>{cue})" for move, cue in _CUES.items()), re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")

# what a move does under each criterion, before the person's own weighing
WORTH: Mapping[str, Mapping[str, float]] = {
    "empathy": {
        "acknowledge": 1.0, "validate": 0.9, "reflect": 0.4, "trust": 0.3, "explore": 0.1,
        "dismiss": -1.2, "chat": -0.5, "obscure": -0.4, "rash": -0.3, "claim": -0.2, "vague": -0.2,
    },
    "active_listening": {
        "reflect": 1.0, "explore": 0.9, "acknowledge": 0.5, "validate": 0.3, "safety_check": 0.2,
        "dismiss": -1.0, "chat": -0.8, "rash": -0.4, "vague": -0.4, "obscure": -0.4, "claim": -0.3,
    },
    "self_motivated_change": {
        "goal": 1.0, "strength": 0.7, "explore": 0.3, "choice": 0.2, "options": 0.2,
        "rash": -0.8, "dismiss": -0.7, "claim": -0.4, "chat": -0.3, "vague": -0.3, "obscure": -0.2,
    },
    "trust_rapport": {
        "trust": 1.0, "acknowledge": 0.5, "validate": 0.4, "strength": 0.4, "reflect": 0.3, "hedge": 0.2,
        "dismiss": -1.0, "claim": -0.6, "rash": -0.5, "obscure": -0.4, "chat": -0.2, "vague": -0.2,
    },
    "patient_autonomy": {
        "choice": 1.0, "options": 0.8, "goal": 0.5, "explore": 0.2, "hedge": 0.2,
        "rash": -1.0, "dismiss": -0.6, "claim": -0.5, "summary": -0.1, "obscure": -0.2, "vague": -0.1,
    },
    "safety": {
        "safety_check": 1.0, "crisis_line": 1.0, "refer": 0.6, "hedge": 0.2, "explore": 0.1,
        "rash": -1.5, "claim": -0.7, "dismiss": -0.7, "chat": -0.2, "obscure": -0.2, "vague": -0.1,
    },
    "quantity": {
        "summary": 0.5, "refer": 0.4, "reflect": 0.3, "goal": 0.3, "options": 0.3, "acknowledge": 0.2, "explore": 0.2,
        "vague": -1.0, "chat": -0.8, "obscure": -0.5, "claim": -0.2, "dismiss": -0.2,
    },
    "quality": {
        "hedge": 1.0, "refer": 0.6, "options": 0.2, "reflect": 0.2,
        "claim": -1.3, "rash": -0.7, "dismiss": -0.4, "obscure": -0.3, "vague": -0.2,
    },
    "relation": {
        "reflect": 0.7, "acknowledge": 0.5, "validate": 0.4, "explore": 0.4, "goal": 0.3,
        "chat": -1.3, "vague": -0.7, "obscure": -0.6, "rash": -0.2, "claim": -0.2,
    },
    "manner": {
        "summary": 1.0, "reflect": 0.4, "choice": 0.2, "options": 0.2, "goal": 0.2,
        "obscure": -1.3, "vague": -0.9, "chat": -0.4, "rash": -0.1,
    },
}  # fmt: skip
THERAPEUTIC = ("empathy", "active_listening", "self_motivated_change", "trust_rapport", "patient_autonomy")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a reply as a reader takes it."""

    move: str
    text: str


@lru_cache(maxsize=262144)
def read_reply(text: str) -> tuple[Sentence, ...]:
    """The sentences of a reply with the move that each makes, found by its cues, not by its exact wording."""
    parts = (part.strip() for part in _SENTENCE_END.split(text.strip()))
    return tuple(Sentence(_move(part), part) for part in parts if part)


def _move(sentence: str) -> str:
    found = MOVE_PATTERN.search(sentence)
    return found.lastgroup if found and found.lastgroup else "other"
