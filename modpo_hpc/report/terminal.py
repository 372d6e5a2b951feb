"""Results in a terminal, readable in 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from modpo_hpc.report import findings, formats
from modpo_hpc.report.parts import ReportSection, Shown
from modpo_hpc.report.results import Results, Rows
from modpo_hpc.report.sequential import ranking_table

WIDTH = 100
WIDE = 140
CRITERIA_ABREAST = 2
BAR = 10
AHEAD = "bold cyan"


def show(results: Results, console: Console) -> None:
    """Print the rankings and McNemar's tests of every phase, or what was decided if it was judged sequentially."""
    console.print(_head(results))
    pairs = _shares if results.is_sequential else _mcnemar
    for phase, size in results.phases.items():
        console.print()
        console.rule(f"[bold]{phase}[/]  {findings.phase_line(results, phase)}", style="dim")
        console.print(_table(ranking_table(results, phase)) if results.is_sequential else _ranking(results, phase))
        for first in range(0, len(size["criteria"]), CRITERIA_ABREAST):
            console.print(pairs(results, phase, size["criteria"][first : first + CRITERIA_ABREAST]))
        for sentence in findings.phase_findings(results, phase):
            _say(console, f"  • {sentence}")
    _say(console, _legend(results), "dim")


def show_incomplete(cells: Rows, console: Console) -> None:
    """Print which cells lack verdicts, and nothing else."""
    table = Table(title="Verdicts that are missing or could not be parsed", box=box.SIMPLE_HEAD, title_style="bold red")
    for name in ("phase", "criterion", "pair"):
        table.add_column(name)
    for name in ("asked", "missing", "unparsed", "lost"):
        table.add_column(name, justify="right")
    for cell in sorted(cells, key=lambda one: -one["lost"]):
        if cell["lost"] > 0:
            pair = f"{cell['policy_a']} : {cell['policy_b']}"
            counts = (f"{cell[name]:,}" for name in ("asked", "missing", "unparsed"))
            table.add_row(cell["phase"], cell["criterion"], pair, *counts, formats.percent(cell["lost"]))
    console.print(table)


def show_sections(sections: Sequence[ReportSection], mark: str | None, console: Console) -> None:
    """Print ``sections`` of a report: their words and their tables."""
    if mark:
        console.print(Text(mark, style="bold yellow"))
    for section in sections:
        console.rule(f"[bold]{section.heading}[/]", style="dim")
        if section.lead:
            _say(console, section.lead, "dim")
        for name, fact in section.facts.items():
            console.print(Text.assemble((f"{name}  ", "bold"), fact), soft_wrap=False)
        for sentence in section.findings:
            _say(console, f"  • {sentence}")
        for shown in section.tables:
            console.print(_table(shown))


def _say(console: Console, text: str, style: str = "") -> None:
    """Print ``text`` in lines of the console's width; unbroken where it holds a command, which is to be copied."""
    console.print(Text(text, style), soft_wrap="modpo " in text)


def _table(shown: Shown) -> Table:
    table = _titled(shown.caption)
    for column in shown.columns:
        table.add_column(column.heading, justify="right" if column.number else "left", no_wrap=column.number)
    for place, row in enumerate(shown.rows):
        table.add_row(*(Text(cell, style=AHEAD if (place, k) in shown.strong else "") for k, cell in enumerate(row)))
    return table


def _head(results: Results) -> RenderableType:
    told = results.summary
    study = ("Study ", "dim"), (told["study"], "bold")
    lines = [Text.assemble(*study, ("  judge ", "dim"), told["judge"], ("  seed ", "dim"), str(told["seed"]))]
    lines += [Text(f"counted together: {one}", style="yellow") for one in results.mixed_judges]
    if results.mark:
        lines.append(Text(results.mark, style="bold yellow"))
    return Panel(Group(*lines), box=box.ROUNDED, expand=False, border_style="yellow" if results.mark else "dim")


