"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

from modpo_hpc.report.parts import Shown

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "^": r"\textasciicircum{}",
    "~": r"$\sim$",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
}


def escape(text: str) -> str:
    """``text`` as LaTeX that prints the same characters."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def booktabs(shown: Shown, mark: str | None = None) -> str:
    """``shown`` as a table environment; needs ``\\usepackage{booktabs}``. The caption carries the ``mark``."""
    caption = shown.caption if mark is None else f"{shown.caption} ({mark})"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{shown.file}}}",
        rf"\begin{{tabular}}{{{''.join('r' if column.number else 'l' for column in shown.columns)}}}",
        r"\toprule",
        " & ".join(escape(column.heading) for column in shown.columns) + r" \\",
        r"\midrule",
        *(
            " & ".join(
                rf"\textbf{{{escape(cell)}}}" if (place, number) in shown.strong else escape(cell)
                for number, cell in enumerate(row)
            )
            + r" \\"
            for place, row in enumerate(shown.rows)
        ),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
