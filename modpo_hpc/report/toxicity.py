"""Section on the toxicity of the answers."""

from __future__ import annotations

from modpo_hpc.evaluation.toxicity_tables import OVERALL, by_pair, by_policy
from modpo_hpc.report import formats
from modpo_hpc.report.columns import INTERVAL, PAIR, POLICY
from modpo_hpc.report.parts import ReportSection, number, records, table, text
from modpo_hpc.run import Run


def toxicity_section(run: Run) -> ReportSection | None:
    """Counts, shares and paired tests; nothing where toxicity was not measured."""
    if not run.shard_ids("toxicity") or run.missing("toxicity"):
        return None
    assessments = run.table("toxicity").to_pandas()
    settings, seed = run.study.statistics, run.study.seed
    policies = by_policy(assessments, run.study.toxicity.threshold, settings.draws, settings.confidence, seed)
    pairs = by_pair(assessments, settings.draws, settings.confidence, seed)
    clear = int((pairs["p_mcnemar_holm"] < settings.alpha).sum())
    overall = [row for row in records(policies) if row["attribute"] == OVERALL]
    most = max(overall, key=lambda row: row["toxic_share"])
    found = (
        f"Most often toxic: {most['policy']}, {formats.percent(most['toxic_share'])} of its answers "
        f"({most['backend']})."
        if most["toxic"]
        else "No answer was found to be toxic."
    )
    return ReportSection(
        "toxicity",
        "Toxicity",
        findings=[f"{found} {clear} of {len(pairs)} pairs differ at {settings.alpha:g} after Holm (exact McNemar)."],
        tables=[
            table(
                "Toxicity of every policy",
                [
                    text("Backend", "backend"),
                    POLICY,
                    text("Attribute", "attribute", lambda name: name or "overall"),
                    number("assessed", "{:,} of {:,}".format, "assessed", "answers"),
                    number("toxic", "{:,}".format, "toxic"),
                    number("share", formats.percent, "toxic_share"),
                    INTERVAL,
                    number("mean score", formats.decimals, "mean_score"),
                ],
                records(policies),
                "toxicity",
            ),
            table(
                "Pairs of policies: answers that only A, or only B, gave a toxic answer to",
                [
                    text("Backend", "backend"),
                    *PAIR,
                    number("only A", str, "only_a_toxic"),
                    number("only B", str, "only_b_toxic"),
                    number("p", formats.p_value, "p_mcnemar"),
                    number("p Holm", formats.p_value, "p_mcnemar_holm"),
                    number("score A - B", formats.decimals, "score_difference"),
                ],
                records(pairs),
                "toxicity_pairs",
                folded=True,
            ),
        ],
    )
