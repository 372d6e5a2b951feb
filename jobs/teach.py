"""The models that the study starts from: the sandbox's two are made and taught here, others are located."""

from __future__ import annotations

import json

from modpo_hpc.models import BASE, MODELS_FILE, REWARD, SANDBOX, TOXICITY_MODEL, locate_model
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.sandbox.language_model import teach_language_model


def teach(run: Run, shard: Shard) -> None:
    """Make DIR/models/base and DIR/models/reward (sandbox), or fetch the models named, once for all tasks."""
    models = run.study.models
    posts = run.table("questions", ["text", "split"]).to_pylist()
    training_posts = [post["text"] for post in posts if post["split"] == "train"]
    sources = {}
    if models.base == SANDBOX:
        with shard.directory(BASE) as folder:
            instruction, seed = run.study.generation.instruction, run.seed("models", BASE)
            teach_language_model(folder, training_posts, instruction, models.teach_steps, seed, shard)
        sources[BASE] = {"sandbox": BASE}
    else:
        sources[BASE] = locate_model(models.base, models.base_revision)
    if models.reward == SANDBOX:
        with shard.directory(REWARD) as folder:
            make_encoder(folder, training_posts, run.seed("models", REWARD))
        sources[REWARD] = {"sandbox": REWARD}
    else:
        sources[REWARD] = locate_model(models.reward, models.reward_revision)
    for name, backend in run.study.toxicity.backends.items():
        if backend.has_model:
            sources[f"{TOXICITY_MODEL}.{name}"] = locate_model(backend.model_name, backend.revision)
    with shard.file(MODELS_FILE) as stream:
        json.dump(sources, stream, indent=1)


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("models")
