"""What the tables of a phase say, in sentences as true as the numbers; the terminal and the page say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modpo_hpc.methods.method import Method
from modpo_hpc.report import formats, sequential
from modpo_hpc.report.results import Results, Rows

METHOD_NAMES = {
    "chi2": "chi-squared",
    "chi2_corrected": "chi-squared, continuity corrected",
    "exact": "exact",
    "midp": "mid-p",
}
CORRECTION_NAMES = {"none": "without correction", "holm": "after Holm", "bh": "after Benjamini-Hochberg"}

MAY_BE_ON_FRONT = 0.2
"""Share of draws from which a policy is named beside the Pareto front."""


def phase_line(results: Results, phase: str) -> str:
    """The size of a phase in one line."""
    size = results.phases[phase]
    some = f"{results.personas_per_question} of " * (results.personas_per_question < size["personas"])
    return (
        f"{len(size['policies'])} policies, {formats.counted(size['pairs'], 'pair')}, {size['questions']:,} questions, "
        f"{some}{size['personas']} personas{' on each' * bool(some)}, {size['cast']:,} verdicts"
    )


def opponents(results: Results, phase: str) -> str:
    """Over whom a phase averages win rates."""
    anchors = results.phases[phase].get("anchors")
    return f"its anchors ({', '.join(anchors)}; against itself an anchor wins half)" if anchors else "all opponents"


def phase_findings(results: Results, phase: str) -> list[str]:
    """What the tables of a phase say, in sentences."""
    if results.is_sequential:
        return sequential.phase_findings(results, phase)
    criteria = results.phases[phase]["criteria"]
    return [
        *placebo_findings(results, phase),
        *(_ranking_finding(results, phase, criterion) for criterion in criteria),
        _front_finding(results, phase),
        *maintained(results, phase),
        *(_pairs_finding(results, phase, criterion) for criterion in criteria),
    ]


def in_two_sentences(results: Results, phase: str, policies: Mapping[str, Method]) -> list[str]:
    """What a phase comes to: MODPO beside DPO on the same anchor, then beside the base model and its placebos.

    A phase that does not judge these together gets the first two of its findings.
    """
    judged = {} if results.is_sequential else {name: policies[name] for name in results.phases[phase]["policies"]}
    placebos: dict[str, list[str]] = results.summary.get("placebos", {})
    for name, policy in judged.items():
        if policy.method != "modpo" or any(name in others for others in placebos.values()):
            continue
        anchor = list(policy.made_of)[:1]
        rivals = [one for one, other in judged.items() if other.method == "dpo" and list(other.made_of) == anchor]
        bases = [one for one, other in judged.items() if other.is_baseline]
        if rivals and bases:
            beside = [bases[0], *(one for one in placebos.get(name, []) if one in judged)]
            parts = [
                f"against {'its placebo ' * (one != bases[0])}{one}: {_differences(results, phase, name, one)}"
                for one in beside
            ]
            return [
                f"{name} against {rivals[0]}, in points of questions won (95% intervals): "
                f"{_differences(results, phase, name, rivals[0])}.",
                f"The same {', and '.join(parts)}.",
            ]
    return phase_findings(results, phase)[:2]


def placebo_findings(results: Results, phase: str) -> list[str]:
    """For each policy that is judged beside its placebo: what the margins did, which is what is left without it."""
    sentences = []
    for policy, placebos in results.summary.get("placebos", {}).items():
        for placebo in placebos:
            if parts := _differences(results, phase, policy, placebo):
                sentences.append(f"{policy} less its placebo {placebo}, in points of questions won: {parts}.")
    return sentences


def _differences(results: Results, phase: str, policy: str, other: str) -> str:
    """What ``policy`` wins more than ``other`` under each criterion of a phase, with intervals; empty if not judged."""
    return "; ".join(
        f"{formats.title(row['criterion'])} {formats.signed_percent(gap)} "
        f"({formats.signed_interval(low, high)}{'' if low > 0 or high < 0 else ', not shown to differ from 0'})"
        for row in results.rows("win_rates", phase=phase)
        if {row["policy_a"], row["policy_b"]} == {policy, other}
        for gap, low, high in [_turned(row, policy)]
    )


def _turned(row: dict[str, Any], first: str) -> tuple[float, float, float]:
    ends = row["difference"], row["difference_low"], row["difference_high"]
    return ends if row["policy_a"] == first else (-ends[0], -ends[2], -ends[1])


def _ranking_finding(results: Results, phase: str, criterion: str) -> str:
    """Who is ahead, and who is not told apart from them: a tenth of a per cent is no victory."""
    ranked, name = results.rows("ranking", phase=phase, criterion=criterion), formats.title(criterion).capitalize()
    first, last = ranked[0], ranked[-1]
    contenders = [row for row in ranked if row["rank_low"] == 1]
    if len(contenders) == len(ranked):
        return f"{name}: no policy is shown to win more often than another on average."
    if len(contenders) == 1:
        ahead = f"{first['policy']} wins most often ({formats.percent(first['win_rate'])} of the questions on average)"
    else:
        listed = ", ".join(f"{row['policy']} {formats.percent(row['win_rate'])}" for row in contenders)
        ahead = f"who wins most often is not settled between {listed} of the questions on average"
    lowest = [row for row in ranked if row["rank_high"] == len(ranked)]
    least = f"; {last['policy']} least ({formats.percent(last['win_rate'])})" if len(lowest) == 1 else ""
    return f"{name}: {ahead}{least}."


def _front_finding(results: Results, phase: str) -> str:
    rows = results.rows("pareto", phase=phase)
    together = " and ".join(formats.title(criterion) for criterion in results.phases[phase]["criteria"])
    front = ", ".join(
        f"{row['policy']} ({formats.percent(row['front_probability'], 0)})" for row in rows if row["on_front"]
    )
    missed = beside_the_front(rows)
    more = f"; {', '.join(missed)} may belong there" if missed else ""
    volume = results.phases[phase]["hypervolume"]
    return (
        f"Pareto front of {together}, and how often a policy is on it with other questions and personas: {front}{more}"
        f"; hypervolume {volume:.2f}."
    )


def beside_the_front(rows: Rows) -> list[str]:
    """The policies that are not on the Pareto front and may belong there."""
    return [row["policy"] for row in rows if not row["on_front"] and row["front_probability"] >= MAY_BE_ON_FRONT]


def _pairs_finding(results: Results, phase: str, criterion: str) -> str:
    """Two counts that must not be taken for one another: other personas may vote otherwise, or these are all."""
    apart = results.rows("win_rates", phase=phase, criterion=criterion)
    tests = results.rows("mcnemar", phase=phase, criterion=criterion)
    family = f"{formats.counted(len(tests), 'pair')} of {formats.title(criterion)}"
    return (
        f"{sum(row['separated'] for row in apart)} of the {family} differ, with questions and personas as samples and "
        f"all intervals at once; McNemar's test, to which these personas are all there are, finds "
        f"{sum(row['significant'] for row in tests)} {correction_note(results)} over the {len(tests)}."
    )


def maintained(results: Results, phase: str) -> list[str]:
    """For each margin of the study, which policies are shown to keep it. Nothing else may be called maintained."""
    sentences = []
    for criterion, margin in results.summary["settings"]["non_inferiority"].items():
        rows = results.rows("non_inferiority", phase=phase, criterion=criterion)
        if not rows:
            continue
        kept = [row["policy"] for row in rows if row["non_inferior"]]
        left = [row["policy"] for row in rows if not row["non_inferior"]]
        within = f"within {100 * margin:g} points of {rows[0]['reference']}"
        if kept:
            sentences.append(f"{formats.title(criterion).capitalize()} is maintained {within} by {', '.join(kept)}.")
        if left:
            sentences.append(
                f"That {formats.title(criterion)} is kept {within} is not shown for {', '.join(left)}; "
                "that is not to say that it is lost."
            )
    return sentences


def correction_note(results: Results) -> str:
    settings = results.summary["settings"]
    return f"at {settings['alpha']:g} {CORRECTION_NAMES[settings['correction']]}"


def test_note(results: Results) -> str:
    """How the p-values were made."""
    settings = results.summary["settings"]
    return f"McNemar's test ({METHOD_NAMES[settings['mcnemar']]}), ties left out"
