"""Section on families of policies: their fronts, what they reach together, whether they follow their weights."""

from __future__ import annotations

import json
from functools import partial
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure

from modpo_hpc.evaluation.fronts import specialists_of
from modpo_hpc.evaluation.tables import FRONT_SCHEMAS, Rows
from modpo_hpc.report import formats, labels
from modpo_hpc.report.columns import CRITERION, POLICY
from modpo_hpc.report.parts import ReportFigure, ReportSection, Shown, number, table, text
from modpo_hpc.report.results import tables_of
from modpo_hpc.report.style import canvas, look, quiet_grid
from modpo_hpc.run import Run

FAMILY = text("Family", "family")
_FEW = 14
"""Policies of all families together that are labelled one by one."""


def read_fronts(run: Run) -> dict[str, Rows]:
    """The tables of the stage ``fronts`` by name; empty where the study has no families, or they are not made yet."""
    if not run.study.alignment.sweep or not run.made("fronts"):
        return {}
    return tables_of(run.folder("fronts"), FRONT_SCHEMAS)


def fronts_section(run: Run) -> ReportSection | None:
    """Nothing for a study without families."""
    tables = read_fronts(run)
    if not tables:
        return None
    return ReportSection(
        "fronts",
        "Fronts of the families",
        "Each family is one method at a grid of weights. Rewards are those of the answers to the test questions, by "
        "the final reward models; intervals are over other questions, with reward models and trainings as they are. "
        "The policies were trained towards such rewards: this shows what can be reached, not whom people prefer.",
        findings=[_finding(row, tables["ranges"]) for row in tables["families"]],
        figures=_figures(run, tables),
        tables=[_family_table(tables["families"]), _range_table(run, tables["ranges"]), _point_table(tables["fronts"])],
    )


def _finding(row: dict[str, Any], ranges: Rows) -> str:
    mine = [one for one in ranges if one["family"] == row["family"]]
    reach = ", ".join(f"{formats.title(one['criterion'])} {_reached(one)}, tau {one['tau']:.2f}" for one in mine)
    beside = (
        f", {row['ratio']:.2f} times that of {row['beside']} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        if row["beside"] != row["family"] and row["ratio"] == row["ratio"]
        else ""
    )
    reference = ", ".join(
        f"{formats.title(name)} {formats.signed(value)}"
        for name, value in zip(row["criteria"], row["reference"], strict=True)
    )
    return (
        f"{row['family']}: hypervolume {row['hypervolume']:.3f} ({row['low']:.3f} to {row['high']:.3f}){beside}, "
        f"measured from {reference}; {row['on_front']} of {row['policies']} policies are on its front. "
        f"How far it reaches, and whether the order of the weights is that of the rewards: {reach}."
    )


def _reached(row: dict[str, Any]) -> str:
    if row["share"] != row["share"]:
        return f"{row['range']:.2f}"
    return f"{formats.percent(row['share'], 0)} of its specialists' range"


def _family_table(rows: Rows) -> Shown:
    best = {(max(range(len(rows)), key=lambda place: rows[place]["hypervolume"]), 2)} if len(rows) > 1 else ()
    beside_itself = dict.fromkeys(("ratio", "ratio_low", "ratio_high"))
    return table(
        "Hypervolume of each family above the reference point: what is better than that by every criterion at once. "
        "Beside the first family of the same criteria, on the same questions. Sparsity: mean squared gap between "
        "neighbours on the front",
        [
            FAMILY,
            number("on its front", "{} of {}".format, "on_front", "policies"),
            number("hypervolume", "{:.3f}".format, "hypervolume"),
            number("interval", "{:.3f} to {:.3f}".format, "low", "high"),
            number("beside", lambda ratio, first: "" if ratio is None else f"{ratio:.2f} × {first}", "ratio", "beside"),
            number("interval", _ratios, "ratio_low", "ratio_high"),
            number("sparsity", formats.decimals, "sparsity"),
        ],
        (row | beside_itself if row["beside"] == row["family"] else row for row in rows),
        "fronts_families",
        strong=best,
    )


