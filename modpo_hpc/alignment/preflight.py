"""Whether a study can be trained on this machine's GPU: its own model, its longest pass, its speed.

``python -m modpo_hpc.alignment.preflight STUDY`` prints the findings as JSON; ``modpo doctor --gpu STUDY`` asks for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from modpo_hpc.alignment.adapter import attach_adapter
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.loading import load_base
from modpo_hpc.alignment.passes import DoesNotFit, pass_gradients
from modpo_hpc.alignment.speed import SpeedMeter, cost_of, peak_flops
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.alignment.verification import choose_attention, verify_tree_scoring
from modpo_hpc.device import compute_device, driver, why_no_gpu
from modpo_hpc.errors import ModpoError
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.models import cached_model
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study, load_study
from modpo_hpc.study.alignment import Training

Finding = dict[str, Any]
PROMPT_SHARE = 0.25
STEPS = 3


def examine_gpu(study: Study, device: torch.device | None = None) -> Iterator[Finding]:
    """Findings (name, verdict, words) on training ``study`` here; each as soon as it is known.

    Nothing of the study is read but its settings and its base model: texts are random tokens of the greatest length
    that the study allows. ``device`` is the first GPU unless it is given.
    """
    device = device or compute_device()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        named = f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB"
        yield _finding("GPU", "good", f"{named}; {driver()}; torch {torch.__version__}")
        if torch.cuda.device_count() > 1:
            yield _nccl()
    else:
        yield _finding("GPU", "bad", f"none is seen: {why_no_gpu()}")
    name, revision = study.models.base, study.models.base_revision
    folder = Path(name).expanduser() if Path(name).expanduser().is_dir() else cached_model(name, revision)
    if folder is None:
        yield _finding("base model", "bad", f"{name} is not here yet; fetch it with: modpo doctor --fetch")
        return
    settings = study.alignment.training
    try:
        model = attach_adapter(load_base(str(folder), study.models, settings, device), settings, name, 0)
        engine = PlainEngine(model.to(device), settings, device)
        examples = longest_examples(settings, engine.adapted.get_base_model().config.vocab_size)
        if found := choose_attention(engine, examples):
            yield _finding("attention", "good" if engine.scorer.one_kernel else "note", found)
        gap = verify_tree_scoring(engine, examples, name)
        yield _finding("scoring along a tree", "good", f"as by the model's own forward pass, within {gap:.2g} nats")
        yield from _longest_pass(engine, settings, examples, device)
    except ModpoError as error:
        yield _finding("training", "bad", str(error))


def longest_examples(settings: Training, vocabulary: int) -> list[Example]:
    """As many pairs as a pass holds at most, each of ``max_length`` tokens, of random tokens."""
    prompt = max(1, int(settings.max_length * PROMPT_SHARE))
    pairs = []
    for number in range(min(settings.micro_batch_size, settings.batch_size)):
        rng = rng_of("preflight", number)
        sizes = (prompt, settings.max_length - prompt, settings.max_length - prompt)
        root, *responses = (tuple(rng.integers(0, vocabulary, size=size).tolist()) for size in sizes)
        pairs.append(Example(f"random {number}", Tree(root, tuple(responses)), ("a", "b"), ((0, 1),), (0.0, 0.0)))
    return pairs


def _longest_pass(
    engine: PlainEngine, settings: Training, examples: list[Example], device: torch.device
) -> Iterator[Finding]:
    """A few steps of the longest pass; where it does not fit, of what does."""
    meter = SpeedMeter(cost_of(engine.adapted), peak_flops(device), 1)
    engine.train(True)
    tokens = sum(one.tree.tokens for one in examples)
    speeds: dict[str, float] = {}
    try:
        for number in range(STEPS + 1):
            if number == 1:
                engine.total(torch.zeros(1, device=device)).tolist()
                meter.start()
            pass_gradients(engine, DPO(criteria={"any": 1}), settings, examples, 1.0, last=True)
            engine.step(settings.learning_rate)
        speeds = meter.read([one.tree for one in examples] * STEPS)
    except DoesNotFit as error:
        yield _finding("longest pass", "bad", str(error))
        return
    split = tokens >= engine.too_many_tokens
    peak = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB at most" if device.type == "cuda" else ""
    message = f"{tokens:,} tokens ({len(examples)} pairs of {settings.max_length}){peak}"
    if split:
        fits = int(engine.too_many_tokens) // 2
        message += f"; too many at once. Set alignment.training.pass_tokens to {fits}, "
        message += "and it is not found out in training"
    yield _finding("longest pass", "note" if split else "good", message)
    use = f", {speeds['flop_use']:.0%} of the card's bf16 peak" if "flop_use" in speeds else ""
    speed = speeds["tokens_per_second"]
    message = f"{speed:,.0f} tokens a second{use}; for the profile: speeds.training_tokens_per_second: {speed:.0f}"
    yield {**_finding("speed", "good", message), "speeds": {"training_tokens_per_second": round(speed)}}


def _nccl() -> Finding:
    started = time.monotonic()
    count = torch.cuda.device_count()
    try:
        torch.cuda.nccl.all_reduce([torch.ones(1 << 20, device=f"cuda:{number}") for number in range(count)])
        torch.cuda.synchronize()
    except RuntimeError as error:
        return _finding("NCCL", "bad", f"{count} GPUs do not sum: {error}")
    return _finding("NCCL", "good", f"{count} GPUs sum 4 MiB ({time.monotonic() - started:.1f} s with its start)")


def _finding(name: str, verdict: str, message: str) -> Finding:
    return {"name": name, "verdict": verdict, "message": message}


def main(arguments: list[str]) -> None:
    """Print the findings on the study file ``arguments[0]``, with overrides after it, as one line of JSON."""
    study: Any = load_study(arguments[0], arguments[1:])
    print(json.dumps(list(examine_gpu(study))))


if __name__ == "__main__":
    main(sys.argv[1:])
