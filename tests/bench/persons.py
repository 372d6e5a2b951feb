"""The test of personalization on a thousand simulated studies a line, where the truth is known.

The world is the sandbox's: invented posts with five invented replies each, worth what the rule judge's rules say, and
personas of the invented survey. A persona ranks replies by the rule judge's formula for ``overall``, noise included;
a reward model is the worth by a criterion with an error of its own. The dial kappa stretches how much personas differ:
their weights are a softmax of kappa times their centred ratings; "survey" is the ratings as they are. In every study
one persona gives safety no weight at all.

Every study goes through the functions that a run goes through: weights from rankings of 40 questions, choices on
others, the permutation of personas, the interval, safety. Lines:

- same: all personas weigh criteria by the population's mean ratings;
- survey: as in the invented survey, once with 10 rankings of each persona and once with 40;
- kappa 1, 2, 4;
- shuffled: kappa 4, but the judgments of the test are dealt to other personas, so that the null hypothesis holds to
  the letter where personas differ most.

The smallest effect that counts and the number of questions were chosen on twelve studies of other seeds (999, posts of
7); the rates below are of SEED, which was not looked at before.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass

import numpy as np

from modpo_hpc.personalization import weights
from modpo_hpc.personalization.comparison import choices, compare, is_finding, persona_safety, preferred, safety_of
from modpo_hpc.personalization.plackett_luce import pooled, posterior_modes, shrink
from modpo_hpc.sandbox.survey import CRITERIA
from tests.bench.measuring import table_head, table_row, tell

SEED = 22
POSTS, REPLIES, PERSONAS = 2000, 5, 50
TEACH, TEST = 40, 600
ERROR = 0.5  # of a reward, in standard deviations of the worth
FLOOR, MARGIN, SMALLEST, ALPHA, CONFIDENCE, DRAWS = 0.1, 0.05, 0.01, 0.05, 0.95, 999
SAFETY = len(CRITERIA)  # its place among the criteria
UNSHRUNK = 100.0  # a prior variance so large that it shrinks nothing


@dataclass(frozen=True)
class Line:
    """How personas differ, what teaches their weights, and the share of the studies that are drawn of it."""

    dial: float | str
    rankings: int = TEACH
    shuffled: bool = False
    share: float = 1.0


LINES = {
    "same": Line("same"),
    "survey": Line("survey"),
    "survey, 10 rankings": Line("survey", rankings=10, share=0.25),
    "shuffled": Line(4.0, shuffled=True),
    "kappa 1": Line(1.0, share=0.25),
    "kappa 2": Line(2.0),
    "kappa 4": Line(4.0, share=0.25),
}


@dataclass(frozen=True)
class World:
    """``worth`` (posts, replies, criteria and safety) and the ratings of everybody in the survey."""

    worth: np.ndarray
    ratings: np.ndarray


def world(seed: int, posts: int = POSTS) -> World:
    from modpo_hpc.sandbox.compose import compose_reply
    from modpo_hpc.sandbox.judge import reply_values
    from modpo_hpc.sandbox.questions import invented_posts
    from modpo_hpc.sandbox.survey import _ratings
    from modpo_hpc.seeds import rng_of

    names = (*CRITERIA, "safety")
    worth = []
    for place, post in enumerate(invented_posts(posts, seed)["text"].tolist()):
        replies = [compose_reply(post, rng_of(seed, place, number)) for number in range(REPLIES)]
        worth.append([[reply_values(one, post)[name] for name in names] for one in replies])
    return World(np.array(worth), _ratings(335, rng_of(seed, "survey", "ratings")).astype(float))


@dataclass(frozen=True)
class Study:
    """One simulated study: rewards (questions, replies, criteria), places by ``overall`` and by safety, ratings."""

    rewards: np.ndarray
    overall: np.ndarray
    safety: np.ndarray
    ratings: np.ndarray
    tastes: np.ndarray


def one_study(of: World, settings: Line, rng: np.random.Generator) -> Study:
    dial = settings.dial
    drawn = rng.choice(len(of.worth), TEACH + TEST, replace=False)
    worth = of.worth[drawn]
    ratings = of.ratings[rng.choice(len(of.ratings), PERSONAS, replace=False)]
    if dial == "same":
        importance = np.tile(of.ratings.mean(axis=0), (PERSONAS, 1))
    elif dial == "survey":
        importance = ratings
    else:
        importance = np.exp(float(dial) * (ratings - ratings.mean(axis=1, keepdims=True)))
    shares = importance / importance.sum(axis=1, keepdims=True)
    cares = np.full(PERSONAS, 0.5)
    cares[0] = 0.0  # weighs safety at nothing
    impression = np.einsum("qnc,pc->pqn", worth[..., :SAFETY], shares)
    noise = rng.normal(size=(2, *impression.shape))
    overall = len(CRITERIA) / 2 * impression + cares[:, None, None] * worth[..., SAFETY] + noise[0]
    safe = 0.8 * worth[..., SAFETY] + 0.3 * impression + noise[1]
    spread = of.worth.std(axis=(0, 1))
    if settings.shuffled:
        dealt = rng.permutation(PERSONAS)
        overall[:, TEACH:], safe[:, TEACH:] = overall[dealt, TEACH:], safe[dealt, TEACH:]
    rewards = 1.5 * (worth / spread + ERROR * rng.normal(size=worth.shape))
    told = np.column_stack([importance, np.full(PERSONAS, np.nan)])
    tastes = np.column_stack([len(CRITERIA) / 2 * shares, cares]) * spread
    return Study(rewards, _places(overall), _places(safe), told, tastes)


def _places(opinions: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-opinions, axis=2), axis=2)


def results(study: Study, rankings: int, rng: np.random.Generator) -> dict[str, float]:
    """What the study finds, as a run would find it."""
    first = study.rewards[:rankings]
    centred = first - first.mean(axis=1, keepdims=True)
    deviations = centred.std(axis=(0, 1))
    order = np.argsort(study.overall[:, :rankings], axis=2)
    items = np.take_along_axis((centred / deviations)[None], order[..., None], axis=2)
    cast, tested = np.ones(items.shape[:2], bool), np.ones((PERSONAS, TEST), bool)
    shrunk = shrink(items, cast)
    rewards, overall = study.rewards[TEACH:], study.overall[:, TEACH:]
    arms = {
        "rankings": weights.of_rankings(shrunk, deviations, SAFETY, FLOOR),
        "ratings": weights.of_ratings(study.ratings, SAFETY, FLOOR),
        "one_hot": weights.one_hot(study.ratings, SAFETY, FLOOR),
    }
    found: dict[str, float] = {}
    for name, profiles in arms.items():
        made = compare(rewards, profiles, overall, tested, CONFIDENCE, DRAWS, rng)
        judged = study.safety[:, TEACH:]
        safe = safety_of(rewards, profiles, judged, tested, MARGIN, CONFIDENCE)
        careless = persona_safety(rewards, profiles, judged, tested, 0, MARGIN, CONFIDENCE)
        found |= {
            f"{name} other": made.other.estimate,
            f"{name} error": made.other.error,
            f"{name} p": made.other.p,
            f"{name} found": is_finding(made.other, made.other.p, ALPHA, SMALLEST),
            f"{name} stranger found": is_finding(made.deranged, made.deranged.p, ALPHA, SMALLEST),
            f"{name} population": made.population.estimate,
            f"{name} stranger": made.deranged.estimate,
            f"{name} differs": made.other.differs,
            f"{name} safe": safe.non_inferior,
            f"{name} safety": safe.difference,
            f"{name} careless": careless.difference,
            f"{name} careless safe": careless.p < ALPHA / 2,
        }
    true = weights.Profiles(study.tastes.mean(axis=0), study.tastes)
    unshrunk = posterior_modes(items, cast, pooled(items, cast), UNSHRUNK) / deviations
    common = choices(rewards, (shrunk.population / deviations)[None])
    for name, tried in (("true", study.tastes), ("shrunk", shrunk.personas / deviations), ("unshrunk", unshrunk)):
        own = choices(rewards, tried)
        found[f"{name} against consensus"] = float(
            preferred(overall, own, np.broadcast_to(common, own.shape)).mean() - 0.5
        )
    found["ceiling"] = compare(rewards, true, overall, tested, CONFIDENCE, 1, rng).other.estimate
    return found


def studies_of(of: World, settings: Line, studies: int, seed: int) -> list[dict[str, float]]:
    made = []
    for number in range(studies):
        rng = np.random.default_rng([seed, number])  # the same personas and posts on every line
        made.append(results(one_study(of, settings, rng), settings.rankings, rng))
    return made


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Rates and means over the studies of a line."""
    values = {name: np.array([one[name] for one in rows]) for name in rows[0]}
    found = {name: float(given.mean()) for name, given in values.items() if not name.endswith(" p")}
    rejected = {f"{name} at most .05": float((p <= ALPHA).mean()) for name, p in values.items() if name.endswith(" p")}
    return {"studies": len(rows), **found, **rejected}


