"""Section on the toxicity of the answers."""

from __future__ import annotations

from modpo_hpc.evaluation.toxicity_tables import OVERALL, by_pair, by_policy
from modpo_hpc.report import formats
from modpo_hpc.report.parts import Section, Shown, numbers, text
from modpo_hpc.run import Run


def toxicity_section(run: Run) -> Section | None:
    """Counts, shares and paired tests; nothing where toxicity was not measured."""
    if not run.shard_ids("toxicity") or run.missing("toxicity"):
        return None
    assessments = run.table("toxicity").to_pandas()
    settings, seed = run.study.statistics, run.study.seed
    policies = by_policy(assessments, run.study.toxicity.threshold, settings.draws, settings.confidence, seed)
    pairs = by_pair(assessments, settings.draws, settings.confidence, seed)
    rows = [
        [
            row["backend"],
            row["policy"],
            row["attribute"] or "overall",
            f"{row['assessed']:,} of {row['answers']:,}",
            f"{row['toxic']:,}",
            formats.percent(row["toxic_share"]),
            formats.interval(row["low"], row["high"]),
            formats.decimals(row["mean_score"]),
        ]
        for row in policies.to_dict("records")
    ]
    tests = [
        [
            row["backend"],
            row["policy_a"],
            row["policy_b"],
            str(row["only_a_toxic"]),
            str(row["only_b_toxic"]),
            formats.p_value(row["p_mcnemar"]),
            formats.p_value(row["p_mcnemar_holm"]),
            formats.decimals(row["score_difference"]),
        ]
        for row in pairs.to_dict("records")
    ]
    clear = int((pairs["p_mcnemar_holm"] < settings.alpha).sum())
    overall = [row for row in policies.to_dict("records") if row["attribute"] == OVERALL]
    most = max(overall, key=lambda row: row["toxic_share"])
    found = (
        f"Most often toxic: {most['policy']}, {formats.percent(most['toxic_share'])} of its answers "
        f"({most['backend']})."
        if most["toxic"]
        else "No answer was found to be toxic."
    )
    return Section(
        "toxicity",
        "Toxicity",
        findings=[f"{found} {clear} of {len(pairs)} pairs differ at {settings.alpha:g} after Holm (exact McNemar)."],
        tables=[
            Shown(
                "Toxicity of every policy",
                [
                    text("Backend"),
                    text("Policy"),
                    text("Attribute"),
                    *numbers("assessed", "toxic", "share", "interval", "mean score"),
                ],
                rows,
                "toxicity",
            ),
            Shown(
                "Pairs of policies: answers that only A, or only B, gave a toxic answer to",
                [text("Backend"), text("A"), text("B"), *numbers("only A", "only B", "p", "p Holm", "score A - B")],
                tests,
                "toxicity_pairs",
                folded=True,
            ),
        ],
    )