def _titled(title: str, *names: str) -> Table:
    """A table whose first columns are words under ``names``."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=Text(title, "bold", no_wrap=False, overflow="fold"),
        title_justify="left",
    )
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _ranking(results: Results, phase: str) -> Table:
    table = _titled(f"Average win rate over {findings.opponents(results, phase)}", "policy")
    criteria = results.phases[phase]["criteria"]
    for criterion in criteria:
        table.add_column(formats.title(criterion), justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column(
            "95% CI" if results.summary["settings"]["confidence"] == 0.95 else "interval", style="dim", no_wrap=True
        )
    front = {row["policy"] for row in results.rows("pareto", phase=phase) if row["on_front"]}
    for policy, by_criterion in results.by_policy(phase).items():
        cells: list[RenderableType] = [Text.assemble(policy, (" ◆" if policy in front else "", "cyan"))]
        for criterion in criteria:
            row = by_criterion[criterion]
            style = AHEAD if row["rank"] == 1 else ""
            cells += [
                Text(formats.percent(row["win_rate"]), style=style),
                Text(_bar(row["win_rate"]), style=style or "dim"),
                formats.interval(row["low"], row["high"]),
            ]
        table.add_row(*cells)
    return table


def _mcnemar(results: Results, phase: str, criteria: list[str]) -> Table:
    table = _titled("McNemar's test of each pair: questions won by A and by B", "A", "B")
    for criterion in criteria:
        table.add_column(formats.title(criterion), justify="center", no_wrap=True)
        table.add_column("ties", justify="right", style="dim", no_wrap=True)
        table.add_column("p", justify="right", no_wrap=True)
    tests = results.abreast(phase, "mcnemar", "policy_a", "policy_b")
    last = None
    for (a, b), by_criterion in tests.items():
        if last not in (None, a) and sum(map(len, tests.values())) > 12:
            table.add_section()
        cells: list[RenderableType] = [a if a != last else "", b]
        for criterion in criteria:
            row = by_criterion[criterion]
            cells += [
                _score(row),
                f"{row['ties']}",
                Text(formats.p_value(row["p"]), style="" if row["significant"] else "dim"),
            ]
        table.add_row(*cells)
        last = a
    return table


def _shares(results: Results, phase: str, criteria: list[str]) -> Table:
    table = _titled("Mean share of the votes that A has, its interval, and the questions that it took", "A", "B")
    for criterion in criteria:
        table.add_column(formats.title(criterion), justify="right", no_wrap=True)
        table.add_column("", justify="right", style="dim", no_wrap=True)
        table.add_column("n", justify="right", style="dim", no_wrap=True)
    for (a, b), by_criterion in results.abreast(phase, "shares", "policy_a", "policy_b").items():
        cells: list[RenderableType] = [a, b]
        for criterion in criteria:
            row = by_criterion[criterion]
            sign = {"equivalent": "=", "open": "~"}.get(row["decision"], ">" if row["better"] == a else "<")
            share = Text(f"{sign} {formats.percent(row['share'])}", style="dim" if sign == "~" else "")
            taken = f"{row['decided_after'] or row['questions']}"
            cells += [share, formats.interval(row["low"], row["high"]), taken]
        table.add_row(*cells)
    return table


def _score(row: dict[str, Any]) -> Text:
    sign = formats.comparison_sign(row["b"], row["c"], row["significant"])
    return Text.assemble(
        (f"{row['b']:>4}", AHEAD if sign == ">" else ""),
        (f" {sign} ", "" if row["significant"] else "dim"),
        (f"{row['c']:<4}", AHEAD if sign == "<" else ""),
    )


def _legend(results: Results) -> str:
    if results.is_sequential:
        return "\n> and < mark which side is preferred, = that both are within the margin, ~ what is open."
    return (
        f"\n◆ on the Pareto front.  A question is won by the majority of its personas.  "
        f"p: {findings.test_note(results)}, "
        f"as it is; > and < mark what is significant {findings.correction_note(results)}, ~ what is not."
    )


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    return ("█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]).ljust(BAR)
