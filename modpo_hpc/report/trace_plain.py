"""Lines of pandas and scipy alone that compute numbers of the report from a run's tables and logs.

They share no code with the package, so that they check it. What is drawn by seeds or takes more than ten lines has
none.
"""

from __future__ import annotations

from typing import Any

from modpo_hpc.personas.balance import CHARACTERISTICS
from modpo_hpc.report import formats
from modpo_hpc.report.parts import Shown
from modpo_hpc.run import Run

_READ = """import numpy as np, pandas as pd
from pathlib import Path
read = lambda files: pd.concat(map(pd.read_parquet, sorted(Path(%(root)r).glob(files))), ignore_index=True)
"""
_MARGINS = f"""{_READ}t = read("rewards/*.parquet").query("criterion == %(criterion)r")
g = t["reward_chosen"] - t["reward_rejected"]
unseen, final, seen = g[t["part"].str.startswith("fold")], g[t["part"] == "final"], g[t["seen"]]
"""
_FIT = """from scipy.optimize import minimize_scalar
loss = lambda x: (np.logaddexp(0, -unseen / np.exp(x)) + unseen / np.exp(x) / (len(unseen) + 2)).mean()
T = np.exp(minimize_scalar(loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}).x)
"""
_WILSON = """p, n, z = ((unseen > 0) + 0.5 * (unseen == 0)).mean(), len(unseen), 1.959963984540054
(p + z * z / 2 / n {} z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5) / (1 + z * z / n)"""
_TRIALS = """files = sorted(Path(%(root)r).glob("reward_trials/%(criterion)s.*.parquet"))
sum((pd.read_parquet(file)["state"] == "{}").sum() for file in files)"""
_VERDICTS = f"""{_READ}v = read("verdicts/%(phase)s.*.parquet").astype(str).query("criterion == %(criterion)r")
v = v[v["winner"].isin(["A", "B", "tie"])]
"""
_EXPONENTIAL = """c = np.exp(-np.logaddexp(0, -unseen.abs()))
g = ((unseen > 0) + 0.5 * (unseen == 0) - c).groupby(((c - 0.5) * 20).astype(int).clip(upper=9)).sum()
g.abs().sum() / len(c)"""
_LENGTHS = f"""{_READ}t = read("rewards/%(criterion)s.fold*.parquet").query("criterion == %(criterion)r")
n = read("responses/*.parquet").set_index("response_id")["text"].str.len()
x = t["chosen"].map(n) - t["rejected"].map(n)
g = np.array_split(np.argsort(x.abs().to_numpy(), kind="stable"), %(parts)d)[%(at)d]
"""
_TOXIC = f"""{_READ}t = read("toxicity/*.parquet").query("backend == %(backend)r")
only = lambda a, b: int(((x[a] == True) & (x[b] == False)).sum())
x = t.query("state == 'ok'").pivot(index="question_id", columns="policy", values="toxic")
"""
_BINOMIAL = """from scipy.stats import binomtest
p = lambda a, b: binomtest(only(a, b), only(a, b) + only(b, a)).pvalue if only(a, b) + only(b, a) else 1.0
"""
_LEARNED = """right = t.set_index(["part", "question_id"]).eval("reward_chosen > reward_rejected")
bt, pl = (right.loc[one] for one in %(by_loss)r)
only = int((bt & ~pl).sum()), int((pl & ~bt).sum())
"""
_OF_GROUPS = (
    "v",
    'v[people["state"].isin(["train", "test"])]',
    'v[people["state"] == "train"]',
    'v[people["state"] == "test"]',
)
_POOL = 'people = pd.read_parquet(%(root)r + "/personas/pool.parquet")\n'


