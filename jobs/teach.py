"""The models that the study starts from: the sandbox's two are made and taught here, others are located."""

from __future__ import annotations

import json

from modpo_hpc.models import locate_model, source_file
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.sandbox.language_model import teach_language_model
from modpo_hpc.stages.texts import BASE, REWARD, SANDBOX, model_of
from modpo_hpc.training import TrainingContext


def teach(run: Run, shard: Shard) -> None:
    """Make DIR/models/base or DIR/models/reward (sandbox), or fetch the model named, once for all tasks."""
    role = shard.id
    name, revision = model_of(run.study, role)
    if name == SANDBOX and role in (BASE, REWARD):
        _make(run, shard)
        source = {"sandbox": role}
    else:
        source = locate_model(name, revision)
    with shard.file(source_file(role)) as stream:
        json.dump(source, stream, indent=1)


def _make(run: Run, shard: Shard) -> None:
    table, seed = run.table("questions", ["text", "split"]).to_pylist(), run.seed("models", shard.id)
    posts = [post["text"] for post in table if post["split"] == "train"]
    with shard.directory(shard.id) as folder:
        if shard.id == REWARD:
            make_encoder(folder, posts, seed)
        else:
            instruction, steps = run.study.generation.instruction, run.study.models.teach_steps
            context = TrainingContext(shard.scratch, shard.check, shard.progress)
            teach_language_model(folder, posts, instruction, steps, seed, context)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("models")
