"""The engine that decodes in this process, with a model of transformers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from modpo_hpc.generation.decode import Continuation, Prompt, decode
from modpo_hpc.generation.records import Completion, GenerationRequest
from modpo_hpc.prompts import INSTRUCTION, answering_prompt
from modpo_hpc.study.generation import Sampling

log = logging.getLogger(__name__)


class TransformersEngine:
    """Texts from a model of transformers in this process.

    Args:
        model: a causal language model in evaluation mode, on its device.
        tokenizer: its tokenizer, with a chat template.
        sampling: temperature, length limit, and the most rows to decode at once.
        instruction: what the model is told before each question.
    """

    has_queue = False

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling, instruction: str = INSTRUCTION) -> None:
        self.model, self.tokenizer, self.sampling, self.instruction = model, tokenizer, sampling, instruction
        self.end_tokens = end_tokens(model, tokenizer)
        self.rows_at_once = sampling.batch_size

    def complete(
        self,
        requests: Sequence[GenerationRequest],
        on_done: Callable[[int], None] = lambda done: None,
        on_text: Callable[[Completion], None] = lambda text: None,
    ) -> list[Completion]:
        """Completions in the order of ``requests``, which ``on_text`` gets when the last is made.

        When the device has no memory for ``rows_at_once`` rows, the group starts again with half as many; the
        engine then stays with the smaller number.

        Raises:
            torch.OutOfMemoryError: not even one row fits.
        """
        import torch

        prompts = [
            Prompt(tuple(answering_prompt(self.tokenizer, one.question, self.instruction)), one.seed)
            for one in requests
        ]
        while True:
            try:
                made = decode(self.model, prompts, self.sampling, self.end_tokens, self.rows_at_once, on_done)
                break
            except torch.OutOfMemoryError:
                if self.rows_at_once == 1:
                    raise
            self.rows_at_once //= 2
            torch.cuda.empty_cache()
            log.warning("out of memory: going on with %d rows at once", self.rows_at_once)
        texts = [self._completion(request, one) for request, one in zip(requests, made, strict=True)]
        for one in texts:
            on_text(one)
        return texts

    def _completion(self, request: GenerationRequest, made: Continuation) -> Completion:
        text = self.tokenizer.decode(made.tokens, skip_special_tokens=True).strip()
        return Completion(request.id, text, len(made.tokens), made.finish_reason)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a text: the tokenizer's and those of the model's generation settings."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
    return sorted(one for one in found if one is not None)
