"""Toxicity of the answers of one policy, as one backend sees it."""

from __future__ import annotations

from functools import partial

from modpo_hpc.evaluation.toxicity import SCHEMA, answers_of, assess_shard
from modpo_hpc.evaluation.toxicity_backends import assessor_of, backend_of
from modpo_hpc.run import Run, Shard


def toxicity(run: Run, shard: Shard) -> None:
    backend, _, policy = shard.id.partition(".")
    settings = backend_of(run, backend)
    items = answers_of(run, policy)
    assessor = partial(assessor_of, settings, run.study.toxicity.threshold, run, shard.check)
    rows = assess_shard(shard, items, assessor, settings.batch_size)
    shard.metrics["not_assessed"] = sum(row["state"] != "ok" for row in rows)
    shard.write_table([{"backend": backend, "policy": policy, **row} for row in rows], SCHEMA)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("toxicity")
