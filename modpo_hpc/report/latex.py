"""Tables for a paper: LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from modpo_hpc.report.parts import Shown

ROWS_OF_A_PAGE = 40
LETTERS_OF_A_LINE = {"normalsize": 60, "small": 66, "footnotesize": 72, "scriptsize": 82, "tiny": 110}
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
    """``shown`` as a table environment, scaled down where it is wider than the text; a long one as a longtable.

    The first line names the packages that it needs. The caption carries the ``mark``.
    """
    caption = shown.caption if mark is None else f"{shown.caption} ({mark})"
    head = [rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{shown.file}}}"]
    kinds = "".join("r" if column.number else "l" for column in shown.columns)
    headings = [r"\toprule", _row([escape(column.heading) for column in shown.columns]), r"\midrule"]
    body = [
        _row([_cell(cell, (place, number) in shown.strong) for number, cell in enumerate(row)])
        + f" % modpo trace: {shown.file}.{place + 1}.COLUMN"
        for place, row in enumerate(shown.rows)
    ]
    if len(shown.rows) <= ROWS_OF_A_PAGE:
        lines = [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            *head,
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{kinds}}}",
            *headings,
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    else:
        lines = [
            r"% \usepackage{booktabs,longtable}",
            rf"{{\{_size_of(shown)}\setlength{{\tabcolsep}}{{1pt}}",
            rf"\begin{{longtable}}{{{kinds}}}",
            head[0] + head[1] + r" \\",
            *headings,
            r"\endfirsthead",
            *headings,
            r"\endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}}",
        ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(text: str, strong: bool) -> str:
    return rf"\textbf{{{escape(text)}}}" if strong else escape(text)


def _size_of(shown: Shown) -> str:
    """The largest size of letters at which the rows fit a line, as far as the number of letters tells."""
    columns = zip(*([column.heading for column in shown.columns], *shown.rows), strict=True)
    letters = sum(max(map(len, column)) for column in columns)
    fits = (name for name, most in LETTERS_OF_A_LINE.items() if letters <= most)
    return next(fits, "tiny")
