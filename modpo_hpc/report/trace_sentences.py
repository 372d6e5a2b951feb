"""Lines for the numbers of the report's sentences that stand in no cell of a table: counts, means, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modpo_hpc.report import formats
from modpo_hpc.report.results import Results
from modpo_hpc.report.trace_recipes import with_run
from modpo_hpc.run import Run

_VERDICTS = """import pandas as pd
from pathlib import Path
v = pd.concat([pd.read_parquet(file) for file in sorted(Path(%(root)r).glob("verdicts/%(phase)s.*.parquet"))])
"""
_STATISTICS = """import pandas as pd
t = pd.read_parquet(%(root)r + "/statistics/{}.parquet")
"""
_PHASE = 't = t[t["phase"] == %(phase)r]\n'
_OF_BOTH = 't = t[(t["phase"] == %(phase)r) & (t["criterion"] == %(criterion)r)]\n'
_SETTINGS = """import json
d = json.load(open(%(root)r + "/statistics/statistics.json"))
"""
_SIZES = ("pairs", "questions", "margin", "futility")
_STUDY = """import yaml
s = yaml.safe_load(open(%(root)r + "/study.yaml"))
"""
_POLICIES = 'print(pd.concat([v["policy_a"].astype(str), v["policy_b"].astype(str)]).nunique())\n'
_TEST_PERSONAS = 'print((pd.read_parquet(%(root)r + "/personas/personas.parquet")["split"] == "test").sum())\n'
_REWARDS = 'd = [diagnose(one) for _, one in run.table("rewards").to_pandas().groupby("criterion")]\n'
_QUESTIONS = """from modpo_hpc.data.questions import study_questions
for split in ("train", "test"):
    lengths = [len(one.text) for one in study_questions(run, split)]
    print(len(lengths), sum(lengths) / len(lengths))
"""
_COMPONENT = """from modpo_hpc.report.audit import read_audit
rows = read_audit(run)["components"]
(r,) = [one for one in rows if (one["phase"], one["criterion"]) == (%(phase)r, %(criterion)r)]
print(r["total"], r["total"] / r["naive"])
"""
_PURCHASES = """from modpo_hpc.report.audit import read_audit
for r in read_audit(run)["components"]:
    if r["phase"] == %(phase)r and r["purchases"]:
        best = r["purchases"][0]
        print(r["calls"], best["levels"], r["total"], best["error"])
"""
_FAVOUR = """from modpo_hpc.report.audit import read_audit
for r in read_audit(run)["families"]:
    if (r["phase"], r["criterion"]) == (%(phase)r, %(criterion)r):
        print(abs(r["favour"] or 0))
