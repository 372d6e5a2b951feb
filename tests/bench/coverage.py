"""Do intervals of 95% hold the truth in 95% of all studies? The whole design is drawn anew, many times, over a grid.

A vote is the sign of the difference of two latent qualities plus effects of the question and the persona on each
policy, plus noise. ``icc`` is the correlation of the votes of two personas on a question, ``spread`` that of the votes
of one persona on two questions. Four policies are alike, or apart. What other questions and a new panel of personas
would give on average is the truth for rates by majority; shares of votes have theirs in closed form.

    python -m tests.bench.coverage [--repetitions 400] [--table FILE]

prints a Markdown table and, last, one JSON object; FILE gets the table between its marks.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.stats import norm  # noqa: E402

from modpo_hpc.evaluation import groups, inference, mcnemar, winrates  # noqa: E402
from tests.bench.measuring import SYSTEM, table_head, table_row, tell  # noqa: E402

Array = NDArray[np.float64]
CONFIDENCE, DRAWS = 0.95, 1000
APART = (0.0, 0.1, 0.3, 0.7)
FIRST, SECOND = np.triu_indices(len(APART), 1)
SMALL_GROUP = 2
MEASURES = ("win rate", "difference", "all differences", "average", "all ranks", "group", "group of 2", "persona")
START, END = "<!-- coverage -->", "<!-- end of coverage -->"


class Design(NamedTuple):
    """One cell of the grid."""

    personas: int
    questions: int
    icc: float
    spread: float
    apart: bool


def grid() -> Iterator[Design]:
    for values in product((6, 20, 50), (100, 300, 600), (0.05, 0.12, 0.25), (0.01, 0.1), (False, True)):
        yield Design(*values)


def draw(design: Design, rng: np.random.Generator) -> tuple[NDArray[np.int8], Array, Array]:
    """Votes (pairs x questions x personas), the policies' strengths, and each persona's own effects on them."""
    of_question, of_persona = (np.sin(np.pi / 2 * share) for share in (design.icc, design.spread))
    strength = np.array(APART) if design.apart else np.zeros(len(APART))
    by_question = rng.normal(0, np.sqrt(of_question / 2), (len(APART), design.questions))
    by_persona = rng.normal(0, np.sqrt(of_persona / 2), (len(APART), design.personas))
    quality = strength[:, None, None] + by_question[..., None] + by_persona[:, None]
    noise = rng.standard_normal((len(FIRST), design.questions, design.personas), dtype=np.float32)
    latent = quality[FIRST] - quality[SECOND] + np.sqrt(1 - of_question - of_persona) * noise
    return np.where(latent > 0, 1, -1).astype(np.int8), strength, by_persona


def shares(strength: Array, scale: float) -> Array:
    """Share of its votes that each policy (first axis) wins over all opponents in the long run."""
    return np.stack(
        [norm.cdf(np.delete(strength[k] - strength, k, axis=0) / scale).mean(axis=0) for k in range(len(strength))]
    )


def coverage(design: Design, repetitions: int, seed: int) -> tuple[dict[str, float], float]:
    """Share of the studies in which each kind of interval holds the truth; McNemar's rejections at 5%."""
    rng = np.random.default_rng(seed)
    questions, policies = design.questions, len(APART)
    estimates, bounds, rejected = [], [], []
    direct: dict[str, list[Any]] = {"group": [], "group of 2": [], "persona": []}
    members = [np.arange(design.personas) < SMALL_GROUP, np.arange(design.personas) >= SMALL_GROUP]
    for _ in range(repetitions):
        votes, strength, by_persona = draw(design, rng)
        wins = winrates.count_wins(winrates.majorities(votes))
        rates = np.stack(wins.rates())
        errors = inference.majority_errors(votes, DRAWS, rng)
        average = winrates.average_rates(*rates, policies)  # type: ignore[call-arg]
        moved = winrates.average_rates(errors[:, 0], errors[:, 1], policies)
        estimates.append((rates, average))
        made = inference.intervals(rates[0], errors[:, 0], CONFIDENCE, questions)
        gap = inference.intervals(rates[0] - rates[1], errors[:, 0] - errors[:, 1], CONFIDENCE, questions, True)
        own = inference.intervals(average, moved, CONFIDENCE, questions)
        lead = inference.intervals(
            average[FIRST] - average[SECOND], moved[:, FIRST] - moved[:, SECOND], CONFIDENCE, questions, True
        )
        bounds.append((made, gap, own, lead))
        rejected.append([mcnemar.mcnemar(a, b).pvalue < 0.05 for a, b in zip(wins.a, wins.b, strict=True)])

        cast = np.ones_like(votes, dtype=bool)
        found = groups.persona_shares(votes, cast, policies, half_ties=False)
        of_groups = groups.group_errors(found, members, DRAWS, rng)
        means = np.array([found.rate[:, member].mean(axis=1) for member in members])
        held = inference.intervals(means, of_groups, CONFIDENCE, questions)
        everybody = shares(strength, 1.0)
        inside = (held.low <= everybody) & (everybody <= held.high)
        direct["group of 2"].append(inside[0].mean())
        direct["group"].append(inside[1].mean())
        theirs = shares(strength[:, None] + by_persona, np.sqrt(1 - np.sin(np.pi / 2 * design.spread)))
        reach = norm.ppf((1 + CONFIDENCE) / 2) * found.error
        direct["persona"].append((np.abs(found.rate - theirs) <= reach).mean())
    rate, average = (np.mean([one[part] for one in estimates], axis=0) for part in (0, 1))
    if not design.apart:  # all alike in truth, whatever the luck of these repetitions
        average, rate = np.full_like(average, average.mean()), np.broadcast_to(rate.mean(), rate.shape)
    truth = {"rate": rate[0], "difference": rate[0] - rate[1], "lead": average[FIRST] - average[SECOND]}
    held_by = {
        "win rate": np.mean([(a.low <= truth["rate"]) & (truth["rate"] <= a.high) for a, *_ in bounds]),
        "difference": np.mean([_holds(b.low, b.high, truth["difference"]) for _, b, *_ in bounds]),
        "all differences": np.mean([_holds(b.all_low, b.all_high, truth["difference"]).all() for _, b, *_ in bounds]),
        "average": np.mean([_holds(one.low, one.high, average) for _, _, one, _ in bounds]),
        "all ranks": np.mean([_ranks_hold(one, truth["lead"]) for *_, one in bounds]),
        **{name: np.mean(values) for name, values in direct.items()},
    }
    return {name: float(held_by[name]) for name in MEASURES}, float(np.mean(rejected))


