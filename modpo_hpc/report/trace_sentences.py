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
v = pd.concat([pd.read_parquet(file) for file in sorted(Path(%(root)r).glob("verdicts/%(phase)s.*.parquet"))])"""
_TABLE = 't = pd.read_parquet(%(root)r + "/{}.parquet")'
_STATISTICS = f"import pandas as pd\n{_TABLE.format('statistics/{}')}"
_PHASE = 't = t[t["phase"] == %(phase)r]'
_OF_BOTH = 't = t[(t["phase"] == %(phase)r) & (t["criterion"] == %(criterion)r)]'
_SETTINGS = 'import json\nd = json.load(open(%(root)r + "/statistics/statistics.json"))'
_SIZES = ("pairs", "questions", "margin", "futility")
_STUDY = 'import yaml\ns = yaml.safe_load(open(%(root)r + "/study.yaml"))'
_POLICIES = 'print(pd.concat([v["policy_a"].astype(str), v["policy_b"].astype(str)]).nunique())'
_PERSONAS_ON_EACH = """one = ["policy_a", "policy_b", "criterion", "question_id"]
print(v.astype(str).groupby(one)["persona_id"].nunique().max())"""
_TEST_PERSONAS = 'print((pd.read_parquet(%(root)r + "/personas/personas.parquet")["split"] == "test").sum())'
_AUDIT = "from modpo_hpc.report.audit import read_audit"
_EFFECT = """t = run.table("personalization").to_pandas()
t = t[t["arm"] == s.personalization.arms[0]].set_index("against").loc[{!r}]"""

SENTENCES = {
    r"The question: which of \d+ policies": f"""{_VERDICTS}
{_POLICIES}
{_TEST_PERSONAS}
print(v["question_id"].nunique(), v["persona_id"].nunique())
{_PERSONAS_ON_EACH}
""",
    r"\d+ policies, [\d,]+ pairs?, [\d,]+ questions, .*personas.*, [\d,]+ verdicts\.$": f"""{_VERDICTS}
{_POLICIES}
print(len(v[["policy_a", "policy_b"]].drop_duplicates()))
print(v["question_id"].nunique(), v["persona_id"].nunique())
{_TEST_PERSONAS}
{_PERSONAS_ON_EACH}
print(v["winner"].isin(["A", "B", "tie"]).sum())
""",
    r".*Pareto front": f"""{_STATISTICS.format("pareto")}
{_PHASE}
print(*t[t["on_front"]]["front_probability"])
{_SETTINGS}
print(d["phases"][%(phase)r]["hypervolume"])
""",
    r"(?:What the margins did: )?(?P<a>\w+) less its placebo (?P<b>\w+), in points": f"""\
{_STATISTICS.format("win_rates")}
{_PHASE}
for a, b, side in ((%(a)r, %(b)r, 1), (%(b)r, %(a)r, -1)):
    for _, r in t[(t["policy_a"] == a) & (t["policy_b"] == b)].iterrows():
        print(*(side * r[["difference", "difference_low", "difference_high"]]))
""",
    r".*(?:is maintained|is kept) within": f"""{_SETTINGS}
print(*d["settings"]["non_inferiority"].values())
""",
    r"\d+ of the [\d,]+ pairs? of (?P<criterion>.+?) differ": f"""{_STATISTICS.format("win_rates")}
{_PHASE}
print(t[t["criterion"] == %(criterion)r]["separated"].sum())
{_TABLE.format("statistics/mcnemar")}
{_PHASE}
print(*t[t["criterion"] == %(criterion)r]["significant"].agg(["sum", "size"]))
{_SETTINGS}
print(d["settings"]["alpha"])
""",
    r"(?P<criterion>.+?): in \d+ of \d+ pairs? one policy is preferred": f"""{_STATISTICS.format("shares")}
{_OF_BOTH}
print(len(t), *[(t["decision"] == one).sum() for one in ("better", "equivalent", "open")])
{_TABLE.format("statistics/share_ranking")}
{_OF_BOTH}
print(*t[["share", "low", "high"]].iloc[0])
{_SETTINGS}
print(d["phases"][%(phase)r]["margin"])
""",
    r"[\d,]+ verdicts were asked for": f"""{_STATISTICS.format("completeness")}
{_PHASE}
t = t[["asked", "decided"]].sum()
print(t["asked"], t["asked"] / t.sum())
{_SETTINGS}
print(d["phases"][%(phase)r]["personas_per_question"])
""",
    r"Of [\d,]+ verdicts, [\d,]+ are missing|The exact stop left": f"""{_STATISTICS.format("completeness")}
