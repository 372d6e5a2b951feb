"""What the tables of a study say whose pairs were judged until they were decided: sentences and tables."""

from __future__ import annotations

from modpo_hpc.report import formats
from modpo_hpc.report.columns import COMPARISON, INTERVAL, POLICY
from modpo_hpc.report.parts import Shown, abreast, number, table, text
from modpo_hpc.report.results import Results

ESTIMAND = (
    "The share of votes is a mean over questions like these and over the personas of the study, a tie half a vote; "
    "questions that were not judged are not in it."
)
NOT_MADE = (
    "Not made, because they need every question judged, or a number of votes that was fixed beforehand: win rates with "
    "intervals, McNemar's tests, non-inferiority, Pareto front, Bradley-Terry abilities, agreement of the personas, "
    "position bias, length, groups."
)


def phase_findings(results: Results, phase: str) -> list[str]:
    """What was decided in a phase, in sentences."""
    size = results.phases[phase]
    share = size["asked"] / (size["asked"] + size["decided"])
    return [
        *(_criterion_finding(results, phase, criterion) for criterion in size["criteria"]),
        f"{size['asked']:,} verdicts were asked for, {formats.percent(share, 0)} of those that all questions with "
        f"{size['personas_per_question']} personas each would have taken.",
        ESTIMAND,
        NOT_MADE,
    ]


def methods_words(results: Results) -> str:
    """How pairs were judged and decided, as a paper states it."""
    alpha = results.summary["settings"]["alpha"]
    size = next(iter(results.phases.values()))
    margin = (
        f", or within {100 * size['margin']:g} points of one half (equivalence, stated beforehand)"
        if size["margin"]
        else ""
    )
    futile = (
        f", or a decision was out of reach even if the pair turned out {size['futility']:g} standard errors better"
        if size["futility"]
        else ""
    )
    return (
        f"Pairs of policies were judged sequentially: test questions in one random order, "
        f"{size['personas_per_question']} test personas drawn anew for each, half of them in either order, until a "
        f"betting confidence sequence (Waudby-Smith and Ramdas 2024) of the mean share of votes lay on one side of one "
        f"half{margin}, at a level of {alpha:g} divided by the pairs of a phase (Bonferroni){futile}, or no question "
        f"was left."
    )


def _criterion_finding(results: Results, phase: str, criterion: str) -> str:
    rows = results.rows("shares", phase=phase, criterion=criterion)
    counts = {name: sum(row["decision"] == name for row in rows) for name in ("better", "equivalent", "open")}
    margin = results.phases[phase]["margin"]
    said = [f"in {counts['better']} of {formats.counted(len(rows), 'pair')} one policy is preferred"]
    if margin:
        said.append(f"in {counts['equivalent']} both are within {100 * margin:g} points of one half")
    said.append(f"{counts['open']} are open")
    first = results.rows("share_ranking", phase=phase, criterion=criterion)[0]
    sure = "" if first["rank_high"] == 1 else ", which is not shown to be the highest"
    return (
        f"{formats.title(criterion).capitalize()}: {', '.join(said)}. {first['policy']} has the highest mean share of "
        f"votes, {formats.percent(first['share'])} (interval {formats.interval(first['low'], first['high'])}){sure}."
    )


def ranking_table(results: Results, phase: str) -> Shown:
    """Mean share of votes of each policy over its opponents."""
    return abreast(
        "Mean share of votes over all opponents; intervals and possible ranks hold for all policies at once and "
        "whenever judging stopped",
        [POLICY],
        [
            number("share", formats.percent, "share"),
            INTERVAL,
            number("rank", formats.ranks, "rank", "rank_low", "rank_high"),
        ],
        results.abreast(phase, "share_ranking", "policy").values(),
        results.phases[phase]["criteria"],
        lambda row: row["rank"] == 1,
        f"{phase}_share_ranking",
    )


def share_table(results: Results, phase: str) -> Shown:
    return table(
        "Every pair: mean share of the votes that A has, its interval (at all times, for all pairs of the criterion at "
        "once), what was decided and after how many questions; questions judged and votes. Beside it questions won by "
        "the majority of their few personas, and A's share of them: as they are, without an interval, and not the win "
        "rate by all personas.",
        [
            *COMPARISON,
            number("votes for A", formats.percent, "share"),
            INTERVAL,
            text("preferred", "preferred"),
            number("decided after", lambda count: f"{count}" if count else "", "decided_after"),
            number("questions", str, "questions"),
            number("votes", "{:,}".format, "votes"),
            number("majorities A : B", "{} : {}".format, "wins_a", "wins_b"),
            number("majority rate of A", formats.percent, "majority_a"),
        ],
        (
            row | {"preferred": row["better"] if row["decision"] == "better" else row["decision"]}
            for row in results.rows("shares", phase=phase)
        ),
        f"{phase}_shares",
    )
