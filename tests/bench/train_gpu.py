"""DPO, MODPO and Joint-Loss DPO at the size of Mistral-7B on one GPU, beside TRL in the same run.

Random weights in bf16, LoRA r=64 on all linear layers, real prompts, responses of 100, 300 and 500 tokens on average.
TRL twice: with its defaults, and at its best (reference computed beforehand, no recomputation of activations, pairs of
like length together, Liger's kernels where they are installed; no reference is timed, TRL's or ours). For six criteria
TRL trains a row for each criterion's pair, which is the arithmetic of a joint loss there. MODPO (two criteria and six)
stands beside TRL's DPO on the same pairs: TRL has no margins of several rewards. With ``--llama-factory PYTHON`` so
does LLaMA-Factory, with its defaults, and without recomputation; it passes the reference in each step. Published
figures for LoRA on one H100 are printed with it; they are of SFT on packed sequences, not of pairs. Figures: seconds a
question, tokens a second (of the shared trees, and as if each pair were read alone), FLOP needed by the model's own
arithmetic and by the convention of 4N a token, peak memory. ``--tiny`` runs the same code on a CPU with a small model,
to see that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.speed import cost_of, peak_flops
from modpo_hpc.methods import Trained
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.methods.modpo import MODPO
from modpo_hpc.study.alignment import Training
from tests.bench import train_parts as parts
from tests.bench.llama_factory import run_llama_factory, version_of
from tests.bench.measuring import machine, tell

CRITERIA, LENGTHS = 6, (100, 300, 500)
METHODS: dict[str, Trained] = {
    "dpo": DPO(criteria={"empathy": 1}),
    **{f"modpo_{count}_criteria": MODPO(criteria=parts.criteria(count)) for count in (2, CRITERIA)},
    "joint_6_criteria": JointDPO(criteria=parts.criteria(CRITERIA)),
}
PUBLISHED = {
    "Qwen2.5-7B": {"tokens_per_second": 14110, "tflops_by_4n_per_second": 423},
    "Llama-3-8B": {"tokens_per_second": 12473, "tflops_by_4n_per_second": 402},
}
"""NVIDIA NeMo AutoModel, LoRA on one H100, sequences packed to 4,096 tokens."""
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


def run_ours(
    policy: Trained, shape: parts.Shape, settings: Training, examples: Sequence[Example], arguments: Any
) -> dict[str, float]:
    """Speed, FLOP use and memory of this project's engine."""
    device = torch.device(arguments.device)
    _forget(device)
    model = parts.adapted_model(shape, settings, arguments.dtype, arguments.device)
    if arguments.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    engine = PlainEngine(model, settings, device)
    ready = parts.with_reference(engine, examples)
    plan = parts.steps_in_order(len(ready), arguments.batch, arguments.micro_batch)

    def step(number: int) -> None:
        parts.train_step(engine, policy, settings, ready, plan[number % len(plan)], RATE)

    seconds = timed(arguments.steps, arguments.warmup, step, device)
    seen = [
        ready[place]
        for number in range(arguments.steps)
        for part in plan[(number + arguments.warmup) % len(plan)].parts[0]
        for place in part
    ]
    cost, peak = cost_of(model), peak_flops(device)
    weights = sum(one.numel() for one in model.parameters())
    flops = sum(cost.training_flops(one.tree) for one in seen)
    return {
        "seconds_a_question": statistics.median(seconds) / arguments.batch,
        "tokens_per_second": sum(one.tree.tokens for one in seen) / sum(seconds),
        "tokens_of_pairs_per_second": sum(map(_tokens_of_pairs, seen)) / sum(seconds),
        "tflops_needed_per_second": flops / sum(seconds) / 1e12,
        "tflops_by_4n_per_second": 4 * weights * sum(one.tree.tokens for one in seen) / sum(seconds) / 1e12,
        **({"model_flop_use": flops / sum(seconds) / peak} if peak else {}),
        **_memory(device),
    }


