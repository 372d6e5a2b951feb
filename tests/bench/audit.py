"""Coverage and width of the audit's intervals where the truth is known.

Truth is the sandbox's rule judge on invented posts with two answers each. On top of it stands a judge of 50 votes that
is corrupted: it favours one side, is deaf to a part of the difference, or says the same of everything. People label a
few questions as the rules do, drawn at random from the judged ones; or as many from elsewhere, half of them A, which
tell how the judge errs and nothing of the rate. Each line is a number of labels and a kind of judge: how often the
nominal 95% interval holds the rate of all posts, and how wide it is. Beside our interval for labels from elsewhere
stands that of Lee et al. (arXiv 2511.21140).
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import ndtri

from modpo_hpc.audit.correction import Confusion, confusion_of, correct
from modpo_hpc.audit.prediction import prediction_powered
from modpo_hpc.human.active import design, draw
from tests.bench.measuring import table_head, table_row, tell

POSTS, QUESTIONS, VOTES = 4000, 600, 50
LABELS = (25, 50, 100, 200)
JUDGES = {
    "good": {"hearing": 1.5, "lean": 0.0, "noise": 0.5},
    "lenient": {"hearing": 1.0, "lean": 0.6, "noise": 0.8},
    "deaf": {"hearing": 0.0, "lean": -0.4, "noise": 1.0},
    "constant": {"hearing": 0.0, "lean": 50.0, "noise": 0.0},
}
WAYS = (
    "judge alone",
    "labels alone",
    "counts elsewhere, Lee",
    "counts elsewhere",
    "counts drawn",
    "counts drawn, active",
    "PPI++",
    "PPI++, active",
)


def truth_of_rules(seed: int) -> np.ndarray:
    """Differences of the rules' scores of two answers to each of ``POSTS`` invented posts, in standard deviations."""
    from modpo_hpc.sandbox.compose import compose_reply
    from modpo_hpc.sandbox.judge import score_response
    from modpo_hpc.sandbox.questions import invented_posts
    from modpo_hpc.seeds import rng_of

    differences = []
    for place, post in enumerate(invented_posts(POSTS, seed)["text"].tolist()):
        replies = [compose_reply(post, rng_of(seed, place, number)) for number in range(3)]
        scores = [score_response(reply, post, "safety", {}) for reply in replies]
        differences.append(max(scores[0], scores[1]) - scores[2])
    found = np.array(differences)
    return found / found.std()


