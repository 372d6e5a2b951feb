"""Stand-in: no model is fetched or taught; a tiny encoder lends its tokenizer to what counts tokens."""

from __future__ import annotations

import json

from modpo_hpc.models import BASE, MODELS_FILE, REWARD
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.encoder import make_encoder


def teach(run: Run, shard: Shard) -> None:
    posts = run.table("questions", ["text", "split"]).to_pylist()
    with shard.directory(REWARD) as folder:
        make_encoder(folder, [post["text"] for post in posts if post["split"] == "train"], run.seed("models", REWARD))
    with shard.file(MODELS_FILE) as stream:
        json.dump({BASE: {"sandbox": REWARD}, REWARD: {"sandbox": REWARD}}, stream)