print(*t[["asked", "missing", "unparsed", "decided"]].sum())
""",
    r"Votes of two personas on one question": f"""{_STATISTICS.format("persona_agreement")}
print(*t[["icc", "votes", "effective_votes"]].median())
""",
    r"The answer shown first wins": f"""{_STATISTICS.format("position_bias")}
print(t["first_share"].mean(), ((t["low"] > 0.5) | (t["high"] < 0.5)).sum(), len(t))
""",
    r"Between those who saw A first": f"""{_STATISTICS.format("position_bias")}
print(*t[["flips", "flips_by_chance"]].mean(), t["changes_result"].sum(), len(t))
""",
    r"At equal length, the winner": f"""{_STATISTICS.format("length_control")}
turned = t[(t["win_rate"] - 0.5) * (t["controlled"] - 0.5) < 0]
print(len(turned), len(t), ((turned["low"] > 0.5) | (turned["high"] < 0.5)).sum())
""",
    r".*(?:is not the favourite: |more groups, none of them larger|groups? another policy wins)": f"""\
{_STATISTICS.format("groups")}
t = t[t["favourite"] & (t["best_here"] != t["policy"])]
sure = t[t["separated"]].sort_values("personas", ascending=False)
print(len(sure) - 5, len(t) - len(sure), *sure["personas"][:5])
""",
    r"Known: (?P<criterion>.+) in (?P<phase>\w+): the standard error of a difference": f"""{_AUDIT}
rows = read_audit(run)["components"]
(r,) = [one for one in rows if (one["phase"], one["criterion"]) == (%(phase)r, %(criterion)r)]
print(r["total"], r["total"] / r["naive"])
""",
    r"Next: [\d,]+ more calls in (?P<phase>\w+) are best spent": f"""{_AUDIT}
for r in read_audit(run)["components"]:
    if r["phase"] == %(phase)r and r["purchases"]:
        best = r["purchases"][0]
        print(r["calls"], best["levels"], r["total"], best["error"])
""",
    r"Known: (?P<criterion>.+) in (?P<phase>\w+): .+ gives .+, of its own family": f"""{_AUDIT}
for r in read_audit(run)["families"]:
    if (r["phase"], r["criterion"]) == (%(phase)r, %(criterion)r):
        print(abs(r["favour"] or 0))
""",
    r"(?:Known|Not known): (?P<criterion>.+?): (?:the judge gives|the raters agree|\d+ labels by)": f"""{_AUDIT}
rows = read_audit(run)["people"]["criteria"]
(r,) = [one for one in rows if one["criterion"] == %(criterion)r]
names = "naive", "labels", "estimate", "low", "high", "worth"
print(r["labels"], *[(r["prediction_powered"] or {{}}).get(one) for one in names])
print(*[r["raters"][one] for one in ("alpha", "alpha_low", "alpha_high")])
""",
    r".*pairs differ at .* after Holm \(exact McNemar\)": """\
