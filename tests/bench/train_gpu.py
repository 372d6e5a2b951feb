"""DPO at the size of Mistral-7B on one GPU: tokens a second, model FLOP use, memory, and TRL in the same run.

Random weights in bf16, LoRA r=64 on all linear layers, real prompts. ``--tiny`` runs the same code on a CPU with a
small model, to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.speed import cost_of, peak_flops
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.study.alignment import Training
from tests.bench import train_parts as parts

POLICY = DPO(criteria={"empathy": 1})
RATE = 1e-5
SMALL = parts.Shape(64, 128, 2, 4, 2, parts.TINY.vocabulary)


def timed(steps: int, warmup: int, step: Callable[[int], Any], device: torch.device) -> list[float]:
    """Seconds of each step after the first ``warmup``."""
    seconds = []
    for number in range(steps + warmup):
        _wait(device)
        start = time.perf_counter()
        step(number)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds[warmup:]


def run_ours(shape: parts.Shape, settings: Training, examples: Sequence[Example], arguments: Any) -> dict[str, float]:
    """Speed, FLOP use and memory of this project's engine."""
    device = torch.device(arguments.device)
    _forget(device)
    model = parts.adapted_model(shape, settings, arguments.dtype, arguments.device)
    if arguments.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    engine = PlainEngine(model, settings, device)
    ready = parts.with_reference(engine, [POLICY.training_view(one) for one in examples])
    plan = parts.steps_in_order(len(ready), arguments.batch, arguments.micro_batch)

    def step(number: int) -> None:
        parts.train_step(engine, POLICY, settings, ready, plan[number % len(plan)], RATE)

    seconds = timed(arguments.steps, arguments.warmup, step, device)
    trees = [
        [ready[place].tree for part in plan[(number + arguments.warmup) % len(plan)].parts[0] for place in part]
        for number in range(arguments.steps)
    ]
    cost, peak = cost_of(model), peak_flops(device)
    tokens = sum(tree.tokens for batch in trees for tree in batch)
    flops = sum(cost.training_flops(tree) for batch in trees for tree in batch)
    return {
        "seconds_a_step": statistics.median(seconds),
        "tokens_per_second": tokens / sum(seconds),
        "tflops_needed_per_second": flops / sum(seconds) / 1e12,
        **({"model_flop_use": flops / sum(seconds) / peak} if peak else {}),
        **_memory(device),
    }


def run_trl(shape: parts.Shape, settings: Training, examples: Sequence[Example], arguments: Any) -> dict[str, float]:
    """Speed and memory of TRL with its defaults, on the same pairs."""
    device = torch.device(arguments.device)
    _forget(device)
    count = arguments.batch * (arguments.steps + arguments.warmup)
    pairs = [examples[number % len(examples)] for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = parts.trl_trainer(
            shape,
            settings,
            pairs,
            Path(folder),
            arguments.dtype,
            arguments.device,
            per_device_train_batch_size=arguments.micro_batch,
            gradient_accumulation_steps=arguments.batch // arguments.micro_batch,
            learning_rate=RATE,
        )
        ends = _record_step_ends(trainer, device)
        trainer.train()
    seconds = [after - before for before, after in pairwise(ends)][arguments.warmup - 1 :]
    return {"seconds_a_step": statistics.median(seconds), **_memory(device)}


def _record_step_ends(trainer: Any, device: torch.device) -> list[float]:
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            _wait(device)
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    return ends


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _memory(device: torch.device) -> dict[str, float]:
    return {"peak_gib": torch.cuda.max_memory_allocated(device) / 2**30} if device.type == "cuda" else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small model on the CPU, to see that the code runs")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in our engine, too")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        raise SystemExit("this needs one GPU of 80 GB; --tiny runs the code on a CPU")
    arguments.device = "cpu" if arguments.tiny else "cuda"
    arguments.dtype = torch.float32 if arguments.tiny else torch.bfloat16
    if arguments.tiny:
        torch.set_num_threads(1)
    shape = SMALL if arguments.tiny else parts.MISTRAL_7B
    settings = Training(lora_rank=64, lora_alpha=128, learning_rate=RATE)
    examples = parts.make_examples(arguments.batch * 4, 1)
    measured = {"ours": run_ours(shape, settings, examples, arguments)}
    measured["trl_defaults"] = run_trl(shape, settings, examples, arguments)
    result = {
        "name": "train-gpu",
        "ratios": {"vs_trl_defaults": measured["trl_defaults"]["seconds_a_step"] / measured["ours"]["seconds_a_step"]},
        **measured,
        "tiny": arguments.tiny,
        "machine": parts.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
