"""Sequential judging: how many calls it saves, what it finds of all that there is to find, and how often it is wrong.

    python -m tests.bench.sequential RUN...          # replay of finished verdicts, one table, then simulated studies
    python -m tests.bench.sequential                 # simulated studies alone
    python -m tests.bench.sequential RUN... --replay # the replay alone

Replay: each pair of a run is judged again in random orders, by personas drawn for each question. A finding of all calls
is a pair and criterion whose mean share of votes a question differs from one half by Student's t on all questions and
personas, at the same level (alpha over the pairs of a phase and criterion). A contradiction is a decision against the
mean share of all votes: the other side preferred, or equivalence of a pair outside the margin.

Savings: the same of simulated studies of eight policies that differ, by the correlation of votes on a question.

Null: four policies that are alike, six pairs, votes with a correlation on a question and with a persona.
Wrong is a study in which any pair is decided for a side. "These": the tastes of the study's personas cancel, so that
the null is true of them. "Others": it is true of the population that they come from.
"""

from __future__ import annotations

import platform
import sys
import time
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation import winrates
from modpo_hpc.evaluation.ballots import Ballots, collect_phases
from modpo_hpc.evaluation.betting import StoppingRule, decide_all, settled, weighted_shares
from modpo_hpc.evaluation.mcnemar import adjusted, mcnemar
from modpo_hpc.evaluation.sequential import replay
from modpo_hpc.evaluation.sequential_design import groups_of_personas
from modpo_hpc.run import Run
from modpo_hpc.seeds import rng_of
from tests.bench.measuring import tell

# chosen before the figures were looked at
ALPHA, ROUND = 0.05, 10
ORDERS = range(2100, 2120)
WAYS = [(drawn, None, futility) for futility in (3.0, None) for drawn in (10, 12, 15, 50)] + [(12, 0.1, 3.0)]
"""Personas a question, margin, futility."""
STUDIES, SEED, QUESTIONS, POLICIES, MOST_DRAWN = 1000, 2107, 200, 4, 10
AT_ONCE = 50
SAVING_STUDIES, SAVING_POLICIES, SAVING_PERSONAS, QUALITY = 10, 8, 50, 0.3
OF_QUESTION, OF_PERSONA, PERSONAS = (0.05, 0.12, 0.26), 0.02, (6, 10, 20, 50)