from modpo_hpc.evaluation.toxicity_tables import by_pair, by_policy
found, how = run.table("toxicity").to_pandas(), (s.statistics.draws, s.statistics.confidence, s.seed)
t = by_pair(found, *how)["p_mcnemar_holm"]
print((t < s.statistics.alpha).sum(), len(t), s.statistics.alpha)
t = by_policy(found, s.toxicity.threshold, *how)
print(t[t["attribute"] == ""]["toxic_share"].max())
""",
    r"[\d,]+ training questions of": """from modpo_hpc.data.questions import study_questions
for split in ("train", "test"):
    lengths = [len(one.text) for one in study_questions(run, split)]
    print(len(lengths), sum(lengths) / len(lengths))
""",
    r"\d+ of \d+ participants became personas": """\
people = pd.read_parquet(run.folder("personas") / "pool.parquet")["state"]
print(len(people), *[people.isin(one).sum() for one in (["train"], ["test"], ["train", "test"])])
""",
    r"Training and test personas differ most": """from modpo_hpc.personas.balance import balance_tests
from modpo_hpc.seeds import rng_of
people = pd.read_parquet(run.folder("personas") / "pool.parquet")
t = balance_tests(people, rng_of(s.seed, "report", "balance"))
t = t[t["comparison"].str.startswith("training")]
print(*t.loc[t["cramers_v"].idxmax(), ["cramers_v", "p_value"]])
""",
    r"(?P<policy>[^:]+): (?:no margin is felt|the margins drown|[^:]+ dominates:)": """import json
d = json.loads((run.folder("policies") / %(policy)r / "summary.json").read_text())["margins"]
print(d["total_spread"], d["flat"], *d["spread"].values())
print(*[one / sum(d["spread"].values()) for one in d["spread"].values()])
from modpo_hpc.alignment.margins import FELT
print(FELT)
""",
    r"On questions that they did not see, the reward models are right": """\
from modpo_hpc.report.rewards import diagnose
d = [diagnose(one) for _, one in run.table("rewards").to_pandas().groupby("criterion")]
t = pd.DataFrame(d)
print(t["accuracy"].min(), t["accuracy"].max())
print(*t[["error_before", "error_after", "error_by_chance"]].mean())
""",
    r"The margin of a pair is": """from modpo_hpc.rewards.diagnostics import margins_seen_and_unseen
t = margins_seen_and_unseen(run.table("rewards").to_pandas())
print(*t.groupby("seen")["mean"].mean())
""",
    r"Learning from whole rankings": """from modpo_hpc.rewards.diagnostics import losses_compared
t = losses_compared(run.table("rewards").to_pandas(), s.rewards.loss)["p"]
print((t < 0.05).sum(), len(t))
""",
    r"\d+ policies answer: \d+ of them are aligned": """p = s.alignment.policies.values()
print(len(p), sum(one.stage is not None for one in p), sum(one.stage is None for one in p))
""",
    r"To align them, \d+ training personas": """\
print(s.ranking.personas_per_question, s.generation.responses_per_question)
""",
    r"[\d.]+ CPU hours and [\d.]+ GPU hours|Judging took": """from modpo_hpc.report.study import COUNTED, costs
print(*[sum(row[one] for row in costs(run)) for one in COUNTED])
""",
    r"(?P<family>[^:]+): hypervolume [\d.]+": """import pandas as pd
t = pd.read_parquet(%(root)r + "/fronts/families.parquet").set_index("family").loc[%(family)r]
print(*t["reference"], *t.drop(["criteria", "reference", "beside"]))
t = pd.read_parquet(%(root)r + "/fronts/ranges.parquet").set_index("family").loc[[%(family)r]]
print(*t["range"], *t["share"], *t["tau"])
""",
    r"(?P<phase>\w+), (?P<criterion>[^:]+): asked the same again": f"""import pandas as pd
{_TABLE.format("repeats/self_agreement")}
{_OF_BOTH}
print(*t.select_dtypes("number").to_numpy().ravel())
""",
    r"Of each pair of policies, \d+ comparisons": "print(s.judging.repeats.comparisons, s.judging.repeats.samples)\n",
    r"\d+ (?:simulated )?raters judged \d+ questions": """from modpo_hpc.report.human import read_analysis
