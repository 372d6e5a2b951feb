"""Train one policy of a study: gather its examples, fill in the reference, run the loop, write the adapter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from modpo_hpc.alignment.adapter import Adapter, save_adapter
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.evaluation import gradient_cosines
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.loading import layout_of, make_engine
from modpo_hpc.alignment.material import Material, gather_material, reasons
from modpo_hpc.alignment.processes import ALONE, join_processes, rank_of
from modpo_hpc.alignment.reference import ReferenceCache, fill_reference, model_key
from modpo_hpc.alignment.speed import SpeedMeter, cost_of, peak_flops
from modpo_hpc.alignment.tracking import require_trackers, tracked
from modpo_hpc.alignment.training import PolicyLearner
from modpo_hpc.alignment.verification import choose_attention, verify_tree_scoring
from modpo_hpc.device import compute_device
from modpo_hpc.methods import Diagnosis
from modpo_hpc.models import base_model_path
from modpo_hpc.quantization import precision_name
from modpo_hpc.resident import kept
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training
from modpo_hpc.training import OnEvaluation, Position, Watch, nothing, train
from modpo_hpc.training.checkpoint import refuse_unresumable

CACHE = "cache"


@dataclass(frozen=True)
class Aligned:
    """A trained policy: the weights of its adapter, where training ended, what its method leaves of it, a summary."""

    weights: dict[str, Tensor]
    position: Position
    adapters: dict[str, Adapter]
    summary: dict[str, Any]


def align_policy(
    run: Run,
    policy: str,
    settings: Training,
    scratch: Path,
    watch: Watch,
    on_evaluation: OnEvaluation = nothing,
) -> Aligned:
    """Train ``policy``, from the newest checkpoint in ``scratch`` if there is one.

    Under several processes every process calls this, and all return the same.

    Raises:
        InputError: nothing to train on, a checkpoint that cannot be resumed, settings that do not fit the model.
        Interrupted: asked to stop; the state is in ``scratch``.
        ModpoError: the loss is no number.
    """
    process = rank_of(os.environ) or ALONE
    checkpoints = scratch / "checkpoints"
    require_trackers(settings.track)
    refuse_unresumable(checkpoints, layout_of(settings, run.study.models, process))
    material = gather_material(run, policy, settings)
    seed = run.seed("policies", policy)
    alone = process.world_size == 1 and settings.deepspeed is None
    device = compute_device() if alone else join_processes(process, settings.deepspeed is not None)
    engine = make_engine(run, material.policy, settings, seed, process, device)
    examples = (*material.training, *material.held_out)
    if found := choose_attention(engine, examples):
        print(f"attention along trees: {found}", file=sys.stderr, flush=True)
    verify_tree_scoring(engine, examples, run.study.models.base)
    cache = reference_cache(run)
    fill_reference(engine, cache, [one.tree for one in examples], watch)
    training, held_out = (
        [replace(example, reference=cache[example.tree]) for example in part]
        for part in (material.training, material.held_out)
    )
    held_out = [material.policy.evaluation_view(example) for example in held_out]
    diagnosis = material.policy.diagnose(policy, training, settings)
    if engine.rank == 0:
        for line in diagnosis.lines:
            print(line, file=sys.stderr, flush=True)
    views = [material.policy.training_view(example) for example in training]
    kinds = settings.track if engine.rank == 0 else ()
    with tracked(kinds, run.logs / "tracking" / scratch.name, scratch.name, settings.model_dump()) as on_row:
        meter = SpeedMeter(cost_of(engine.adapted), peak_flops(engine.device), engine.layout.processes)
        learner = PolicyLearner(engine, material.policy, settings, views, held_out, seed, meter, material.objectives)
        position = train(
            learner,
            len(learner.plan),
            checkpoints,
            watch,
            checkpoint_seconds=settings.checkpoint_seconds,
            patience=settings.patience,
            on_evaluation=on_evaluation,
            on_row=on_row,
        )
    weights = learner.best or engine.weights()
    summary = _summary(run, policy, settings, material, views, position, len(learner.plan), diagnosis)
    if settings.gradient_cosine and isinstance(engine, PlainEngine):
        material.policy.set_up(engine.adapted)
        summary["gradient_cosine"] = gradient_cosines(engine, material.policy, settings, held_out)
    return Aligned(weights, position, material.policy.adapters(engine.adapted, weights), summary)


def write_policy(folder: Path, aligned: Aligned) -> None:
    """Fill ``folder``: ``adapter/`` for PEFT and servers, ``log.jsonl``, ``summary.json``. No clock is in them."""
    for name, (weights, config) in aligned.adapters.items():
        save_adapter(folder / name, weights, config)
    rows = "".join(json.dumps(row, sort_keys=True) + "\n" for row in aligned.position.log)
    (folder / "log.jsonl").write_text(rows, encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(aligned.summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def reference_cache(run: Run) -> ReferenceCache:
    """The log-probs of this run's base model, in ``DIR/cache/reference``."""
    folder, model = run.root / CACHE / "reference", base_model_path(run)
    precision = precision_name(run.study.models)
    return kept(
        ("reference", folder, model, precision),
        lambda: ReferenceCache(folder / model_key(model, precision, folder / "files")),
    )


def _summary(
    run: Run,
    policy: str,
    settings: Training,
    material: Material,
    views: Sequence[Example],
    position: Position,
    steps: int,
    diagnosis: Diagnosis,
) -> dict[str, Any]:
    models, measured = run.study.models, position.evaluations
    return {
        "policy": policy,
        "method": material.policy.method,
        "weights": material.policy.criteria,
        "base": {"model": models.base, "revision": models.base_revision, "precision": precision_name(models)},
        "settings": settings.model_dump(mode="json"),
        "steps": position.step,
        "steps_planned": steps,
        "stopped_early": position.stopped_early,
        "best_step": position.best_step if measured else None,
        "examples": {
            "training": len(material.training),
            "held_out": len(material.held_out),
            "dropped": len(material.dropped),
        },
        "dropped": {"reasons": reasons(material.dropped), "questions": [asdict(one) for one in material.dropped]},
        "tokens": {
            "an_epoch": sum(view.tree.tokens for view in views),
            # of the same pairs as one padless sequence for each response of each pair
            "an_epoch_as_separate_sequences": sum(
                len(view.tree.prompt) + len(view.tree.responses[place])
                for view in views
                for pair in view.pairs
                for place in dict.fromkeys(pair or ())
            ),
            "padding": 0,
        },
        **{"margins": None, **diagnosis.figures},
        "held_out": measured[-1] if measured else None,
        "sandbox": run.sandbox_mark is not None,
    }
