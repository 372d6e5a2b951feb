"""Numbers and names as people read them; the terminal and the page show the same."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]\d+)?(?![\w.]*[A-Za-z_])")


def numbers_in(text: str) -> list[str]:
    """The numbers that ``text`` prints, as they stand there."""
    return NUMBER.findall(text.replace("–", " "))


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


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def title(name: str) -> str:
    """``trust_rapport`` -> ``trust rapport``."""
    return name.replace("_", " ")


def comparison_sign(b: int, c: int, significant: bool) -> str:
    """``>`` or ``<`` where a comparison is significant, ``~`` where it is not."""
    return "~" if not significant else ">" if b > c else "<"


def ranks(rank: int, low: int, high: int) -> str:
    """``2``, or ``2 (1–3)`` where the rank is not settled."""
    return str(rank) if low == high else f"{rank} ({low}–{high})"


def odds(ratio: float, low: float, high: float) -> str:
    """Odds ratio of a comparison with its interval."""
    return "" if math.isnan(ratio) else f"{_ratio(ratio)} ({_ratio(low)}–{_ratio(high)})"


def _ratio(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.2g}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def points(share: float | None) -> str:
    """A share in percentage points; nothing where there is none."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.1f}"


def signed(value: float, digits: int = 2) -> str:
    """``+0.40``, ``-1.20``; what is rounded to nothing is ``+0.00`` from either side."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def signed_bounds(low: float, high: float) -> str:
    """``-0.12 to +0.40``."""
    return f"{signed(low)} to {signed(high)}"


def signed_percent(share: float) -> str:
    return "" if math.isnan(share) else signed(100 * share, 1)


def signed_interval(low: float, high: float) -> str:
    """Bounds of a difference of shares, in percentage points."""
    return "" if math.isnan(low) or math.isnan(high) else f"{signed(100 * low, 0)} to {signed(100 * high, 0)}"


def decimals(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
