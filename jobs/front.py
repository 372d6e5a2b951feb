"""Fronts: where the policies of each family stand by the rewards of their answers, and how much they reach together."""

from __future__ import annotations

from modpo_hpc.evaluation import fronts
from modpo_hpc.evaluation.tables import FRONT_SCHEMAS, Rows
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of


def front(run: Run, shard: Shard) -> None:
    study, confidence = run.study, run.study.statistics.confidence
    values: dict[tuple[str, str], dict[str, float]] = {}
    for row in run.table("answer_scores").to_pylist():
        values.setdefault((row["policy"], row["criterion"]), {})[row["question_id"]] = row["reward"]
    questions = list(next(iter(values.values())))
    rewards = fronts.rewards_of(values, questions, study.statistics.draws, rng_of(study.seed, "fronts"))
    families = fronts.families_of(study)
    made: dict[str, Rows] = {name: [] for name in FRONT_SCHEMAS}
    for number, family in enumerate(families):
        reference = fronts.reference_of(study, rewards, family.criteria)
        first = next(one for one in families if set(one.criteria) == set(family.criteria))
        specialists = fronts.specialists_of(study, family.criteria)
        made["fronts"] += fronts.point_rows(family, rewards, reference, confidence)
        made["families"].append(fronts.family_row(family, first, rewards, reference, confidence))
        made["ranges"] += fronts.range_rows(family, rewards, specialists, confidence)
        shard.progress(number + 1, len(families), "families")
        shard.check()
    for name, rows in made.items():
        shard.write_table(rows, FRONT_SCHEMAS[name], name=name)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("fronts")
