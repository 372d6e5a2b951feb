"""Numbers and findings as people read them; the terminal and the page say the same."""

from __future__ import annotations

import math
from typing import Any

from modpo_hpc.report.results import Results

METHOD_NAMES = {
    "chi2": "chi-squared",
    "chi2_corrected": "chi-squared, continuity corrected",
    "exact": "exact",
    "midp": "mid-p",
}
CORRECTION_NAMES = {"none": "without correction", "holm": "after Holm", "bh": "after Benjamini-Hochberg"}


def p_value(p: float) -> str:
    """``.221``, ``<.001``, ``1``: three decimals without the leading zero, as in the journals of the field."""
    if p < 0.001:
        return "<.001"
    return "1" if p >= 0.9995 else f"{p:.3f}".lstrip("0")


def percent(share: float, digits: int = 1) -> str:
    return "" if math.isnan(share) else f"{100 * share:.{digits}f}%"


def interval(low: float, high: float) -> str:
    """Bounds of a share, in percent."""
    return "" if math.isnan(low) or math.isnan(high) else f"{100 * low:.0f}–{100 * high:.0f}"


def counted(count: int, noun: str) -> str:
    """``1 pair``, ``21 pairs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def title(name: str) -> str:
    """``trust_rapport`` -> ``trust rapport``."""
    return name.replace("_", " ")


def phase_line(results: Results, phase: str) -> str:
    """The size of a phase in one line."""
    size = results.phases[phase]
    return (
        f"{len(size['policies'])} policies, {counted(size['pairs'], 'pair')}, {size['questions']:,} questions, "
        f"{size['personas']} personas, {size['cast']:,} verdicts"
    )


def findings(results: Results, phase: str) -> list[str]:
    """What the tables of a phase say, in sentences."""
    sentences = []
    criteria = results.phases[phase]["criteria"]
    for criterion in criteria:
        ranked = results.rows("ranking", phase=phase, criterion=criterion)
        first, last = ranked[0], ranked[-1]
        if first["win_rate"] == last["win_rate"]:
            sentences.append(f"{title(criterion).capitalize()}: no policy wins more often than another.")
            continue
        most = [row["policy"] for row in ranked if row["rank"] == 1]
        least = [row["policy"] for row in ranked if row["win_rate"] == last["win_rate"]]
        sentences.append(
            f"{title(criterion).capitalize()}: {' and '.join(most)} {'wins' if len(most) == 1 else 'win'} most often "
            f"({percent(first['win_rate'])} of the questions on average), {' and '.join(least)} least "
            f"({percent(last['win_rate'])})."
        )
    front = [row["policy"] for row in results.rows("pareto", phase=phase) if row["on_front"]]
    together = " and ".join(title(criterion) for criterion in criteria)
    volume = results.phases[phase]["hypervolume"]
    sentences.append(f"Best trade-offs of {together} (Pareto front): {', '.join(front)}; hypervolume {volume:.2f}.")
    tests = results.rows("mcnemar", phase=phase)
    clear = sum(row["significant"] for row in tests)
    sentences += maintained(results, phase)
    sentences.append(f"{clear} of {len(tests)} comparisons are significant {correction_words(results)}.")
    return sentences


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
            sentences.append(f"{title(criterion).capitalize()} is maintained {within} by {', '.join(kept)}.")
        if left:
            sentences.append(
                f"That {title(criterion)} is kept {within} is not shown for {', '.join(left)}; "
                "that is not to say that it is lost."
            )
    return sentences


def correction_words(results: Results) -> str:
    settings = results.summary["settings"]
    return f"at {settings['alpha']:g} {CORRECTION_NAMES[settings['correction']]}"


def test_words(results: Results) -> str:
    """How the p-values were made."""
    settings = results.summary["settings"]
    return f"McNemar's test ({METHOD_NAMES[settings['mcnemar']]}), ties left out"


def comparison_sign(row: dict[str, Any]) -> str:
    """``>`` or ``<`` where a comparison is significant, ``~`` where it is not."""
    return "~" if not row["significant"] else ">" if row["b"] > row["c"] else "<"


def odds(row: dict[str, Any]) -> str:
    """Odds ratio of a comparison with its interval."""
    if math.isnan(row["odds_ratio"]):
        return ""
    return f"{_ratio(row['odds_ratio'])} ({_ratio(row['odds_low'])}–{_ratio(row['odds_high'])})"


def _ratio(value: float) -> str:
    return (
        "∞"
        if math.isinf(value)
        else f"{value:.0f}"
        if value >= 100
        else f"{value:.2g}"
        if value < 10
        else f"{value:.1f}"
    )


def signed_percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:+.1f}"


def signed_interval(low: float, high: float) -> str:
    """Bounds of a difference of shares, in percentage points."""
    return "" if math.isnan(low) or math.isnan(high) else f"{100 * low:+.0f} to {100 * high:+.0f}"


def decimals(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
