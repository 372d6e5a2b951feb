"""Lines of pandas that compute a number of the report again, from the raw verdicts where that is possible in ten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modpo_hpc.run import Run

_READ = """import pandas as pd
from pathlib import Path
files = sorted(Path({root!r}).glob({pattern!r}))
v = pd.concat([pd.read_parquet(file) for file in files]).astype(str)
v = v[v["criterion"] == {criterion!r}]
"""
_COUNT = """votes = v["winner"].map({"A": 1, "B": -1}).fillna(0).groupby(v["question_id"]).sum()
won, lost, ties = int((votes > 0).sum()), int((votes < 0).sum()), int((votes == 0).sum())
"""
_AVERAGE = """question = [v[name] for name in ("policy_a", "policy_b", "question_id")]
votes = v["winner"].map({{"A": 1, "B": -1}}).fillna(0).groupby(question).sum()
a, b = (((votes * side > 0) + {tie} * (votes == 0)).groupby(level=[0, 1]).mean() for side in (1, -1))
rates = pd.concat([a.swaplevel(), b{own}]){opponents}.groupby(level=1).mean().round(12)
"""
_STORED = """import pandas as pd
from pathlib import Path
t = pd.read_parquet(Path({root!r}) / {table!r})
for column, value in {keys!r}.items():
    t = t[t[column].astype(str) == value]
print(t[{column!r}].item())
"""
KEYS = (
    "phase",
    "criterion",
    "policy",
    "policy_a",
    "policy_b",
    "reference",
    "attribute",
    "group",
    "judge",
    "other_judge",
)


def code_for(
    run: Run, table: str, column: str, row: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[str, bool]:
    """The lines, and whether they start from the raw verdicts; else they read the stored statistics.

    Intervals, abilities and the like take draws or a fit that ten lines do not hold.
    """
    half = 0.5 if settings["ties"] == "half" else 0
    last = _last_line(table, column, row, half, settings)
    if last is None:
        keys = {key: row[key] for key in KEYS if row.get(key)}
        stored = _STORED.format(root=str(run.root), table=f"statistics/{table}.parquet", keys=keys, column=column)
        return stored, False
    pair = f"{row['policy_a']}.{row['policy_b']}." if "policy_a" in row else ""
    head = _READ.format(
        root=str(run.root), pattern=f"verdicts/{row['phase']}.{pair}*.parquet", criterion=row["criterion"]
    )
    anchors = list(run.study.judging.phases[row["phase"]].anchors or ())
    own, opponents = (f", pd.Series(0.5, [{anchors}, {anchors}])", f".loc[{anchors}]") if anchors else ("", "")
    average = _AVERAGE.format(tie=half, own=own, opponents=opponents)
    body = "" if table == "completeness" else _COUNT if pair else average
    return f"{head}{body}{last}\n", True


def _last_line(table: str, column: str, row: Mapping[str, Any], half: float, settings: Mapping[str, Any]) -> str | None:
    test = {
        "chi2": "stats.chi2.sf((won - lost) ** 2 / (won + lost), 1)",
        "exact": "stats.binomtest(won, won + lost).pvalue",
    }.get(settings["mcnemar"])
    lines = {
        ("ranking", "win_rate"): f"print(rates[{row.get('policy')!r}])",
        ("ranking", "rank"): f"print(1 + (rates > rates[{row.get('policy')!r}]).sum())",
        ("win_rates", "win_rate_a"): f"print((won + {half} * ties) / len(votes))",
        ("win_rates", "win_rate_b"): f"print((lost + {half} * ties) / len(votes))",
        ("win_rates", "difference"): "print((won - lost) / len(votes))",
        ("mcnemar", "b"): "print(won)",
        ("mcnemar", "c"): "print(lost)",
        ("mcnemar", "ties"): "print(ties)",
    }
    if table == "mcnemar" and test:
        lines[table, "p"] = f"from scipy import stats\nprint({test} if won + lost else 1.0)"
    if table == "mcnemar" and row["c"]:
        lines[table, "odds_ratio"] = "print(won / lost)"
    if table == "completeness" and row["missing"] == 0:
        lines[table, "asked"] = 'print((v["winner"] != "not_asked").sum())'
        lines[table, "cast"] = 'print(v["winner"].isin(["A", "B", "tie"]).sum())'
        lines[table, "unparsed"] = 'print((v["winner"] == "unparsed").sum())'
    return lines.get((table, column))