"""
_LABELS = """from modpo_hpc.report.audit import read_audit
rows = read_audit(run)["people"]["criteria"]
(r,) = [one for one in rows if one["criterion"] == %(criterion)r]
names = "naive", "labels", "estimate", "low", "high", "worth"
print(r["labels"], *[(r["prediction_powered"] or {}).get(one) for one in names])
print(*[r["raters"][one] for one in ("alpha", "alpha_low", "alpha_high")])
"""
_FAMILY = """import pandas as pd
t = pd.read_parquet(%(root)r + "/fronts/families.parquet").set_index("family").loc[%(family)r]
print(*t["reference"], *t.drop(["criteria", "reference", "beside"]))
t = pd.read_parquet(%(root)r + "/fronts/ranges.parquet").set_index("family").loc[[%(family)r]]
print(*t["range"], *t["share"], *t["tau"])
"""
_AGAIN = """import pandas as pd
t = pd.read_parquet(%(root)r + "/repeats/self_agreement.parquet")
t = t[(t["phase"] == %(phase)r) & (t["criterion"] == %(criterion)r)]
print(*t.select_dtypes("number").to_numpy().ravel())
"""

SENTENCES: tuple[tuple[str, str], ...] = (
    (
        r"The question: which of \d+ policies",
        _VERDICTS + _POLICIES + _TEST_PERSONAS + 'print(v["question_id"].nunique(), v["persona_id"].nunique())\n'
        'one = ["policy_a", "policy_b", "criterion", "question_id"]\n'
        'print(v.astype(str).groupby(one)["persona_id"].nunique().max())\n',
    ),
    (
        r"\d+ policies, [\d,]+ pairs?, [\d,]+ questions, .*personas.*, [\d,]+ verdicts\.$",
        _VERDICTS + _POLICIES + 'print(len(v[["policy_a", "policy_b"]].drop_duplicates()))\n'
        'print(v["question_id"].nunique(), v["persona_id"].nunique())\n'
        + _TEST_PERSONAS
        + 'print(v["winner"].isin(["A", "B", "tie"]).sum())\n',
    ),
    (
        r".*Pareto front",
        _STATISTICS.format("pareto")
        + _PHASE
        + 'print(*t[t["on_front"]]["front_probability"])\n'
        + _SETTINGS
        + 'print(d["phases"][%(phase)r]["hypervolume"])\n',
    ),
    (
        r"(?:What the margins did: )?(?P<a>\w+) less its placebo (?P<b>\w+), in points",
        _STATISTICS.format("win_rates") + _PHASE + "for a, b, side in ((%(a)r, %(b)r, 1), (%(b)r, %(a)r, -1)):\n"
        '    for _, r in t[(t["policy_a"] == a) & (t["policy_b"] == b)].iterrows():\n'
        '        print(*(side * r[["difference", "difference_low", "difference_high"]]))\n',
    ),
    (
        r".*(?:is maintained|is kept) within",
        _SETTINGS + 'print(*d["settings"]["non_inferiority"].values())\n',
    ),
    (
        r"\d+ of the [\d,]+ pairs? of (?P<criterion>.+?) differ",
        _STATISTICS.format("win_rates")
        + _PHASE
        + 'print(t[t["criterion"] == %(criterion)r]["separated"].sum())\n'
        + _STATISTICS.format("mcnemar").partition("\n")[2]
        + _PHASE
        + 'print(*t[t["criterion"] == %(criterion)r]["significant"].agg(["sum", "size"]))\n'
        + _SETTINGS
        + 'print(d["settings"]["alpha"])\n',
    ),
    (
        r"(?P<criterion>.+?): in \d+ of \d+ pairs? one policy is preferred",
        _STATISTICS.format("shares")
        + _OF_BOTH
        + 'print(len(t), *[(t["decision"] == one).sum() for one in ("better", "equivalent", "open")])\n'
        + _STATISTICS.format("share_ranking").partition("\n")[2]
        + _OF_BOTH
        + 'print(*t[["share", "low", "high"]].iloc[0])\n'
        + _SETTINGS
        + 'print(d["phases"][%(phase)r]["margin"])\n',
    ),
    (
        r"[\d,]+ verdicts were asked for",
        _STATISTICS.format("completeness") + _PHASE + 't = t[["asked", "decided"]].sum()\n'
        'print(t["asked"], t["asked"] / t.sum())\n'
        + _SETTINGS
        + 'print(d["phases"][%(phase)r]["personas_per_question"])\n',
    ),
    (
        r"Of [\d,]+ verdicts, [\d,]+ are missing|The exact stop left",
        _STATISTICS.format("completeness") + 'print(*t[["asked", "missing", "unparsed", "decided"]].sum())\n',
    ),
    (
        r"Votes of two personas on one question",
        _STATISTICS.format("persona_agreement") + 'print(*t[["icc", "votes", "effective_votes"]].median())\n',
    ),
    (
        r"The answer shown first wins",
        _STATISTICS.format("position_bias")
        + 'print(t["first_share"].mean(), ((t["low"] > 0.5) | (t["high"] < 0.5)).sum(), len(t))\n',
    ),
    (
        r"Between those who saw A first",
        _STATISTICS.format("position_bias")
        + 'print(*t[["flips", "flips_by_chance"]].mean(), t["changes_result"].sum(), len(t))\n',
    ),
    (
        r"At equal length, the winner",
        _STATISTICS.format("length_control") + 'turned = t[(t["win_rate"] - 0.5) * (t["controlled"] - 0.5) < 0]\n'
        'print(len(turned), len(t), ((turned["low"] > 0.5) | (turned["high"] < 0.5)).sum())\n',
    ),
    (
        r".*(?:is not the favourite: |more groups, none of them larger|groups? another policy wins)",
        _STATISTICS.format("groups") + 't = t[t["favourite"] & (t["best_here"] != t["policy"])]\n'
        'sure = t[t["separated"]].sort_values("personas", ascending=False)\n'
        'print(len(sure) - 5, len(t) - len(sure), *sure["personas"][:5])\n',
    ),
    (
        r"Known: (?P<criterion>.+) in (?P<phase>\w+): the standard error of a difference",
        _COMPONENT,
    ),
    (r"Next: [\d,]+ more calls in (?P<phase>\w+) are best spent", _PURCHASES),
    (r"Known: (?P<criterion>.+) in (?P<phase>\w+): .+ gives .+, of its own family", _FAVOUR),
    (
        r"(?:Known|Not known): (?P<criterion>.+?): (?:the judge gives|the raters agree|\d+ labels by)",
        _LABELS,
    ),
    (
        r".*pairs differ at .* after Holm \(exact McNemar\)",
        "from modpo_hpc.evaluation.toxicity_tables import by_pair, by_policy\n"
        'found, how = run.table("toxicity").to_pandas(), (s.statistics.draws, s.statistics.confidence, s.seed)\n'
        't = by_pair(found, *how)["p_mcnemar_holm"]\n'
        "print((t < s.statistics.alpha).sum(), len(t), s.statistics.alpha)\n"
        "t = by_policy(found, s.toxicity.threshold, *how)\n"
        'print(t[t["attribute"] == ""]["toxic_share"].max())\n',
    ),
    (r"[\d,]+ training questions of", _QUESTIONS),
    (
        r"\d+ of \d+ participants became personas",
        'people = pd.read_parquet(run.folder("personas") / "pool.parquet")["state"]\n'
        'print(len(people), *[people.isin(one).sum() for one in (["train"], ["test"], ["train", "test"])])\n',
    ),
    (
        r"Training and test personas differ most",
        "from modpo_hpc.personas.balance import balance_tests\n"
        "from modpo_hpc.seeds import rng_of\n"
        'people = pd.read_parquet(run.folder("personas") / "pool.parquet")\n'
        't = balance_tests(people, rng_of(s.seed, "report", "balance"))\n'
        't = t[t["comparison"].str.startswith("training")]\n'
        'print(*t.loc[t["cramers_v"].idxmax(), ["cramers_v", "p_value"]])\n',
    ),
    (
        r"(?P<policy>[^:]+): .*(?:margins|rewards)",
        "import json\n"
        'd = json.loads((run.folder("policies") / %(policy)r / "summary.json").read_text())["margins"]\n'
        'print(d["total_spread"], d["flat"], *d["spread"].values())\n'
        'print(*[one / sum(d["spread"].values()) for one in d["spread"].values()])\n'
        "from modpo_hpc.alignment.margins import FELT\nprint(FELT)\n",
    ),
    (
        r"On questions that they did not see, the reward models are right",
        "from modpo_hpc.report.rewards import diagnose\n"
        + _REWARDS
        + 't = pd.DataFrame(d)\nprint(t["accuracy"].min(), t["accuracy"].max())\n'
        'print(*t[["error_before", "error_after", "error_by_chance"]].mean())\n',
    ),
    (
        r"The margin of a pair is",
        "from modpo_hpc.rewards.diagnostics import margins_seen_and_unseen\n"
        't = margins_seen_and_unseen(run.table("rewards").to_pandas())\n'
        'print(*t.groupby("seen")["mean"].mean())\n',
    ),
    (
        r"Learning from whole rankings",
        "from modpo_hpc.rewards.diagnostics import losses_compared\n"
        't = losses_compared(run.table("rewards").to_pandas(), s.rewards.loss)["p"]\n'
        "print((t < 0.05).sum(), len(t))\n",
    ),
    (
        r"\d+ policies answer: \d+ of them are aligned",
        "p = s.alignment.policies.values()\n"
        "print(len(p), sum(one.stage is not None for one in p), sum(one.stage is None for one in p))\n",
    ),
    (
        r"To align them, \d+ training personas",
        "print(s.ranking.personas_per_question, s.generation.responses_per_question)\n",
    ),
    (
        r"[\d.]+ CPU hours and [\d.]+ GPU hours|Judging took",
        "from modpo_hpc.report.study import COUNTED, costs\n"
        "print(*[sum(row[one] for row in costs(run)) for one in COUNTED])\n",
    ),
    (r"(?P<family>[^:]+): hypervolume [\d.]+", _FAMILY),
    (r"(?P<phase>\w+), (?P<criterion>[^:]+): asked the same again", _AGAIN),
    (r"Of each pair of policies, \d+ comparisons", "print(s.judging.repeats.comparisons, s.judging.repeats.samples)\n"),
    (
        r"\d+ (?:simulated )?raters judged \d+ questions",
        "from modpo_hpc.report.human import read_analysis\n"
        "d = read_analysis(run)[0]\n"
        'print(len(d["raters"]), d["questions"])\n',
    ),
    (
        r"(?P<criterion>.+?): (?:against what the other raters said|the raters agree|the model (?:agrees|may))",
        "from modpo_hpc.report.human import read_analysis\n"
        'for name in ("same_truth", "alternative"):\n'
        "    t = read_analysis(run)[1][name]\n"
        '    print(*t[t["criterion"] == %(criterion)r].select_dtypes("number").iloc[0])\n',
    ),
    (r".*not of another training run \(seed", "print(s.seed)\n"),
    (r"\d+$", _STUDY + 'print(s["seed"])\n'),
    (
        r"[\d,]+ questions, \d+ personas on each, \d+ phases",
        _SETTINGS
        + 'print(max(one["questions"] for one in d["phases"].values()), len(d["phases"]))\n'
        + _STUDY
        + 'print(s["judging"]["personas_per_question"])\n',
    ),
    (
        r"McNemar's test .* draws of|confidence sequences of|Questions won by A and by B|Win rates of every pair",
        _SETTINGS + 'print(*[d["settings"][one] for one in ("alpha", "power", "draws")])\n',
    ),
    (
        r"Mean reward of the answers to the test questions",
        "from scipy.stats import norm\nprint(2 * norm.cdf(1.96) - 1)\n",
    ),
    (
        r"From .* we drew \d+ responses to each training question",
        _SETTINGS
        + _STUDY
        + 'print(s["generation"]["responses_per_question"], *s["ranking"]["weights"], s["seed"])\n'
        + 'print(*[s[one]["personas_per_question"] for one in ("ranking", "judging")])\n'
        + 'print(*[s["personas"][one] for one in ("train", "test")])\n'
        + 'print(*[d["settings"][one] for one in ("alpha", "confidence", "draws")])\n'
        + 'print(*[s["alignment"]["training"][one] for one in ("beta", "lora_rank", "epochs")])\n'
        + "for one in d['phases'].values(): print(len(one['policies']), *[one.get(name) for name in %(sizes)r])\n",
    ),
)
"""What a sentence begins with, and lines that print its numbers in any order; groups name what these are of."""


def lines_of(run: Run, results: Results, anchor: str, sentence: str) -> Iterator[str]:
    """The lines for the numbers of ``sentence`` in the section ``anchor``; none where it says those of cells."""
    phase = anchor if anchor in results.phases else next(iter(results.phases))
    for pattern, lines in SENTENCES:
        found = re.match(pattern, sentence)
        if found:
            names = {"root": str(run.root), "phase": phase, "sizes": _SIZES} | _named(run, found.groupdict())
            told = lines % names
            yield told if str(run.root) in told else with_run(run, told)


def confidence_of(run: Run, sentence: str) -> str:
    """The lines for the level of the intervals that ``sentence`` tells; empty for none."""
    return with_run(run, "print(s.statistics.confidence)\n") if re.search(r"\d% interval ", sentence) else ""


def _named(run: Run, groups: Mapping[str, Any]) -> dict[str, str]:
    """``groups`` with criteria by the names that the tables have."""
    judged = [name for phase in run.study.judging.phases.values() for name in phase.criteria]
    names = {formats.title(name).lower(): name for name in judged}
    return {key: names.get(value.lower(), value) if key == "criterion" else value for key, value in groups.items()}