def findings(ballots: Ballots, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all calls (criteria x pairs): mean share, which side Student's t finds, which side McNemar's after Holm."""
    share = np.where(ballots.cast, (ballots.votes + 1) / 2, 0).sum(-1) / np.maximum(ballots.cast.sum(-1), 1)
    mean, error = share.mean(-1), share.std(-1, ddof=1) / np.sqrt(share.shape[-1])
    reach = stats.t.ppf(1 - level / 2, share.shape[-1] - 1) * error
    by_t = np.where(np.abs(mean - 0.5) > reach, np.sign(mean - 0.5), 0)
    wins = winrates.count_wins(winrates.majorities(ballots.votes))
    by_mcnemar = np.zeros_like(by_t)
    for c in range(len(by_t)):
        raw = [mcnemar(int(a), int(b)).pvalue for a, b in zip(wins.a[c], wins.b[c], strict=True)]
        by_mcnemar[c] = np.where(adjusted(raw, "holm") < ALPHA, np.sign(wins.a[c] - wins.b[c]), 0)
    return mean, by_t, by_mcnemar


Judged = tuple[list[Ballots], list[list[str]]]
"""The phases of a run, and the groups of its personas."""


def judged(folder: str) -> Judged:
    run = Run.open(folder)
    groups = groups_of_personas(run)
    everyone = [persona for members in groups for persona in members]
    return collect_phases(run, [one.question_id for one in study_questions(run, "test")], everyone), groups


def replayed(runs: list[Judged]) -> list[dict[str, Any]]:
    rows = []
    for drawn, margin, futility in WAYS:
        way = {"personas": drawn, "margin": margin, "futility": futility}
        rows.append({**way, **_of_orders(runs, drawn, margin, futility)})
        _print_replay(rows[-1])
    return rows


def _of_orders(runs: list[Judged], drawn: int, margin: float | None, futility: float | None) -> dict[str, Any]:
    used, count = [], dict.fromkeys(("found", "of", "found_mcnemar", "of_mcnemar", "against", "equivalent"), 0)
    for seed in ORDERS:
        calls = every = 0
        for ballots, groups in ((ballots, groups) for phases, groups in runs for ballots in phases):
            rule = StoppingRule(ALPHA / len(ballots.pairs), len(ballots.questions), margin, futility)
            mean, by_t, by_mcnemar = findings(ballots, rule.level)
            again = replay(ballots, groups, rule, drawn, ROUND, seed)
            said = np.array([[{"A": 1, "B": -1}.get(one.outcome, 0) for one in row] for row in again.decisions])
            equal = np.array([[one.outcome == "equivalent" for one in row] for row in again.decisions])
            calls += drawn * int(again.questions.sum())
            every += len(ballots.personas) * len(ballots.questions) * len(ballots.pairs)
            count["found"] += int(((said == by_t) & (by_t != 0)).sum())
            count["of"] += int((by_t != 0).sum())
            count["found_mcnemar"] += int(((said == by_mcnemar) & (by_mcnemar != 0)).sum())
            count["of_mcnemar"] += int((by_mcnemar != 0).sum())
            count["equivalent"] += int(equal.sum())
            against = (said * (mean - 0.5) < 0).sum() + (equal & (np.abs(mean - 0.5) >= (margin or 0))).sum()
            count["against"] += int(against)
        used.append(calls / every)
    return {
        "calls": float(np.mean(used)),
        "least": min(used),
        "most": max(used),
        "findings": count["found"] / count["of"],
        "findings_mcnemar": count["found_mcnemar"] / max(1, count["of_mcnemar"]),
        "findings_of_all": count["of"] // len(ORDERS),
        "equivalent": count["equivalent"] / len(ORDERS),
        "contradictions": count["against"],
    }


def _print_replay(row: dict[str, Any]) -> None:
    margin = "none" if row["margin"] is None else f"{row['margin']:g}"
    print(
        f"| {row['personas']} | {margin} | {row['futility'] or 'none'} | "
        f"{row['calls']:.1%} ({row['least']:.1%} to {row['most']:.1%}) | "
        f"{row['findings']:.1%} of {row['findings_of_all']} | {row['findings_mcnemar']:.1%} | "
        f"{row['equivalent']:.1f} | {row['contradictions']} |",
        flush=True,
    )


def wrong_studies(icc: float, personas: int, cancel: bool) -> float:
    """Share of simulated studies in which a pair of policies that are alike is decided for a side."""
    rng = rng_of(SEED, icc, personas, cancel)
    # votes are signs of normal variables with correlation r, and are then correlated by 2 / pi asin(r)
    question, persona = (np.sin(np.pi * one / 2) for one in (icc, OF_PERSONA))
    rest = 1 - question - persona
    pairs = list(combinations(range(POLICIES), 2))
    rule = StoppingRule(ALPHA / len(pairs), QUESTIONS, futility=3.0)
    drawn, wrong = min(personas, MOST_DRAWN), 0
    one_group = np.zeros(drawn, dtype=np.int64)
    for _ in range(0, STUDIES, AT_ONCE):
        shares = []
        for _ in range(AT_ONCE):
            quality = rng.standard_normal((POLICIES, QUESTIONS)) * np.sqrt(question / 2)
            taste = rng.standard_normal((POLICIES, personas)) * np.sqrt(persona / 2)
            if cancel:
                taste[:, personas // 2 :] = -taste[:, : personas // 2]
            panel = rng.permuted(np.tile(np.arange(personas), (QUESTIONS, 1)), axis=1)[:, :drawn]
            for a, b in pairs:
                liked = (quality[a] - quality[b])[:, None] + (taste[a] - taste[b])[panel]
                noise = rng.standard_normal((QUESTIONS, drawn), dtype=np.float32) * np.sqrt(rest)
                votes = np.sign(liked + noise).astype(np.int8)
                shares.append(weighted_shares(votes, votes != 0, one_group, np.ones(1)))
        # of all questions: judging that stops earlier can only be wrong less often
        decided = np.array([one.outcome != "open" for one in decide_all(np.array(shares), rule)])
        wrong += int(decided.reshape(AT_ONCE, len(pairs)).any(axis=1).sum())
    return wrong / STUDIES


def saving(icc: float, drawn: int) -> tuple[float, float]:
    """Share of the calls, and of what all of them find, in simulated studies of policies that differ, one criterion."""
    rng = rng_of(SEED, "saving", icc, drawn)
    question = np.sin(np.pi * icc / 2)
    pairs = list(combinations(range(SAVING_POLICIES), 2))
    rule = StoppingRule(ALPHA / len(pairs), QUESTIONS, futility=3.0)
    asked, found, of = 0.0, 0, 0
    for _ in range(SAVING_STUDIES):
        level = rng.standard_normal(SAVING_POLICIES) * QUALITY
        quality = level[:, None] + rng.standard_normal((SAVING_POLICIES, QUESTIONS)) * np.sqrt(question / 2)
        panel = rng.permuted(np.tile(np.arange(SAVING_PERSONAS), (QUESTIONS, 1)), axis=1)[:, :drawn]
        every, heard = [], []
        for a, b in pairs:
            noise = rng.standard_normal((QUESTIONS, SAVING_PERSONAS)) * np.sqrt(1 - question)
            votes = (np.sign((quality[a] - quality[b])[:, None] + noise) + 1) / 2
            every.append(votes.mean(1))
            heard.append(np.take_along_axis(votes, panel, axis=1).mean(1))
        mean, error = np.mean(every, 1), np.std(every, axis=1, ddof=1) / np.sqrt(QUESTIONS)
        by_t = np.where(np.abs(mean - 0.5) > stats.t.ppf(1 - rule.level / 2, QUESTIONS - 1) * error, 1, 0)
        by_t = by_t * np.sign(mean - 0.5)
        ends = settled(np.array(heard), rule)[:, ROUND - 1 :: ROUND]
        stop = np.where(ends.any(1), ROUND * (ends.argmax(1) + 1), QUESTIONS)
        decisions = decide_all(np.array(heard), rule)
        sides = [{"A": 1, "B": -1}.get(one.outcome, 0) for one in decisions]
        said = np.array(sides) * ([one.questions for one in decisions] <= stop)
        asked += stop.mean() / QUESTIONS * drawn / SAVING_PERSONAS / SAVING_STUDIES
        found, of = found + int(((said == by_t) & (by_t != 0)).sum()), of + int((by_t != 0).sum())
    return asked, found / of


def savings() -> list[dict[str, Any]]:
    rows = []
    for drawn in (6, 10, 12, 20):
        of_icc = {icc: saving(icc, drawn) for icc in OF_QUESTION}
        rows += [{"personas": drawn, "icc": icc, "calls": c, "findings": f} for icc, (c, f) in of_icc.items()]
        print(f"| {drawn} | " + " | ".join(f"{c:.1%}, {f:.1%}" for c, f in of_icc.values()) + " |", flush=True)
    return rows


def simulated() -> list[dict[str, Any]]:
    rows = []
    for cancel in (True, False):
        for personas in PERSONAS:
            of_icc = {icc: wrong_studies(icc, personas, cancel) for icc in OF_QUESTION}
            rows += [{"personas": personas, "icc": icc, "these": cancel, "wrong": rate} for icc, rate in of_icc.items()]
            whose = "these" if cancel else "others"
            print(
                f"| {whose} | {personas} | " + " | ".join(f"{rate:.1%}" for rate in of_icc.values()) + " |", flush=True
            )
    return rows


def main() -> None:
    started = time.process_time()
    ratios: dict[str, float] = {}
    absolute: dict[str, Any] = {}
    folders = [one for one in sys.argv[1:] if not one.startswith("--")]
    if folders:
        print("| personas | margin | futility | calls | findings, of all | McNemar's | equivalent | contradictions |")
        absolute["replay"] = replayed([judged(one) for one in folders])
        first = absolute["replay"][1]
        ratios = {"calls_saved": 1 / first["calls"], "findings": first["findings"]}
    if "--replay" not in sys.argv:
        print("| personas | " + " | ".join(f"ICC {icc:g}: calls, findings" for icc in OF_QUESTION) + " |")
        absolute["savings"] = savings()
        print("| null is true of | personas | " + " | ".join(f"ICC {icc:g}" for icc in OF_QUESTION) + " |")
        absolute["null"] = simulated()
        ratios["alpha_over_worst"] = ALPHA / max(1e-9, max(row["wrong"] for row in absolute["null"] if row["these"]))
    absolute["cpu_seconds"] = round(time.process_time() - started, 1)
    tell("sequential", ratios=ratios, **absolute, machine=platform.platform())


if __name__ == "__main__":
    main()
