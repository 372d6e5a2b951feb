"""Lines that ask the package for numbers of tables which do not come from the statistics.

These are drawn by seeds, fitted, or take more than ten lines. What plain pandas can compute stands in ``trace_plain``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from modpo_hpc.report import formats
from modpo_hpc.report.audit_tables import SOURCES
from modpo_hpc.report.parts import Shown
from modpo_hpc.report.trace_plain import plain_lines
from modpo_hpc.run import Run


@dataclass(frozen=True)
class Recipe:
    """How a table is computed again: ``lines`` give ``rows``, one for each that is shown, from ``run`` and study ``s``.

    ``values`` are, for each column of numbers in turn, expressions of a row ``r`` in the order in which the cell
    prints them; a bare name is a key of the row, none stands for what plain lines compute.
    """

    lines: str
    values: Sequence[tuple[str, ...]]


_AUDIT = "from modpo_hpc.report.audit import read_audit\n"
_PREDICTIONS = 'predictions = run.table("rewards").to_pandas()\n'
_POOL = 'people = pd.read_parquet(run.folder("personas") / "pool.parquet")\n'
_STORED = 'rows = pd.read_parquet(run.folder("{0}") / "{1}.parquet").to_dict("records")\n'
_HUMAN = """from modpo_hpc.report.human import read_analysis
rows = read_analysis(run)[1]["{0}"].to_dict("records")
"""
_SELF_AGREEMENT = (
    ("comparisons",), ("flips", "flips_low", "flips_high"), ("kappa",), ("order_flips", "order_low", "order_high"),
    ("excess", "excess_low", "excess_high"), ("noise",), ("unparsed", "answers"),
)  # fmt: skip
RECIPES = {
    "training": Recipe(
        "from modpo_hpc.report.training import read_logs\nrows = list(read_logs(run).values())\n", ()
    ),
    "rewards": Recipe(
        "from modpo_hpc.report.rewards import diagnose\n" + _PREDICTIONS
        + 'rows = [diagnose(one) for _, one in predictions.groupby("criterion", sort=False)]\n',
        (*[()] * 6, ("error_after",), ("error_by_chance", "error_at_most_by_chance")),
    ),
    "reward_learning_curve": Recipe(
        "from modpo_hpc.rewards.diagnostics import learning_curve\n" + _PREDICTIONS
        + 'rows = learning_curve(predictions).to_dict("records")\n',
        (("share",), ("accuracy",), ("low", "high")),
    ),
    "balance": Recipe(
        f"from modpo_hpc.personas.balance import balance_tests\nfrom modpo_hpc.seeds import rng_of\n{_POOL}"
        'rows = balance_tests(people, rng_of(s.seed, "report", "balance")).to_dict("records")\n',
        ((), (), ("p_value",)),
    ),
    "cost": Recipe(
        "from modpo_hpc.report.study import COUNTED, costs\nrows = costs(run)\n"
        'rows.append({one: sum(row[one] for row in rows) for one in COUNTED} | {"stage": "all"})\n',
        (("shards",), ("rows",), ("seconds",), ("longest",), ("cpu_hours",), ("gpu_hours",), ("again",)),
    ),
    "provenance": Recipe(
        "from modpo_hpc.report.study import costs\nrows = costs(run)\n", (("shards",),)
    ),
    "audit_components": Recipe(
        f'{_AUDIT}rows = read_audit(run)["components"]\n',
        ((), *((f'r["sources"].get("{name}")',) for name in SOURCES), ("total",)),
    ),
    "audit_design": Recipe(
        f'{_AUDIT}rows = [one | {{"of": of}} for of in read_audit(run)["components"] for one in of["purchases"]]\n',
        (('r["of"]["calls"]',), ('r["of"]["total"]',), ("error",)),
    ),
    "audit_judges": Recipe(
        f'{_AUDIT}rows = read_audit(run)["judges"]\n',
        (("first_share", "first_low", "first_high"), ("length_slope", "length_low", "length_high")),
    ),
    "audit_families": Recipe(f'{_AUDIT}rows = read_audit(run)["families"]\n', (("favour", "low", "high"),)),
    "audit_judge_aware": Recipe(f'{_AUDIT}rows = read_audit(run)["abilities"]\n', (("value", "low", "high"),)),
    "audit_prediction_powered": Recipe(
        f'{_AUDIT}people = read_audit(run)["people"]["criteria"]\n'
        'rows = [one["prediction_powered"] | {"raters": one["raters"]}\n'
        '        for one in people if one["prediction_powered"]]\n',
        (("labels",), ("naive",), ("classical", "classical_low", "classical_high"), ("estimate", "low", "high"),
         ("correlation",), ("worth",), tuple(f'r["raters"]["{one}"]' for one in ("alpha", "alpha_low", "alpha_high"))),
    ),
    "audit_corrected": Recipe(
        f'{_AUDIT}people = read_audit(run)["people"]["criteria"]\n'
        'rows = [one["corrected"] for one in people if one["corrected"]]\n',
        (*(tuple(f'r["{name}"]["{one}"]' for one in ("value", "low", "high", "cases"))
           for name in ("sensitivity", "specificity")),
         ("rate",), ("estimate", "low", "high")),
    ),
    "human_outcomes": Recipe(
        "from modpo_hpc.report.human import read_analysis\ntables = read_analysis(run)[1]\n"
        'agree = tables["raters_agree"].set_index("criterion").to_dict("index")\n'
        'rows = [agree[one["criterion"]] | one for one in tables["outcomes"].to_dict("records")]\n',
        (("n",), ("A_share", "A_low", "A_high"), ("tie_share",), ("B_share", "B_low", "B_high"), ("fleiss_kappa",),
         ("gwet_ac1",)),
    ),
    "human_agreement": Recipe(
        _HUMAN.format("model_agrees"), (("n",), ("accuracy",), ("constant",), ("balanced",), ("kappa",), ("ac1",))
    ),
    "fronts_families": Recipe(
        _STORED.format("fronts", "families"),
        (("on_front", "policies"), ("hypervolume",), ("low", "high"), ("ratio",), ("ratio_low", "ratio_high"),
         ("sparsity",)),
    ),
    "fronts_ranges": Recipe(
        _STORED.format("fronts", "ranges"),
        (("range",), ("specialists_range",), ("share",), ("share_low", "share_high"), ("tau",),
         ("tau_low", "tau_high")),
    ),
    "fronts_policies": Recipe(
        _STORED.format("fronts", "fronts"),
        (("weight",), ("reward",), ("low", "high"), ("front_probability",), ("contribution",),
         ("contribution_low", "contribution_high")),
    ),
    "self_agreement": Recipe(_STORED.format("repeats", "self_agreement"), _SELF_AGREEMENT),
    "self_agreement_pairs": Recipe(_STORED.format("repeats", "self_agreement_pairs"), _SELF_AGREEMENT),
    "personal_effects": Recipe(
        'rows = run.table("personalization").to_pylist()\n',
        (('.5 + r["estimate"]',), ('.5 + r["low"]', '.5 + r["high"]'), ("p",), ("p_adjusted",), ("differs",)),
    ),
    "personal_safety": Recipe(
        _STORED.format("personalization", "safety"),
        (("difference",), ("low",), ("high",), ("margin",), ("worst_difference",)),
    ),
    "personal_weights": Recipe(
        'import json\nrows = json.loads((run.folder("profiles") / "gate.json").read_text())["criteria"]\n',
        (("population",), ("deviation",)),
    ),
}  # fmt: skip
_REWARDS_OF_ANSWERS = """t = run.table("answer_scores").to_pandas()
t = t[(t["policy"] == {policy!r}) & (t["criterion"] == {criterion!r})]["reward"]
print(t.mean())
print(1.96 * t.sem())
"""


def lines_for(run: Run, shown: Shown, row: int, column: int) -> tuple[str, ...]:
    """The lines for each number of a cell, in the order in which it prints them; none where nobody knows any."""
    name, heading = shown.rows[row][0], shown.columns[column].heading
    if shown.file == "reward_answers":
        criterion = next(one for one in run.study.criteria.rank if formats.title(one) == heading)
        return (with_run(run, _REWARDS_OF_ANSWERS.format(policy=name, criterion=criterion)),)
    place = sum(one.number for one in shown.columns[:column])
    plain, own = plain_lines(run, shown, row, place), tuple[str, ...]()
    if (recipe := RECIPES.get(shown.file)) is not None:
        of_the_method = (f"s.alignment.trained[{name!r}].figures(r.summary)[{heading!r}]",)
        values = recipe.values[place] if place < len(recipe.values) else of_the_method
        named = [f'r["{one}"]' if one.isidentifier() else one for one in values]
        own = tuple(with_run(run, f"{recipe.lines}r = rows[{row}]\nprint({one})\n") for one in named)
    return tuple(told or asked for told, asked in zip_longest(plain, own, fillvalue=""))


def with_run(run: Run, lines: str) -> str:
    """``lines`` after those that open ``run`` and import what they use."""
    head = (
        "import pandas as pd\n" * ("pd." in lines)
        + f"from modpo_hpc.run import Run\nrun = Run.open({str(run.root)!r})\n"
    )
    return head + "s = run.study\n" * ("(s." in lines or " s." in lines) + lines