def _view(policy: Trained, example: Example) -> Example:
    """What the policy's loss is taken over, with rewards of its own margin criteria alone."""
    view = policy.training_view(example)
    return replace(view, rewards=tuple(row[: len(policy.margin_criteria)] for row in view.rewards))


def _tokens_of_pairs(example: Example) -> int:
    """Tokens of an example where each pair is two sequences of their own, as TRL reads them."""
    read = [place for pair in example.pairs if pair is not None for place in pair]
    return sum(len(example.tree.prompt) + len(example.tree.responses[place]) for place in read)


def run_trl(
    shape: parts.Shape, settings: Training, examples: Sequence[Example], arguments: Any, **changes: Any
) -> dict[str, float]:
    """Speed and memory of TRL on the same pairs; ``changes`` are departures from its defaults."""
    device = torch.device(arguments.device)
    _forget(device)
    count = arguments.batch * (arguments.steps + arguments.warmup)
    pairs = [examples[number % len(examples)] for number in range(count)]
    rows = len(examples[0].pairs)
    with tempfile.TemporaryDirectory() as folder:
        trainer = parts.trl_trainer(
            shape,
            settings,
            pairs,
            Path(folder),
            arguments.dtype,
            arguments.device,
            per_device_train_batch_size=arguments.micro_batch,
            gradient_accumulation_steps=rows * arguments.batch // arguments.micro_batch,
            learning_rate=RATE,
            **changes,
        )
        ends = _record_step_ends(trainer, device)
        trainer.train()
    seconds = [after - before for before, after in pairwise(ends)][arguments.warmup - 1 :]
    return {"seconds_a_question": statistics.median(seconds) / arguments.batch, **_memory(device)}


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
    parser.add_argument("--tokens", type=int, nargs="+", default=LENGTHS, help="mean lengths of a response")
    parser.add_argument("--llama-factory", type=Path, metavar="PYTHON", help="a Python that has LLaMA-Factory")
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
    liger = importlib.util.find_spec("liger_kernel") is not None and not arguments.tiny
    best = {"precompute_ref_log_probs": True, "gradient_checkpointing": False, "use_liger_kernel": liger}
    trl = partial(run_trl, shape, settings, arguments=arguments)
    peers: dict[str, Callable[..., dict[str, float]]] = {"trl_defaults": trl, "trl_at_its_best": partial(trl, **best)}
    versions = {"trl": version("trl")}
    if python := arguments.llama_factory:
        versions["llama_factory"] = version_of(python)
        without = {"disable_gradient_checkpointing": True, "enable_liger_kernel": liger}
        llama_factory = partial(run_llama_factory, python, shape, settings, arguments=arguments)
        peers["llama_factory_defaults"] = llama_factory
        peers["llama_factory_at_its_best"] = partial(llama_factory, **without)
    measured: dict[str, dict[str, dict[str, float]]] = {}
    of_pairs: dict[int, dict[str, dict[str, float]]] = {}
    for tokens in arguments.tokens:
        drawn = parts.make_examples(arguments.batch * 4, CRITERIA, tokens=tokens)
        for name, policy in METHODS.items():
            examples = sorted((_view(policy, one) for one in drawn), key=_tokens_of_pairs)
            with_margins = policy.margin_criteria and tokens in of_pairs
            beside = of_pairs[tokens] if with_margins else {peer: run(examples) for peer, run in peers.items()}
            of_pairs.setdefault(tokens, beside)
            found = {"ours": run_ours(policy, shape, settings, examples, arguments), **beside}
            measured[f"{name}, {tokens} tokens"] = found
            print(json.dumps({f"{name}, {tokens} tokens": found}), flush=True)
    ratios = {
        f"{case}, against {peer}": found[peer]["seconds_a_question"] / found["ours"]["seconds_a_question"]
        for case, found in measured.items()
        for peer in peers
    }
    told = {"published": PUBLISHED, "liger": liger, "versions": versions, "tiny": arguments.tiny}
    tell("train-gpu", ratios=ratios, **measured, **told, machine=machine())


if __name__ == "__main__":
    main()