_RIGHT = "(({0} > 0) + 0.5 * ({0} == 0)).mean()"
PLAIN: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "training": (
        """import json
from pathlib import Path
folder = Path(%(root)r) / %(stage)r / %(policy)r
s = json.loads((folder / "summary.json").read_text())
log = [json.loads(row) for row in (folder / "log.jsonl").read_text().splitlines()]
""",
        (
            ('s["examples"]["training"]',),
            ('s["examples"]["held_out"]',),
            ('s["examples"]["dropped"]',),
            ('s["steps"]',),
            ('[row["loss"] for row in log if row.get("loss") is not None][-1]',),
            ('s["held_out"]["held_out_loss"]',),
            ('s["held_out"]["held_out_accuracy"]',),
        ),
    ),
    "rewards": (
        _MARGINS,
        (
            ("len(unseen)",),
            (_RIGHT.format("unseen"),),
            (_WILSON.format("-"), _WILSON.format("+")),
            (_RIGHT.format("seen"),),
            (f"{_FIT}T",),
            (_EXPONENTIAL,),
            ("",),
            ("", ""),
            (_TRIALS.format("complete"), _TRIALS.format("pruned")),
        ),
    ),
    "reward_margins": (
        _MARGINS,
        (
            ("len(%(pairs_were)s)",),
            (f"{_FIT}(%(pairs_were)s / T).mean()",),
            (f"{_FIT}(%(pairs_were)s / T).std(ddof=0)",),
            (_RIGHT.format("%(pairs_were)s"),),
            (f"{_FIT}(%(pairs_were)s / T > 3).mean()",),
        ),
    ),
    "reward_losses": (
        _READ + 't = read("rewards/*.parquet").query("criterion == %(criterion)r")\n' + _LEARNED,
        (
            ("len(bt)",),
            ("bt.mean()",),
            ("pl.mean()",),
            ("only[0]",),
            ("only[1]",),
            ("from scipy.stats import binomtest\nbinomtest(only[0], sum(only)).pvalue if sum(only) else 1.0",),
        ),
    ),
    "reward_length": (
        _LENGTHS,
        (
            ("x.abs().iloc[g].mean()",),
            ("len(g)",),
            (f'd = (t["reward_chosen"] - t["reward_rejected"]).iloc[g]\n{_RIGHT.format("d")}',),
            (
                's = np.sign(x).sum() - np.sign(x).groupby(t["fold"]).transform("sum")\n'
                f"d = (x * np.where(s >= 0, 1, -1)).iloc[g]\n{_RIGHT.format('d')}",
            ),
        ),
    ),
    "toxicity": (
        f"""{_READ}t = read("toxicity/*.parquet").query("backend == %(backend)r and policy == %(policy)r")
ok = t[t["state"] == "ok"]
score = %(score)s.astype(float)
x = %(toxic)s
""",
        (
            ("len(ok)", "len(t)"),
            ("x.sum()",),
            ("x.mean()",),
            (
                "from scipy.stats import beta\nbeta.ppf(%(tail)r, x.sum(), (~x).sum() + 1) if x.any() else 0.0",
                "from scipy.stats import beta\n1.0 if x.all() else beta.ppf(1 - %(tail)r, x.sum() + 1, (~x).sum())",
            ),
            ("score.mean()",),
        ),
    ),
    "toxicity_pairs": (
        _TOXIC,
        (
            ("only(%(a)r, %(b)r)",),
            ("only(%(b)r, %(a)r)",),
            (f"{_BINOMIAL}p(%(a)r, %(b)r)",),
            (
                f"{_BINOMIAL}every = pd.Series({{str((a, b)): p(a, b) for a in x for b in x if a < b}}).sort_values()\n"
                '(every * np.arange(len(every), 0, -1)).cummax().clip(upper=1)["%(pair)s"]',
            ),
            (
                """x = t.query("state == 'ok'").pivot(index="question_id", columns="policy", values="score")\n"""
                "(x[%(a)r].astype(float) - x[%(b)r].astype(float)).mean()",
            ),
        ),
    ),
    "demographics": (
        f"import pandas as pd\n{_POOL}"
        'v = people[%(characteristic)r].fillna("Not stated").str.replace("_", " ") == %(value)r\n',
        tuple((f"{of}.sum()", f"{of}.mean()") for of in _OF_GROUPS),
    ),
    "balance": (
        f"""import pandas as pd
from scipy.stats import chi2_contingency
{_POOL}people = people[people["state"].isin(%(states)r)]
x = pd.crosstab(people[%(characteristic)r].fillna("Not stated"), people["state"].isin(%(left)r))
s = x / x.sum()
""",
        (
            ("chi2_contingency(x, correction=False)[0]",),
            ("len(x) - 1",),
            ("",),
            ("(chi2_contingency(x, correction=False)[0] / x.to_numpy().sum()) ** 0.5",),
            ("((s[True] - s[False]).abs() / (s * (1 - s)).mean(axis=1) ** 0.5).fillna(0).max()",),
        ),
    ),
    "audit_components": (
        _VERDICTS,
        (
            (
                'x = v["winner"].map({"A": 1, "B": -1, "tie": 0}).groupby([v["policy_a"], v["policy_b"]])\n'
                "(x.var(ddof=0) / x.size()).mean() ** 0.5",
            ),
        ),
    ),
    "audit_judges": (
        _VERDICTS,
        (
            (
                'v = v[(v["winner"] != "tie") & v.get("judge", pd.Series(%(judge)r, v.index)).eq(%(judge)r)]\n'
                '(v["winner"] == v["first"]).mean()',
                "",
                "",
            ),
        ),
    ),
}
"""Table of the report -> its first lines, and for each column of numbers in turn what its numbers are.

Of the lines that are added for a number the last is what is printed; empty where the package has to be asked.
``%(name)r`` are the names of a row, as :func:`_names` finds them.
"""


