"""Personas from surveys: read and score the answers, choose a varied and balanced set, divide it, write the texts."""

from __future__ import annotations

import json

from modpo_hpc.personas import records
from modpo_hpc.run import Run, Shard


def personas(run: Run, shard: Shard) -> None:
    built = records.build(run.study.personas, run.study.seed)
    with shard.file(records.ACCOUNT) as stream:
        json.dump(built.account, stream, indent=1, ensure_ascii=False)
    shard.metrics["participants"] = built.account["participants"]
    shard.metrics["mean_quality"] = built.account["quality"]["mean"]
    shard.metrics["constraints_not_met"] = len(built.account["constraints_not_met"])
    shard.write_table(built.pool, records.pool_schema(built.criteria), name=records.POOL)
    shard.write_table(built.personas, records.schema(built.criteria))


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("personas")
