"""Sections that a reviewer looks for: is it the votes, the order, the length, the group?"""

from __future__ import annotations

from functools import partial
from statistics import fmean, median

from modpo_hpc.report import formats, robustness_figures
from modpo_hpc.report.columns import AGREEMENT, CELL, CRITERION, INTERVAL, JUDGE, PHASE, POLICY
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, is_number, number, table, text
from modpo_hpc.report.results import Results, Rows

GROUPS_TOLD = 5


def certainty_section(results: Results) -> ReportSection:
    """How far the verdicts can be trusted: what is missing, how much the personas agree, what the order does."""
    total = {
        name: sum(one[name] for one in results.phases.values()) for name in ("asked", "unparsed", "missing", "decided")
    }
    lost = (
        f"Of {total['asked']:,} verdicts, {total['missing']:,} are missing and {total['unparsed']:,} could not be "
        "parsed; they count as no vote."
    )
    heading = "How sure the votes are"
    if results.is_sequential:
        return ReportSection("certainty", heading, findings=[lost], tables=[_completeness_table(results)])
    agreement, position = results.tables["persona_agreement"], results.tables["position_bias"]
    findings = [
        lost,
        _agreement_words(agreement),
        _position_words(position),
        _flip_words(position),
    ]
    if total["decided"]:
        findings.append(
            f"The exact stop left {total['decided']:,} verdicts unasked because they could change no winner. Winners "
            "are those of all votes; margins and correlations rest on the votes that were cast."
        )
    return ReportSection(
        "certainty",
        heading,
        findings=findings,
        figures=[
            ReportFigure(
                "position_bias",
                "Share of decided votes won by the answer that was shown first, for every pair; half is no bias.",
                partial(robustness_figures.position_figure, results),
                wide=True,
            )
        ],
        tables=[
            _position_table(position),
            _agreement_table(agreement),
            *_panel_tables(results),
            _completeness_table(results),
        ],
    )


def length_section(results: Results) -> ReportSection | None:
    """Win rates with the difference in length taken out; nothing where there are no win rates."""
    if results.is_sequential:
        return None
    rows = results.tables["length_control"]
    turned = [row for row in rows if (row["win_rate"] - 0.5) * (row["controlled"] - 0.5) < 0]
    clear = [row for row in turned if row["low"] > 0.5 or row["high"] < 0.5]
    return ReportSection(
        "length",
        "Is it the length?",
        "A logistic regression on the difference in length gives the win rate of A that answers of equal length would "
        "have. Ties count half here.",
        findings=[
            f"At equal length, the winner of {len(turned)} of {len(rows)} comparisons would be the other policy; for "
            f"{len(clear)} of them the interval leaves no doubt."
        ],
        figures=[
            ReportFigure(
                "length_control",
                "Win rate of A as it is and at equal length, one point a comparison. Far from the diagonal, length "
                "matters.",
                partial(robustness_figures.length_figure, results),
            )
        ],
        tables=[
            table(
                "Win rate of A as it is and at equal length",
                [
                    *CELL,
                    number("tokens A", "{:.0f}".format, "length_a"),
                    number("tokens B", "{:.0f}".format, "length_b"),
                    number("A wins", formats.percent, "win_rate"),
                    number("at equal length", formats.percent, "controlled"),
                    INTERVAL,
                    number("log-odds per SD", formats.signed, "slope"),
                ],
                rows,
                "length_control",
                folded=True,
            )
        ],
    )


def groups_section(results: Results) -> ReportSection | None:
    """Who prefers what; nothing where personas have no demographics that differ."""
    rows = results.tables.get("groups")
    if not rows:
        return None
    return ReportSection(
        "groups",
        "Who prefers what",
        "Share of the votes that each policy wins, by group of personas. Intervals take questions and personas as "
        "samples, so that of a group of two they say little.",
        findings=_group_words(rows),
        figures=[
            ReportFigure(
                f"{phase}_groups",
                f"{phase}: the favourite of all personas in each group, and the best other policy there. Filled "
                "circle: favourite, with interval; open square: the other.",
                partial(robustness_figures.groups_figure, results, phase),
                wide=True,
            )
            for phase in results.phases
        ],
        tables=[
            table(
                "Votes won in each group",
                [
                    PHASE,
                    CRITERION,
                    text("Attribute", "attribute", formats.title),
                    text("Group", "group"),
                    number("personas", str, "personas"),
                    POLICY,
                    number("votes won", formats.percent, "win_rate"),
                    INTERVAL,
                    number("all personas", formats.percent, "overall"),
                ],
                rows,
                "groups",
                folded=True,
            )
        ],
    )


