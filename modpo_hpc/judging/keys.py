"""Keys of the ledger: a hash over all that can change an answer, and over nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from modpo_hpc import prompts
from modpo_hpc.control_strings import broken
from modpo_hpc.judging.tasks import JudgeRequest, answer_schema
from modpo_hpc.llm.ledger import KEY_BYTES


class Keys:
    """Keys for the requests to one judge.

    Args:
        identity: what can change an answer besides the prompt and the schema: model, snapshot, sampling, version.
        order: how the prompt is laid out.
        scene: what the judge is told of the replies.
        control: strings that the judge's tokenizer takes for control, besides those that ``prompts`` knows.
    """

    def __init__(
        self,
        identity: Mapping[str, Any],
        order: prompts.JudgingOrder = "shared_prefix",
        scene: str = prompts.SCENE,
        control: tuple[str, ...] = (),
    ) -> None:
        self._identity = json.dumps(identity, sort_keys=True)
        self._order, self._scene, self._control = order, scene, control
        self._form: tuple[Any, str] | None = None
        self._prefix: tuple[str, str, Any] | None = None

    def prompt(self, request: JudgeRequest) -> str:
        """The text that the judge reads."""
        return "".join(self._parts(request))

    def harmless(self, text: str) -> str:
        """``text`` of which the judge's tokenizer makes no control tokens."""
        return broken(text, self._control)

    def key(self, request: JudgeRequest) -> bytes:
        """The key of the answer to ``request``."""
        first, rest = self._parts(request)
        form = self._form_of(request)
        if self._prefix is None or self._prefix[:2] != (first, form):
            self._prefix = (first, form, hashlib.sha256(_bytes(f"{form}\x1f{first}")))
        hasher = self._prefix[2].copy()
        hasher.update(_bytes(rest))
        key = bytes(hasher.digest()[:KEY_BYTES])
        if not request.sample:
            return key
        return hashlib.sha256(_bytes(f"sample\x1f{request.sample}\x1f{key.hex()}")).digest()[:KEY_BYTES]

    def repair_key(self, first: bytes, answer: str, problem: str) -> bytes:
        """The key of a second attempt, which depends on the first one's key and answer and on what it is told."""
        text = f"repair\x1f{first.hex()}\x1f{answer}\x1f{problem}"
        return hashlib.sha256(_bytes(text)).digest()[:KEY_BYTES]

    def _parts(self, request: JudgeRequest) -> tuple[str, str]:
        return prompts.judging_prompt(
            request.task,
            self.harmless(request.persona.text),
            request.criteria,
            self.harmless(request.question),
            tuple(self.harmless(text) for text in request.shown) if self._control else request.shown,
            self._order,
            self._scene,
        )

    def _form_of(self, request: JudgeRequest) -> str:
        form = (request.task, len(request.shown), request.criteria)
        if self._form is None or self._form[0] != form:
            self._form = (form, f"{self._identity}\x1f{json.dumps(answer_schema(request), sort_keys=True)}")
        return self._form[1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