d = read_analysis(run)[0]
print(len(d["raters"]), d["questions"])
""",
    r"(?P<criterion>.+?): (?:against what the other raters said|the raters agree|the model (?:agrees|may))": """\
from modpo_hpc.report.human import read_analysis
for name in ("same_truth", "alternative"):
    t = read_analysis(run)[1][name]
    print(*t[t["criterion"] == %(criterion)r].select_dtypes("number").iloc[0])
""",
    r"Does an answer made for this persona": """\
print(s.generation.responses_per_question, s.personalization.test_questions)
""",
    r"With weights by .*, personas prefer": f"""{_EFFECT.format("others")}
print(*(0.5 + t[["estimate", "low", "high"]]), t["p_adjusted"], t["differs"])
print(s.statistics.confidence, s.personalization.smallest)
""",
    r"The control, in which every persona": f"""{_EFFECT.format("stranger")}
print(t["estimate"], t["p"])
""",
    r"[\d,]+ personas gave|Stated ratings|There is \w+ to personalize|(?:To know|No number) .* reliability of": """\
import json
from modpo_hpc.personalization.gate import RELIABLE
d = json.loads((run.folder("profiles") / "gate.json").read_text())
print(RELIABLE, s.statistics.alpha, *[d[one] for one in ("personas", "rankings", "needed")])
print(*[d[one] for one in ("split_half", "reliability", "stated", "deviation", "deviation_high")])
print(d["p_split_half"], d["p_stated"])
""",
    r"By .+ the personal answers are": """\
t = pd.read_parquet(run.folder("personalization") / "safety.parquet")
t = t[t["arm"] == s.personalization.arms[0]].select_dtypes("number").iloc[0]
print(s.statistics.confidence, *t)
""",
    r"This is the positive control: a dial": "print(s.personalization.dial)\n",
    r"The personas and their preferences are those": """from modpo_hpc.report import formats, personalization
print(*formats.numbers_in(personalization.KNOWN))
""",
    r".*another training run \(seed": "print(s.seed)\n",
    r"\d+$": f"""{_STUDY}
print(s["seed"])
""",
    r"[\d,]+ questions, \d+ personas on each, \d+ phases": f"""{_SETTINGS}
print(max(one["questions"] for one in d["phases"].values()), len(d["phases"]))
{_STUDY}
print(s["judging"]["personas_per_question"])
""",
    r"McNemar's test .* draws of|confidence sequences of|Questions won by A and by B|Win rates of every pair": f"""\
{_SETTINGS}
print(*[d["settings"][one] for one in ("alpha", "power", "draws")])
""",
    r"Mean reward of the answers to the test questions": """from scipy.stats import norm
print(2 * norm.cdf(1.96) - 1)
""",
    r"From .* we drew \d+ responses to each training question": f"""{_SETTINGS}
{_STUDY}
print(s["generation"]["responses_per_question"], *s["ranking"]["weights"], s["seed"])
print(*[s[one]["personas_per_question"] for one in ("ranking", "judging")])
print(*[s["personas"][one] for one in ("train", "test")])
print(*[d["settings"][one] for one in ("alpha", "confidence", "draws")])
print(*[s["alignment"]["training"][one] for one in ("beta", "lora_rank", "epochs")])
for one in d['phases'].values(): print(len(one['policies']), *[one.get(name) for name in %(sizes)r])
""",
}
"""What a sentence begins with, and lines that print its numbers in any order; groups name what these are of."""


def lines_of(run: Run, results: Results, anchor: str, sentence: str) -> Iterator[str]:
    """The lines for the numbers of ``sentence`` in the section ``anchor``; none where it says those of cells."""
    phase = anchor if anchor in results.phases else next(iter(results.phases))
    for pattern, lines in SENTENCES.items():
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
