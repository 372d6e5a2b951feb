"""Prepare the questions: read the posts, drop what is too short or too long, split by quartile of length."""

from __future__ import annotations

import json
from dataclasses import asdict

from modpo_hpc.data import questions
from modpo_hpc.run import Run, Shard


def prepare(run: Run, shard: Shard) -> None:
    data, seed = run.study.data, run.study.seed
    usable, account = questions.usable_posts(data, seed)
    from_file = data.epitome or data.file
    test_size = data.test_size if from_file else data.sandbox_test
    table = questions.split(usable, test_size, seed, str(from_file or "sandbox"))
    for name, part in table.groupby("split"):
        shard.metrics[f"{name}_questions"] = len(part)
        shard.metrics[f"{name}_mean_characters"] = round(float(part["text"].str.len().mean()), 1)
    with shard.file(questions.ACCOUNT) as stream:
        json.dump(asdict(account), stream, indent=1)
    shard.write_table(table.to_dict("records"), questions.SCHEMA)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("questions")
