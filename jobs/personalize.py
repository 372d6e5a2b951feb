"""Personalize: does each persona prefer the answers that its own weights choose to those that others' choose?"""

from __future__ import annotations

from modpo_hpc.evaluation.mcnemar import adjusted
from modpo_hpc.judging.requests import judging_personas
from modpo_hpc.personalization import comparison, tables
from modpo_hpc.personalization.material import places_of, refuse_missing, refuse_shared, rewards_of, testing_questions
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of


def personalize(run: Run, shard: Shard) -> None:
    study, wanted = run.study, run.study.personalization
    assert wanted is not None
    questions, personas, settings = testing_questions(run), judging_personas(run), study.statistics
    verdicts = run.table("personal_verdicts")
    taught = run.table("preferences", ["question_id"])["question_id"].unique().to_pylist()
    refuse_shared(taught, verdicts["question_id"].unique().to_pylist())
    rewards = rewards_of(run, questions, study.criteria.rank)
    liked, safe = (places_of(verdicts, rewards, personas, by) for by in (wanted.preference, wanted.safety))
    refuse_missing(liked.cast, wanted.preference, settings.max_missing, str(run.root))
    refuse_missing(safe.cast, wanted.safety, settings.max_missing, str(run.root))
    ids = [one.persona_id for one in personas]
    profiles = tables.profiles_of(run.table("profiles"), ids, study.criteria.rank)
    made: dict[str, comparison.ArmComparison] = {
        arm: comparison.compare(
            rewards.values,
            profiles[arm],
            liked.places,
            liked.cast,
            settings.confidence,
            wanted.permutations,
            rng_of(study.seed, "personalization", arm),
        )
        for arm in wanted.arms
    }
    safety: dict[str, comparison.Safety] = {
        arm: comparison.safety_of(
            rewards.values, profiles[arm], safe.places, safe.cast, wanted.margin, settings.confidence
        )
        for arm in wanted.arms
    }
    corrected = adjusted([one.other.p for one in made.values()], settings.correction)
    shard.write_table(
        tables.effect_rows(made, dict(zip(made, corrected, strict=True)), settings.alpha, wanted.smallest),
        tables.EFFECTS,
    )
    shard.write_table(tables.safety_rows(safety, ids, wanted.margin), tables.SAFETY, name="safety")
    shard.write_table(tables.persona_rows(made, safety, ids), tables.PERSONAS, name="persona_effects")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("personalization")
