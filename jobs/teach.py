"""The models that the study starts from: the sandbox's two are made and taught here, others are located."""

from __future__ import annotations

import json

from modpo_hpc.models import locate_model, source_file
from modpo_hpc.run import Run, Shard
from modpo_hpc.sandbox.encoder import make_encoder
from modpo_hpc.sandbox.language_model import teach_language_model
from modpo_hpc.stages.texts import BASE, REWARD, SANDBOX
from modpo_hpc.training import TrainingContext


def teach(run: Run, shard: Shard) -> None:
    """Make DIR/models/base or DIR/models/reward (sandbox), or fetch the model named, once for all tasks."""
    role, models = shard.id, run.study.models
    if role == BASE:
        source = _base(run, shard) if models.base == SANDBOX else locate_model(models.base, models.base_revision)
    elif role == REWARD:
        source = (
            _reward(run, shard) if models.reward == SANDBOX else locate_model(models.reward, models.reward_revision)
        )
    else:
        backend = run.study.toxicity.backends[role.partition(".")[2]]
        source = locate_model(backend.model_name, backend.revision)
    with shard.file(source_file(role)) as stream:
        json.dump(source, stream, indent=1)


def _base(run: Run, shard: Shard) -> dict[str, str]:
    with shard.directory(BASE) as folder:
        instruction, steps = run.study.generation.instruction, run.study.models.teach_steps
        context = TrainingContext(shard.scratch, shard.check, shard.progress)
        teach_language_model(folder, _posts(run), instruction, steps, run.seed("models", BASE), context)
    return {"sandbox": BASE}


def _reward(run: Run, shard: Shard) -> dict[str, str]:
    with shard.directory(REWARD) as folder:
        make_encoder(folder, _posts(run), run.seed("models", REWARD))
    return {"sandbox": REWARD}


def _posts(run: Run) -> list[str]:
    table = run.table("questions", ["text", "split"]).to_pylist()
    return [post["text"] for post in table if post["split"] == "train"]


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("models")
