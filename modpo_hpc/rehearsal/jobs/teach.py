"""Stand-in: no model is fetched or taught; a tiny encoder lends its tokenizer to what counts tokens."""

from __future__ import annotations

import json

from modpo_hpc.models import source_file
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.stages.texts import REWARD


def teach(run: Run, shard: Shard) -> None:
    if shard.id == REWARD:
        posts = run.table("questions", ["text", "split"]).to_pylist()
        training = [post["text"] for post in posts if post["split"] == "train"]
        with shard.directory(REWARD) as folder:
            make_encoder(folder, training, run.seed("models", REWARD))
    with shard.file(source_file(shard.id)) as stream:
        json.dump({"sandbox": REWARD}, stream)
