"""Engines: what makes texts for requests. One protocol, so that a recipe does not know which it uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from modpo_hpc.generation.decode import Continuation, Prompt, Work, decode
from modpo_hpc.generation.records import Completion, Request
from modpo_hpc.prompts import therapist_prompt
from modpo_hpc.run import Shard
from modpo_hpc.study.generation import Sampling

log = logging.getLogger(__name__)


class Engine(Protocol):
    """Makes a text for every request of a group, in any order of work."""

    def complete(self, requests: Sequence[Request], on_done: Callable[[int], None]) -> list[Completion]:
        """Completions in the order of ``requests``; ``on_done`` hears how many are finished."""
        ...


class TransformersEngine:
    """Texts from a model of transformers in this process.

    Args:
        model: a causal language model in evaluation mode, on its device.
        tokenizer: its tokenizer, with a chat template.
        sampling: temperature, length limit, and the most rows to decode at once.
    """

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling) -> None:
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.end_tokens = end_tokens(model, tokenizer)
        self.rows_at_once = sampling.batch_size
        self.work = Work()

    def complete(
        self, requests: Sequence[Request], on_done: Callable[[int], None] = lambda done: None
    ) -> list[Completion]:
        """Completions in the order of ``requests``.

        When the device has no memory for ``rows_at_once`` rows, the group starts again with half as many; the
        engine then stays with the smaller number.

        Raises:
            torch.OutOfMemoryError: not even one row fits.
        """
        import torch

        prompts = [Prompt(tuple(therapist_prompt(self.tokenizer, one.question)), one.seed) for one in requests]
        while True:
            try:
                made, work = decode(self.model, prompts, self.sampling, self.end_tokens, self.rows_at_once, on_done)
                break
            except torch.OutOfMemoryError:
                if self.rows_at_once == 1:
                    raise
            self.rows_at_once //= 2
            torch.cuda.empty_cache()
            log.warning("out of memory: going on with %d rows at once", self.rows_at_once)
        self.work.positions += work.positions
        self.work.live += work.live
        self.work.steps += work.steps
        return [self._completion(request, one) for request, one in zip(requests, made, strict=True)]

    def _completion(self, request: Request, made: Continuation) -> Completion:
        text = self.tokenizer.decode(made.tokens, skip_special_tokens=True).strip()
        return Completion(request.id, text, len(made.tokens), made.finish_reason)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a text: the tokenizer's and those of the model's generation settings."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
    return sorted(one for one in found if one is not None)


def complete_groups(
    shard: Shard,
    groups: Sequence[Sequence[Request]],
    open_engine: Callable[[], AbstractContextManager[Engine]],
) -> list[tuple[Request, Completion]]:
    """Complete every group of this shard, saving after each; what an earlier attempt saved is not made again.

    The engine is opened only when something is left to make. Returns pairs sorted by question and item.
    """
    total = sum(len(group) for group in groups)
    with shard.journal("completions.jsonl") as journal:
        saved = {row["group"]: row["completions"] for row in journal.rows}
        left = [number for number in range(len(groups)) if number not in saved]
        done = total - sum(len(groups[number]) for number in left)
        shard.progress(done, total, "texts")
        if left:
            with open_engine() as engine:
                for number in left:
                    shard.check()
                    made = engine.complete(groups[number], _report(shard, done, total))
                    saved[number] = [one.as_row() for one in made]
                    journal.append([{"group": number, "completions": saved[number]}])
                    done += len(made)
                    shard.progress(done, total, "texts")
    pairs = [
        (request, Completion(**row))
        for number, group in enumerate(groups)
        for request, row in zip(group, saved[number], strict=True)
    ]
    return sorted(pairs, key=lambda pair: (pair[0].question_id, pair[0].id))


def _report(shard: Shard, before: int, total: int) -> Callable[[int], None]:
    return lambda finished: shard.progress(before + finished, total, "texts")