def _position_table(rows: Rows) -> Shown:
    return table(
        "Position bias: votes won by the first shown; questions whose majority flips between those who saw A first and "
        "those who saw B first, beside random halves; win rate of A by order, and with both orders weighing the same",
        [
            *CELL,
            number("first wins", formats.percent, "first_share"),
            INTERVAL,
            number("flips", formats.percent, "flips"),
            number("by chance", formats.percent, "flips_by_chance"),
            number("A first", formats.percent, "rate_a_first"),
            number("A second", formats.percent, "rate_a_second"),
            number("A adjusted", formats.percent, "adjusted_a"),
            number("p", formats.p_value, "p"),
            number("p adjusted", formats.p_value, "p_adjusted"),
        ],
        rows,
        "position_bias",
        folded=True,
    )


def _agreement_table(rows: Rows) -> Shown:
    return table(
        "Agreement of the personas on a question: intra-class correlation and effective number of votes",
        [
            *CELL,
            number("votes", "{:,}".format, "votes"),
            number("correlation", formats.decimals, "icc"),
            number("effective votes", "{:,.0f}".format, "effective_votes"),
        ],
        rows,
        "persona_agreement",
        folded=True,
    )


def _completeness_table(results: Results) -> Shown:
    counts = {"asked": "asked", "votes": "cast", "unparsed": "unparsed", "missing": "missing", "not needed": "decided"}
    return table(
        "Verdicts of every cell",
        [*CELL, *(number(heading, "{:,}".format, field) for heading, field in counts.items())],
        results.tables["completeness"],
        "completeness",
        folded=True,
    )


def _agreement_words(rows: Rows) -> str:
    correlations = _finite(rows, "icc")
    if not correlations:
        return "All votes are alike, so that there is no agreement to measure."
    votes, effective = (median(_finite(rows, name)) for name in ("votes", "effective_votes"))
    return (
        f"Votes of two personas on one question correlate with {median(correlations):.2f} (median of the intra-class "
        f"correlations), so that the {votes:,.0f} votes on a pair tell its mean as well as {effective:,.0f} "
        "independent ones would."
    )


def _position_words(rows: Rows) -> str:
    shares = _finite(rows, "first_share")
    if not shares:
        return "Every vote is a tie, so that there is no position bias to measure."
    biased = sum(row["low"] > 0.5 or row["high"] < 0.5 for row in rows)
    return (
        f"The answer shown first wins {formats.percent(fmean(shares))} of the decided votes on average; in {biased} "
        f"of {len(rows)} comparisons the interval leaves out one half."
    )


def _flip_words(rows: Rows) -> str:
    changed = [row for row in rows if row["changes_result"]]
    flips, chance = (fmean(row[name] for row in rows) for name in ("flips", "flips_by_chance"))
    what = ", ".join(
        f"{row['policy_a']} : {row['policy_b']} ({formats.title(row['criterion'])})" for row in changed[:5]
    )
    return (
        f"Between those who saw A first and those who saw B first, the majority flips on {formats.percent(flips)} of "
        f"the questions ({formats.percent(chance)} between random halves). With both orders weighing the same, "
        f"{len(changed)} of {len(rows)} results change{f': {what}' if what else ''}."
    )


def _group_words(rows: Rows) -> list[str]:
    """Groups that prefer another policy than the favourite of all, for sure; the largest groups first."""
    other = [row for row in rows if row["favourite"] and row["best_here"] != row["policy"]]
    failed = sorted((row for row in other if row["separated"]), key=lambda row: -row["personas"])
    told = [
        f"{row['phase']}, {formats.title(row['criterion'])}: for {formats.title(row['attribute'])} {row['group']} "
        f"({formats.counted(row['personas'], 'persona')}) the favourite of all, {row['policy']}, is not the favourite: "
        f"{row['best_here']} wins more of their votes."
        for row in failed[:GROUPS_TOLD]
    ]
    if len(failed) > GROUPS_TOLD:
        told.append(f"So it is for {len(failed) - GROUPS_TOLD} more groups, none of them larger; the table has all.")
    if not failed:
        told.append("No group is shown to prefer another policy than the favourite of all.")
    if left := len(other) - len(failed):
        told.append(
            f"In {formats.counted(left, 'group')} another policy wins more votes, by no more than chance could give."
        )
    return told


def _panel_tables(results: Results) -> list[Shown]:
    """How the judges of a panel agree, and what each of them found; nothing for one judge."""
    if "judge_agreement" not in results.tables:
        return []
    return [
        table(
            "Agreement of the judges of the panel",
            [PHASE, CRITERION, JUDGE, text("Other judge", "other_judge"), *AGREEMENT],
            results.tables["judge_agreement"],
            "judge_agreement",
        ),
        table(
            "Win rates by each judge of the panel alone",
            [
                *CELL,
                JUDGE,
                number("A wins", formats.percent, "win_rate_a"),
                number("B wins", formats.percent, "win_rate_b"),
            ],
            results.tables["judge_rates"],
            "judge_rates",
            folded=True,
        ),
    ]


def _finite(rows: Rows, column: str) -> list[float]:
    return [row[column] for row in rows if is_number(row[column])]