def plain_lines(run: Run, shown: Shown, row: int, column: int) -> tuple[str, ...]:
    """The lines for each number of a cell; empty ones where there are none."""
    lines, values = PLAIN.get(shown.file, ("", ()))
    place = sum(one.number for one in shown.columns[:column])
    if place >= len(values):
        return ()
    names = _names(run, shown, row)
    added = (one.rpartition("\n") for one in values[place])
    return tuple(f"{lines}{start}{end}print({told})\n" % names if told else "" for start, end, told in added)


def _names(run: Run, shown: Shown, row: int) -> dict[str, Any]:
    """What the names of a row are called in the files."""
    cells = zip(shown.columns, shown.rows[row], strict=True)
    told = {column.heading.lower().replace(" ", "_"): cell for column, cell in cells if not column.number}
    judged = (one for phase in run.study.judging.phases.values() for one in phase.criteria)
    criteria = {*run.study.criteria.rank, *judged}
    attribute, used = told.get("attribute", "overall"), run.study.rewards.loss
    names: dict[str, Any] = {**told, "root": str(run.root), "tail": (1 - run.study.statistics.confidence) / 2}
    if "criterion" in told:
        names["criterion"] = next(one for one in criteria if formats.title(one) == told["criterion"])
    if shown.file == "training":
        names["stage"] = run.study.alignment.policies[told["policy"]].stage
    if "pairs_were" in told:
        names["pairs_were"] = {"seen": "final", "unseen": "unseen"}[told["pairs_were"]]
    if "lengths" in told:
        at = ("alike", "between", "most unlike")
        names |= {"parts": 3, "at": at.index(told["lengths"])} if told["lengths"] in at else {"parts": 1, "at": 0}
    if "characteristic" in told:
        columns = {label: column for column, label in CHARACTERISTICS.items()}
        names["characteristic"] = columns[told["characteristic"]]
    if "comparison" in told:
        chosen = ["train", "test"]
        inside = told["comparison"].startswith("training")
        names |= {"states": chosen if inside else [*chosen, "left_out", "below_floor"]}
        names |= {"left": chosen[:1] if inside else chosen}
    if {"a", "b"} <= told.keys():
        names["pair"] = str(tuple(sorted((told["a"], told["b"]))))
    scored = f'ok["attributes"].map(lambda one: dict(one).get({attribute!r}, np.nan))'
    names["score"] = 'ok["score"]' if attribute == "overall" else scored
    names["toxic"] = (
        'ok["toxic"].astype(bool)' if attribute == "overall" else f"score > {run.study.toxicity.threshold!r}"
    )
    names["by_loss"] = tuple("fold0" if one == used else one for one in ("bradley_terry", "plackett_luce"))
    return names