def _holds(low: Array, high: Array, truth: Array) -> NDArray[np.bool_]:
    return (low <= truth) & (truth <= high)


def _ranks_hold(lead: inference.Interval, truth: Array) -> bool:
    """Whether every policy that is said to be ahead of another is so."""
    return not (((lead.all_low > 0) & (truth <= 0)) | ((lead.all_high < 0) & (truth >= 0))).any()


def table(found: dict[Design, tuple[dict[str, float], float]]) -> str:
    """Mean, lowest and highest coverage over ICC, spread and strengths, for each number of personas and questions."""
    lines = table_head("personas", "questions", "designs", *MEASURES, "McNemar rejects, alike")
    for personas, questions in dict.fromkeys((one.personas, one.questions) for one in found):
        mine = {one: what for one, what in found.items() if (one.personas, one.questions) == (personas, questions)}
        cells = [_range([held[name] for held, _ in mine.values()]) for name in MEASURES]
        null = _range([share for one, (_, share) in mine.items() if not one.apart])
        lines.append(table_row([personas, questions, len(mine), *cells, null]))
    return "\n".join(lines)


def _range(shares_: list[float]) -> str:
    low, mean, high = (f"{100 * one:.0f}" for one in (min(shares_), float(np.mean(shares_)), max(shares_)))
    return mean if low == high else f"{mean} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--table", type=Path, help="Markdown file whose marked part becomes the table")
    parser.add_argument("--personas", type=int, nargs="+", default=[6, 20, 50])
    arguments = parser.parse_args()
    started = time.process_time()
    designs = [one for one in grid() if one.personas in arguments.personas]
    found = {one: coverage(one, arguments.repetitions, seed) for seed, one in enumerate(designs)}
    made = table(found)
    print(made)
    outside = {name: [one for one, (held, _) in found.items() if not 0.93 <= held[name] <= 0.97] for name in MEASURES}
    for name, where in outside.items():
        for one in where:
            print(f"{name}: {100 * found[one][0][name]:.1f}% with {one._asdict()}")
    if arguments.table:
        page = arguments.table.read_text()
        before, rest = page.split(START)
        arguments.table.write_text(f"{before}{START}\n{made}\n{END}{rest.split(END)[1]}")
    every = np.array([[held[name] for name in MEASURES] for held, _ in found.values()])
    absolute = {
        "designs": len(found),
        "repetitions": arguments.repetitions,
        "coverage_mean": dict(zip(MEASURES, np.round(every.mean(axis=0), 3).tolist(), strict=True)),
        "coverage_lowest": dict(zip(MEASURES, np.round(every.min(axis=0), 3).tolist(), strict=True)),
        "within_93_to_97": round(float(((every >= 0.93) & (every <= 0.97)).mean()), 3),
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    tell("coverage", ratios={}, absolute=absolute, machine=SYSTEM)


if __name__ == "__main__":
    main()
