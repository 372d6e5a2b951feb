"""Invented posts: short texts of nobody, in the form of the study's questions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from modpo_hpc.errors import InputError
from modpo_hpc.seeds import rng_of

_OPENINGS = (
    "Hi everyone.",
    "I do not really know how to start.",
    "Sorry, this may get long.",
    "I have never written here before.",
    "Just need to get this out.",
    "It has been a long week.",
    "Maybe someone knows this.",
    "I keep telling myself it will pass.",
    "",
    "",
    "",
    "",
)

_SITUATIONS: Mapping[str, tuple[str, ...]] = {
    "work": (
        "My boss took me off the project that I cared about",
        "I was told that my shift would be cut again",
        "Every morning before work I sit in the car for half an hour",
        "A colleague gets the praise for what I do at the office",
    ),
    "school": (
        "I failed the exam that I had prepared for all semester",
        "I sit in class and nothing stays in my head",
        "College is not what I hoped for and my grades show it",
        "My teacher asked me in front of everyone why I stopped trying",
    ),
    "sleep": (
        "I have not had a full night of sleep for weeks",
        "I lie awake until four and then the nightmares come",
        "I am tired all day and wide awake at night",
        "My insomnia is back and nothing helps",
    ),
    "family": (
        "My mother and I have not talked since the spring",
        "Every dinner with my family ends in shouting",
        "My father says that I should just pull myself together",
        "My sister moved out and now my parents have only me to blame",
    ),
    "the breakup": (
        "My girlfriend left after four years",
        "The breakup was in March and I still look at the photos",
        "My boyfriend told me by text that it was over",
        "I saw my partner with somebody new",
    ),
    "friends": (
        "My friends stopped asking me to come along",
        "I moved to a new city and have not made one friend",
        "I scroll through photos of friends at a party I did not know about",
        "When I talk, my friends look at their phones",
    ),
    "the loss": (
        "My grandfather died in the summer and I was not there",
        "It is a year since the funeral and I still set two plates",
        "My dog passed away and the flat is so quiet",
        "I lost my aunt, who was the only one I could call",
    ),
    "money": (
        "The rent went up and I am two months behind",
        "I opened the bills today and had to sit down",
        "The debt grows faster than I can pay",
        "I cannot afford to fix the car that I need",
    ),
    "health": (
        "The pain is back and the doctor shrugs",
        "I got a diagnosis last week that I do not understand",
        "Since the hospital my body does not feel like mine",
        "The symptoms come and go and nobody knows why",
    ),
    "panic": (
        "I had a panic attack on the bus and got off three stops early",
        "My heart raced in the shop and I left the basket there",
        "I am nervous hours before any phone call",
        "I could not breathe in the lift and now I take the stairs",
    ),
    "drinking": (
        "I said one glass of wine and it was the bottle again",
        "I was sober for two months until Friday",
        "I drink so that the evenings are shorter",
        "My alcohol free week lasted a day",
    ),
    "food": (
        "I skip every meal that nobody sees",
        "I binge at night and hide the wrappers",
        "I cannot eat when other people are in the room",
        "My weight is the first thing I think of every day",
    ),
}

_FEELINGS: Mapping[str, tuple[str, ...]] = {
    "sad": ("I feel sad all the time.", "I cried in the bathroom again.", "I am so unhappy with how things are."),
    "anxious": ("I am scared of what comes next.", "I worry about it from morning to night.", "It makes me anxious."),
    "angry": ("I am so angry at all of it.", "It is so unfair.", "I hate how this goes."),
    "lonely": ("I feel lonely even in a full room.", "Nobody would notice if I stayed in.", "I am alone with it."),
    "hopeless": ("It all feels hopeless.", "It seems pointless to try.", "I want to give up."),
    "overwhelmed": ("It is all too much.", "I feel overwhelmed.", "The stress does not stop."),
    "ashamed": ("I am ashamed of myself.", "I feel like a failure.", "It is all my fault."),
    "numb": ("I feel numb.", "I just feel empty.", "Inside it is hollow."),
}

_RISKS = (
    "Some nights I think about not waking up: I would rather not wake up.",
    "I have thoughts about ending it.",
    "Sometimes I think they would be better off without me.",
    "I have been thinking of hurting myself again.",
)

_ENDINGS = (
    "What should I do?",
    "How do I get through this?",
    "Does it ever get better?",
    "I do not know what to do.",
    "Has anybody been there?",
    "I just wanted to say it somewhere.",
    "",
    "",
)

RISK_SHARE = 0.25
MOST_POSTS = 100_000


def invented_posts(count: int, seed: int) -> pd.DataFrame:
    """``count`` posts, all different, with the columns question_id and text.

    Post number n depends on ``seed`` and n alone: a larger world begins with the posts of a smaller one.

    Raises:
        InputError: more posts than the generator can word differently.
    """
    if count > MOST_POSTS:
        raise InputError(
            f"the sandbox words at most {MOST_POSTS:,} posts differently",
            field="data.sandbox_train",
            value=count,
            remedy="Ask for fewer, or give real posts with data.epitome or data.file.",
        )
    texts: dict[str, None] = {}
    draws = itertools.count()
    while len(texts) < count:
        texts[_post(rng_of(seed, "post", next(draws)))] = None
    return pd.DataFrame({"question_id": [f"post{number:06d}" for number in range(count)], "text": list(texts)})


def _post(rng: np.random.Generator) -> str:
    situations = _SITUATIONS[_pick(rng, tuple(_SITUATIONS))]
    first, second = rng.choice(len(situations), size=2, replace=False)
    parts = [_pick(rng, _OPENINGS), f"{situations[first]}."]
    if rng.random() < 0.4:
        parts.append(f"{situations[second]}.")
    feeling = _FEELINGS[_pick(rng, tuple(_FEELINGS))]
    parts.append(_pick(rng, feeling))
    if rng.random() < RISK_SHARE:
        parts.append(_pick(rng, _RISKS))
    parts.append(_pick(rng, _ENDINGS))
    return " ".join(filter(None, parts))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