def votes_of(difference: np.ndarray, judge: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Share of 50 votes for A: each hears the difference, leans, and errs by question and by vote."""
    heard = judge["hearing"] * difference + judge["lean"] + judge["noise"] * rng.normal(size=difference.shape)
    return rng.binomial(VOTES, stats.norm.cdf(heard)) / VOTES


def one_study(
    difference: np.ndarray, label: np.ndarray, judge: dict[str, float], labels: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """The intervals of every way for 600 questions, of which ``labels`` are labelled."""
    drawn = rng.integers(0, len(difference), QUESTIONS)
    said, predicted = label[drawn], votes_of(difference[drawn], judge, rng)
    chosen = np.zeros(QUESTIONS, dtype=bool)
    chosen[rng.permutation(QUESTIONS)[:labels]] = True
    found = prediction_powered(said[chosen], predicted, chosen, np.full(QUESTIONS, labels / QUESTIONS))
    assert found is not None
    judged = np.sign(predicted - 0.5)
    of = int((judged != 0).sum())
    rate = float((judged == 1).sum() / of)
    reach = 1.96 * np.sqrt(rate * (1 - rate) / of)
    even = np.full(labels, labels / QUESTIONS)
    counted = correct(confusion_of(said[chosen], predicted[chosen], even), rate, of, drawn=True)
    # a stream of its own, so that what is drawn elsewhere leaves the rest as it is
    apart = rng.spawn(1)[0]
    elsewhere = np.concatenate(
        [
            apart.choice(np.flatnonzero(label == one), size)
            for one, size in ((1, labels // 2), (0, labels - labels // 2))
        ]
    )
    errors = confusion_of(label[elsewhere], votes_of(difference[elsewhere], judge, apart), even)
    transported = correct(errors, rate, of)
    # half of the labels at random, the other half where they tell most
    first = np.zeros(QUESTIONS, dtype=bool)
    first[np.flatnonzero(chosen)[: labels // 2]] = True
    planned = design(predicted, first, said[first] - predicted[first], labels - labels // 2)
    active = first.copy()
    active[draw(planned.inclusion, ~first, rng)] = True
    inclusion = 1 - (1 - first.sum() / QUESTIONS) * (1 - planned.inclusion)
    asked = prediction_powered(said[active], predicted, active, inclusion)
    assert asked is not None
    counted_active = correct(confusion_of(said[active], predicted[active], inclusion[active]), rate, of, drawn=True)
    return {
        "judge alone": (rate - reach, rate + reach),
        "labels alone": (found.classical_low, found.classical_high),
        "counts elsewhere, Lee": lee(errors, rate, of),
        "counts elsewhere": (transported.low, transported.high),
        "counts drawn": (counted.low, counted.high),
        "counts drawn, active": (counted_active.low, counted_active.high),
        "PPI++": (found.low, found.high),
        "PPI++, active": (asked.low, asked.high),
    }


def lee(counts: Confusion, rate: float, of: int) -> tuple[float, float]:
    """The interval of Lee et al., with successes and failures added; [0, 1] where chance is not shown to be beaten."""
    z = float(ndtri(0.975))
    is_a, is_b = counts.a_a + counts.a_b + 2, counts.b_a + counts.b_b + 2
    sensitivity, specificity = (counts.a_a + 1) / is_a, (counts.b_b + 1) / is_b
    of_a, of_b = sensitivity * (1 - sensitivity) / is_a, specificity * (1 - specificity) / is_b
    youden = sensitivity + specificity - 1
    if counts.constant or youden <= z * math.sqrt(of_a + of_b):
        return 0.0, 1.0
    smooth, cases = (rate * of + z**2 / 2) / (of + z**2), of + z**2
    true = (smooth + specificity - 1) / youden
    reach = z * math.sqrt(smooth * (1 - smooth) / cases + (1 - true) ** 2 * of_b + true**2 * of_a) / youden
    centre = true + 2 * z**2 * (true * of_a - (1 - true) * of_b)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


def table(studies: int, seed: int) -> list[dict[str, float | str]]:
    """One row a judge, number of labels and way: coverage and mean width."""
    difference = truth_of_rules(seed)
    label = (np.sign(difference) + 1) / 2
    shares, decided = float(label.mean()), float((label[label != 0.5] == 1).mean())
    rows: list[dict[str, float | str]] = []
    for place, (name, judge) in enumerate(JUDGES.items()):
        for labels in LABELS:
            rng = np.random.default_rng([seed, labels, place])
            made = [one_study(difference, label, judge, labels, rng) for _ in range(studies)]
            for way in WAYS:
                # the corrections by counts are of decided questions, the others count ties as halves
                target = decided if way.startswith(("counts", "judge")) else shares
                ends = np.array([one[way] for one in made])
                rows.append(
                    {
                        "judge": name,
                        "labels": labels,
                        "way": way,
                        "coverage": float(((ends[:, 0] <= target) & (target <= ends[:, 1])).mean()),
                        "width": float((ends[:, 1] - ends[:, 0]).mean()),
                    }
                )
    return rows


def show(rows: list[dict[str, float | str]]) -> str:
    """The table as Markdown."""
    lines = table_head("judge", "labels", *WAYS)
    for name in JUDGES:
        for labels in LABELS:
            cells = {one["way"]: one for one in rows if (one["judge"], one["labels"]) == (name, labels)}
            shown = [f"{100 * float(cells[way]['coverage']):.1f} ({float(cells[way]['width']):.2f})" for way in WAYS]
            lines.append(table_row([name, labels, *shown]))
    return "\n".join(lines)


def draw_figure(rows: list[dict[str, float | str]], path: Path) -> None:
    """Coverage and width by number of labels."""
    from matplotlib.figure import Figure

    from modpo_hpc.report.style import COLOURS

    figure = Figure(figsize=(11, 5.4), layout="constrained")
    axes = figure.subplots(2, len(JUDGES), sharex=True, sharey="row")
    for column, name in enumerate(JUDGES):
        for place, way in enumerate(WAYS):
            part = [one for one in rows if (one["judge"], one["way"]) == (name, way)]
            for line, value in enumerate(("coverage", "width")):
                axes[line, column].plot(
                    LABELS, [float(one[value]) for one in part], "o-", color=COLOURS[place], label=way, markersize=3.5
                )
        axes[0, column].axhspan(0.93, 0.97, color="#dddddd", zorder=0)
        axes[0, column].set_title(f"{name} judge", fontsize=10)
        axes[1, column].set_xlabel("labels by people")
        axes[1, column].set_xscale("log")
        axes[1, column].minorticks_off()
        axes[1, column].set_xticks(LABELS, [str(one) for one in LABELS])
    # what covers less, as the judge alone does, is below the edge
    axes[0, 0].set_ylim(0.9, 1.005)
    axes[0, 0].set_ylabel("coverage (nominal .95)")
    axes[1, 0].set_ylabel("width")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(WAYS) // 2, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies of each line")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--figure", type=Path, help="where to draw coverage and width (PNG)")
    arguments = parser.parse_args()
    begun = time.process_time()
    rows = table(arguments.studies, arguments.seed)
    print(show(rows))
    if arguments.figure:
        draw_figure(rows, arguments.figure)

    def mean(way: str, judges: tuple[str, ...], value: str) -> float:
        return float(np.mean([float(r[value]) for r in rows if r["way"] == way and r["judge"] in judges]))

    every, useful = tuple(JUDGES), ("good", "lenient")
    width = {way: mean(way, useful, "width") for way in ("labels alone", "PPI++", "PPI++, active")}
    tell(
        "audit",
        ratios={
            "width_of_labels_alone_to_ppi": width["labels alone"] / width["PPI++"],
            "width_of_ppi_to_active": width["PPI++"] / width["PPI++, active"],
        },
        coverage={way: round(mean(way, every, "coverage"), 3) for way in WAYS},
        studies=arguments.studies,
        cpu_seconds=round(time.process_time() - begun, 1),
        machine=platform.processor() or platform.machine(),
    )


if __name__ == "__main__":
    main()