def _ratios(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{low:.2f} to {high:.2f}"


def _range_table(run: Run, rows: Rows) -> Shown:
    cosines = {family: _gradient_cosines(run, family) for family in dict.fromkeys(row["family"] for row in rows)}
    shown = any(cosines.values())
    return table(
        "From the lowest to the highest mean reward of a family, beside that of the policies trained for one of its "
        "criteria alone; and Kendall's tau between weights asked and rewards got, which says nothing where the range "
        "is small" + (". Cosines between the criteria's gradients at the end of training, mean of the family" * shown),
        [
            FAMILY,
            CRITERION,
            number("range", "{:.2f}".format, "range"),
            number("specialists'", partial(formats.decimals, digits=2), "specialists_range"),
            number("share", partial(formats.percent, digits=0), "share"),
            number("interval", formats.interval, "share_low", "share_high"),
            number("tau", formats.signed, "tau"),
            number("interval", formats.signed_bounds, "tau_low", "tau_high"),
            *([text("Gradient cosines", "family", cosines.__getitem__)] if shown else []),
        ],
        rows,
        "fronts_ranges",
    )


def _gradient_cosines(run: Run, family: str) -> str:
    """Mean over the family's trainings, of each pair of criteria, where the study had them measured."""
    sweep = next(one for one in run.study.alignment.sweep or () if one.name == family)
    found: dict[str, list[float]] = {}
    for policy in sweep.policies:
        summary = run.folder("policies") / policy / "summary.json"
        measured = json.loads(summary.read_text()).get("gradient_cosine", {}) if summary.exists() else {}
        for pair, value in measured.items():
            if value is not None:
                found.setdefault(formats.title(pair), []).append(value)
    return ", ".join(f"{pair} {formats.signed(sum(values) / len(values))}" for pair, values in found.items())


def _point_table(rows: Rows) -> Shown:
    return table(
        "Every policy of the families: mean reward, whether another of its family is better by every criterion, and by "
        "how much the family's hypervolume would shrink without it",
        [
            FAMILY,
            POLICY,
            CRITERION,
            number("weight", "{:.3g}".format, "weight"),
            number("reward", formats.signed, "reward"),
            number("interval", formats.signed_bounds, "low", "high"),
            number("on front", lambda on_front: "yes" if on_front else "", "on_front"),
            number("of draws", partial(formats.percent, digits=0), "front_probability"),
            number("part of volume", "{:.3f}".format, "contribution"),
            number("interval", "{:.3f} to {:.3f}".format, "contribution_low", "contribution_high"),
        ],
        rows,
        "fronts_policies",
        folded=True,
    )


def _figures(run: Run, tables: dict[str, Rows]) -> list[ReportFigure]:
    planes = dict.fromkeys(pair for row in tables["families"] for pair in combinations(row["criteria"], 2))
    return [
        ReportFigure(
            f"fronts_{x}_{y}",
            f"Mean rewards of the families under {formats.title(x)} and {formats.title(y)}, each joined in the order "
            "of its weights, with intervals over questions. The cross is the reference point, filled points are on "
            "their family's front; black stars are the base policy and those trained for one criterion "
            "alone.",
            partial(front_figure, tables, x, y, _alone(run, tables, (x, y))),
            wide=True,
        )
        for x, y in planes
    ]


def _alone(run: Run, tables: dict[str, Rows], plane: tuple[str, str]) -> dict[str, tuple[float, float]]:
    """Mean rewards of the specialists and of the base policy."""
    wanted = {*specialists_of(run.study, plane).values()}
    wanted |= {name for name, one in run.study.alignment.policies.items() if one.is_baseline}
    scores = run.table("answer_scores", ["policy", "criterion", "reward"]).to_pandas()
    means = scores.groupby(["policy", "criterion"])["reward"].mean()
    taken = {row["policy"] for row in tables["fronts"]}
    return {name: (float(means[name, plane[0]]), float(means[name, plane[1]])) for name in sorted(wanted - taken)}


def front_figure(tables: dict[str, Rows], x: str, y: str, alone: dict[str, tuple[float, float]]) -> Figure:
    """Rewards under ``x`` and ``y``: a line a family, through its policies in the order of their weights."""
    figure, axes = canvas(7.0, 4.6)
    families = [row for row in tables["families"] if {x, y} <= set(row["criteria"])]
    points: list[tuple[float, float]] = []
    names: list[str] = []
    for place, family in enumerate(families):
        rows = {(row["policy"], row["criterion"]): row for row in tables["fronts"] if row["family"] == family["family"]}
        policies = list(dict.fromkeys(policy for policy, _ in rows))
        mark, mine = look(place), []
        for policy in policies:
            across, up = rows[policy, x], rows[policy, y]
            faint = {"color": mark["color"], "alpha": 0.3, "linewidth": 1.0, "zorder": 2}
            axes.plot([across["low"], across["high"]], [up["reward"]] * 2, **faint)
            axes.plot([across["reward"]] * 2, [up["low"], up["high"]], **faint)
            mine.append((across["reward"], up["reward"]))
            face = mark["color"] if across["on_front"] else "white"
            axes.scatter(*mine[-1], s=34, zorder=4, marker=mark["marker"], color=face, edgecolor=mark["color"])
        if len(family["criteria"]) == 2:
            axes.plot(*zip(*mine, strict=True), color=mark["color"], linewidth=1.1, zorder=3)
        axes.plot([], [], **mark, markersize=5, linewidth=1.1, label=family["family"])
        reference = dict(zip(family["criteria"], family["reference"], strict=True))
        axes.scatter(reference[x], reference[y], marker="+", s=70, color="0.35", zorder=1)
        points += mine
        names += [_weights_of(rows, policy, x, y) if len(family["criteria"]) == 2 else "" for policy in policies]
    for name, point in alone.items():
        axes.scatter(*point, marker="*", s=70, color="black", zorder=4)
        points.append(point)
        names.append(name)
    axes.set_xlabel(f"{formats.title(x)}: mean reward of the answers")
    axes.set_ylabel(f"{formats.title(y)}: mean reward of the answers")
    quiet_grid(axes)
    axes.margins(0.08)
    if len(points) - len(alone) > _FEW:
        points, names = list(alone.values()), list(alone)
    axes.legend(fontsize=8)
    labels.place(axes, points, names, size=7.5)
    return figure


def _weights_of(rows: dict[tuple[str, str], dict[str, Any]], policy: str, x: str, y: str) -> str:
    """``90:10``, the weights that a policy was asked for."""
    return ":".join(f"{100 * rows[policy, name]['weight']:.3g}" for name in (x, y))
