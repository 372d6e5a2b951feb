"""Lines that ask the package for numbers of tables which do not come from the statistics.

These are drawn by seeds, fitted, or take more than ten lines. What plain pandas can compute stands in ``trace_plain``.
"""

from __future__ import annotations

from itertools import zip_longest

from modpo_hpc.report import formats
from modpo_hpc.report.audit_tables import SOURCES
from modpo_hpc.report.parts import Shown
from modpo_hpc.report.trace_plain import plain_lines
from modpo_hpc.run import Run

_PREDICTIONS = 'predictions = run.table("rewards").to_pandas()\n'
_STORED = 'rows = pd.read_parquet(run.folder("{0}") / "{1}.parquet").to_dict("records")\n'
_AUDIT = "from modpo_hpc.report.audit import read_audit\n"
_OF_AUDIT = _AUDIT + 'rows = read_audit(run)["{0}"]\n'
_OF_PEOPLE = _AUDIT + 'people = read_audit(run)["people"]["criteria"]\n'
LINES = {
    "training": "from modpo_hpc.report.training import read_logs\nrows = list(read_logs(run).values())\n",
    "rewards": "from modpo_hpc.report.rewards import diagnose\n" + _PREDICTIONS
    + 'rows = [diagnose(one) for _, one in predictions.groupby("criterion", sort=False)]\n',
    "reward_learning_curve": "from modpo_hpc.rewards.diagnostics import learning_curve\n" + _PREDICTIONS
    + 'rows = learning_curve(predictions).to_dict("records")\n',
    "balance": "from modpo_hpc.personas.balance import balance_tests\nfrom modpo_hpc.seeds import rng_of\n"
    'people = pd.read_parquet(run.folder("personas") / "pool.parquet")\n'
    'rows = balance_tests(people, rng_of(s.seed, "report", "balance")).to_dict("records")\n',
    "cost": "from modpo_hpc.report.study import COUNTED, costs\nrows = costs(run)\n"
    'rows.append({one: sum(row[one] for row in rows) for one in COUNTED} | {"stage": "all"})\n',
    "provenance": "from modpo_hpc.report.study import costs\nrows = costs(run)\n",
    "audit_components": _OF_AUDIT.format("components"),
    "audit_design": _AUDIT
    + 'rows = [one | {"of": of} for of in read_audit(run)["components"] for one in of["purchases"]]\n',
    "audit_judges": _OF_AUDIT.format("judges"),
    "audit_families": _OF_AUDIT.format("families"),
    "audit_judge_aware": _OF_AUDIT.format("abilities"),
    "audit_prediction_powered": _OF_PEOPLE
    + 'rows = [one["prediction_powered"] | {"raters": one["raters"]}\n'
    '        for one in people if one["prediction_powered"]]\n',
    "audit_corrected": _OF_PEOPLE + 'rows = [one["corrected"] for one in people if one["corrected"]]\n',
    "human_outcomes": "from modpo_hpc.report.human import read_analysis\ntables = read_analysis(run)[1]\n"
    'agree = tables["raters_agree"].set_index("criterion").to_dict("index")\n'
    'rows = [agree[one["criterion"]] | one for one in tables["outcomes"].to_dict("records")]\n',
    "human_agreement": "from modpo_hpc.report.human import read_analysis\n"
    'rows = read_analysis(run)[1]["model_agrees"].to_dict("records")\n',
    "fronts_families": _STORED.format("fronts", "families"),
    "fronts_ranges": _STORED.format("fronts", "ranges"),
    "fronts_policies": _STORED.format("fronts", "fronts"),
    "self_agreement": _STORED.format("repeats", "self_agreement"),
    "self_agreement_pairs": _STORED.format("repeats", "self_agreement_pairs"),
    "personal_effects": 'rows = run.table("personalization").to_pylist()\n',
    "personal_safety": _STORED.format("personalization", "safety"),
    "personal_weights":
    'import json\nrows = json.loads((run.folder("profiles") / "gate.json").read_text())["criteria"]\n',
}  # fmt: skip
"""Table -> lines that give ``rows``, one for each that is shown, from ``run`` and study ``s``.

The numbers of a cell are what its row ``r`` has under the fields of the column, where ``VALUES`` does not say other.
"""
_RATE = ("value", "low", "high", "cases")
VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    **{("audit_components", name): (f'r["sources"].get("{name}")',) for name in SOURCES},
    ("audit_design", "more calls"): ('r["of"]["calls"]',),
    ("audit_design", "now"): ('r["of"]["total"]',),
    ("audit_prediction_powered", "worth in labels"): ('r["worth"]',),
    ("audit_prediction_powered", "raters' alpha"): tuple(
        f'r["raters"]["{one}"]' for one in ("alpha", "alpha_low", "alpha_high")
    ),
    ("audit_corrected", "sensitivity"): tuple(f'r["sensitivity"]["{one}"]' for one in _RATE),
    ("audit_corrected", "specificity"): tuple(f'r["specificity"]["{one}"]' for one in _RATE),
    ("audit_corrected", "corrected"): tuple(f'r["{one}"]' for one in ("estimate", "low", "high")),
    ("fronts_families", "beside"): ('r["ratio"]',),
    ("personal_effects", "preferred"): ('.5 + r["estimate"]',),
    ("personal_effects", "interval"): ('.5 + r["low"]', '.5 + r["high"]'),
}
"""(Table, heading) -> expressions of a row ``r``, in the order in which the cell prints their numbers."""
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
    plain, own = plain_lines(run, shown, row, column), tuple[str, ...]()
    if (lines := LINES.get(shown.file)) is not None:
        fields = tuple(f'r["{one}"]' for one in shown.columns[column].fields)
        of_the_method = (f"s.alignment.trained[{name!r}].figures(r.summary)[{heading!r}]",)
        values = VALUES.get((shown.file, heading)) or fields or of_the_method
        own = tuple(with_run(run, f"{lines}r = rows[{row}]\nprint({one})\n") for one in values)
    return tuple(told or asked for told, asked in zip_longest(plain, own, fillvalue=""))


def with_run(run: Run, lines: str) -> str:
    """``lines`` after those that open ``run`` and import what they use."""
    head = (
        "import pandas as pd\n" * ("pd." in lines)
        + f"from modpo_hpc.run import Run\nrun = Run.open({str(run.root)!r})\n"
    )
    return head + "s = run.study\n" * ("(s." in lines or " s." in lines) + lines
