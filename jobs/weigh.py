"""Weigh: the weights of every persona by every arm, and the gate: is there something to personalize?"""

from __future__ import annotations

import json
from dataclasses import asdict

from modpo_hpc.evaluation.tables import finite
from modpo_hpc.personalization import gate, tables
from modpo_hpc.personalization.material import (
    ordered,
    personas_of,
    places_of,
    ratings_of,
    rewards_of,
    teaching_questions,
)
from modpo_hpc.personalization.plackett_luce import shrink
from modpo_hpc.personalization.weights import Profiles, profiles_by
from modpo_hpc.run import Run, Shard
from modpo_hpc.seeds import rng_of


def weigh(run: Run, shard: Shard) -> None:
    study, wanted = run.study, run.study.personalization
    assert wanted is not None
    criteria, personas = study.criteria.rank, personas_of(run)
    rewards = rewards_of(run, teaching_questions(run), criteria)
    places = places_of(run.table("preferences"), rewards, personas, wanted.preference)
    items, deviations = ordered(rewards, places)
    shrunk = shrink(items, places.cast)
    ratings, safety = ratings_of(personas, criteria), criteria.index(wanted.safety)
    arms: dict[str, Profiles] = {
        arm: profiles_by(arm, shrunk, deviations, ratings, safety, wanted.safety_floor) for arm in wanted.arms
    }
    ids = [one.persona_id for one in personas]
    shard.write_table(tables.profile_rows(arms, ids, criteria), tables.PROFILES)
    found = gate.gate(
        items,
        places.cast,
        shrunk,
        ratings,
        study.statistics.alpha,
        wanted.permutations,
        rng_of(study.seed, "profiles", "gate"),
    )
    told = gate.sentences(found, study.statistics.alpha)
    spread = tables.spread_rows(shrunk, deviations, criteria)
    with shard.file("gate.json") as stream:
        document = {"sandbox": run.sandbox_mark, **asdict(found), "criteria": spread, "told": told}
        json.dump(finite(document), stream, indent=1)
    with shard.file("gate.txt") as stream:
        stream.write("\n".join([*told, *([run.sandbox_mark] if run.sandbox_mark else [])]) + "\n")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("profiles")
