"""What groups of personas prefer: pairs by the votes of each group alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modpo_hpc.run import Run

NOT_STATED = "not stated"


def pairs_of_groups(
    run: Run, criterion: str, attribute: str, responses: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, tuple[str, str]]]:
    """Group -> question id -> (chosen, rejected), groups being the values of ``attribute`` among the personas.

    Args:
        responses: question id -> response ids.
    """
    from modpo_hpc.judging.votes import vote

    personas = run.table("personas", ["persona_id", attribute]).to_pandas()
    group_of = {row.persona_id: getattr(row, attribute) or NOT_STATED for row in personas.itertuples()}
    columns = ["question_id", "persona_id", "criterion", "order", "state"]
    rankings = run.table("rankings", columns).to_pandas()
    rankings = rankings[rankings["criterion"] == criterion]
    groups = rankings["persona_id"].astype(str).map(group_of)
    found = {}
    for group in sorted(groups.unique()):
        name = f"{attribute} {group}"
        pairs, _ = vote(
            f"{criterion} of {name}", responses, rankings[groups == group], run.study.ranking.weights, run.study.seed
        )
        found[name] = {str(one["question_id"]): (str(one["chosen"]), str(one["rejected"])) for one in pairs}
    return found