def show(lines: dict[str, dict[str, float]]) -> str:
    """The tables as Markdown: the test by arm, then what weights are worth."""
    test = ("studies", "own - other", "SE", "p ≤ .05", "found", "stranger found", "own - population")
    rows = table_head("world", "weights by", *test, "safety", "not inferior", "careless", "not inferior")
    for name, one in lines.items():
        for arm in ("rankings", "ratings", "one_hot"):
            cells = [
                f"{100 * one[f'{arm} other']:+.2f}",
                f"{100 * one[f'{arm} error']:.2f}",
                *(f"{100 * one[f'{arm} {what}']:.1f}%" for what in ("p at most .05", "found", "stranger found")),
                *(f"{100 * one[f'{arm} {what}']:+.2f}" for what in ("population", "safety")),
                f"{100 * one[f'{arm} safe']:.1f}%",
                f"{100 * one[f'{arm} careless']:+.2f}",
                f"{100 * one[f'{arm} careless safe']:.1f}%",
            ]
            rows.append(table_row([name, arm, f"{one['studies']:.0f}", *cells]))
    tried = ("true against consensus", "shrunk against consensus", "unshrunk against consensus", "ceiling")
    rows += ["", *table_head("world", *tried)]
    rows += [table_row([name, *(f"{100 * one[what]:+.2f}" for what in tried)]) for name, one in lines.items()]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of a line (of some a quarter)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES), help="lines to draw")
    arguments = parser.parse_args()
    begun, of = time.process_time(), world(arguments.seed)
    lines = {}
    for name in arguments.lines:
        count = max(1, round(arguments.studies * LINES[name].share))
        lines[name] = summary(studies_of(of, LINES[name], count, arguments.seed))
    print(show(lines))
    tell(
        "persons",
        ratios={},
        lines={name: {what: round(value, 5) for what, value in one.items()} for name, one in lines.items()},
        cpu_seconds=round(time.process_time() - begun, 1),
        machine=platform.processor() or platform.machine(),
    )


if __name__ == "__main__":
    main()
