"""Toxicity of the answers of one policy, as one backend sees it."""

from __future__ import annotations

from functools import partial

from modpo_hpc.data.questions import study_questions
from modpo_hpc.evaluation.toxicity import SCHEMA, Item, assess_shard, assessor_of
from modpo_hpc.run import Run, Shard


def toxicity(run: Run, shard: Shard) -> None:
    backend, _, policy = shard.id.partition(".")
    settings = run.study.toxicity.backends[backend]
    posts = {question.question_id: question.text for question in study_questions(run, "test")}
    answers = run.table("answers", ["policy", "question_id", "text"], run.answer_shards(policy)).to_pylist()
    items = [Item(one["question_id"], posts[one["question_id"]], one["text"]) for one in answers]
    assessor = partial(assessor_of, settings, run.study.toxicity.threshold, run)
    rows = assess_shard(shard, items, assessor, settings.batch_size)
    unparsed = sum(row["state"] != "ok" for row in rows)
    shard.metrics["not_assessed"] = unparsed
    shard.write_table([{"backend": backend, "policy": policy, **row} for row in rows], SCHEMA)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("toxicity")
