"""Texts over HTTP: an engine for any OpenAI-compatible chat endpoint, a server of our own or a remote one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.generation.records import Completion, GenerationRequest
from modpo_hpc.llm.budget import Budget, Unlimited, limits_of
from modpo_hpc.llm.chat import ChatApi, ChatPayload
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.client import Client, Finished, PendingCall
from modpo_hpc.llm.endpoints import Address, FixedAddress, check_connection
from modpo_hpc.llm.ledger import KEY_BYTES, Entry, Ledger
from modpo_hpc.llm.outcomes import Answered, Refused
from modpo_hpc.llm.pool import ThreadPool
from modpo_hpc.llm.store import Known, Store
from modpo_hpc.prompts import INSTRUCTION, answering_messages
from modpo_hpc.study.endpoint import Endpoint
from modpo_hpc.study.generation import RemoteModel, Sampling

LOCAL = Endpoint(timeout_seconds=600, api_key_env="")
"""How a server of our own is asked."""


@dataclass(eq=False)
class ChatEngine:
    """Texts from a chat endpoint, ``settings.window`` requests at once, each retried on its own.

    Args:
        address: where requests go.
        model: model name in requests.
        sampling: temperature, top_p, length limit.
        settings: requests at once, patience, price and limits; those of a server of our own if not given.
        folder: of the ledger that keeps the answers and the budget; without it they are the caller's alone.
        length_parameter: what the endpoint calls the length limit.
        send_seed: whether it takes a seed. A server that batches requests does not repeat itself to the last bit
            even so: the resumed shard keeps what it has, and makes the rest anew.
        instruction: what the model is told before each question.
        check: called every second; raises when the work is to stop.
        control: what the tokenizer of the model takes for control, where it is known, besides common strings.
    """

    has_queue = True

    address: Address
    model: str
    sampling: Sampling
    settings: Endpoint = LOCAL
    folder: Path | None = None
    length_parameter: str = "max_tokens"
    send_seed: bool = True
    instruction: str = INSTRUCTION
    check: Callable[[], None] = lambda: None
    control: tuple[str, ...] = ()

    def complete(
        self,
        requests: Sequence[GenerationRequest],
        on_done: Callable[[int], None] = lambda done: None,
        on_text: Callable[[Completion], None] = lambda text: None,
    ) -> list[Completion]:
        """Completions in the order of ``requests``; ``on_text`` gets each as it comes.

        Raises:
            ModpoError: the endpoint refuses a request, or keeps failing; its own words are in the message.
        """
        top_p = {"top_p": self.sampling.top_p} if self.sampling.top_p < 1 else {}
        api = ChatApi(
            self.model,
            self.sampling.max_tokens,
            {"temperature": self.sampling.temperature, **top_p},
            "none",
            self.length_parameter,
            self.settings.price,
            self.settings.api_key_env,
            "generation.remote",
            keeps_filtered=True,
        )
        with closing(ThreadPool(self.address, self.settings.timeout_seconds)) as pool:
            if self.folder is None:
                queue = AnswerQueue(requests, self._payload, api, None, on_done, on_text)
                Client(queue, api, self.settings, pool, Unlimited(), self.check).run()
            else:
                limits = limits_of(self.settings, self.model)
                store = Store(Ledger(self.folder), Claims(self.folder))
                with store, closing(Budget(self.folder, limits)) as budget:
                    queue = AnswerQueue(requests, self._payload, api, store, on_done, on_text, self.settings.base_url)
                    Client(queue, api, self.settings, pool, budget, self.check, store.renew).run()
        return [queue.completions[request.id] for request in requests]

    def _payload(self, request: GenerationRequest) -> ChatPayload:
        messages = answering_messages(request.question, self.instruction, self.control)
        return ChatPayload(tuple(messages), None, {"seed": request.seed % 2**31} if self.send_seed else {})


class AnswerQueue:
    """The texts to be made, and those that are. With a ``store``, what was paid for once is not asked again."""

    def __init__(
        self,
        requests: Sequence[GenerationRequest],
        payload: Callable[[GenerationRequest], ChatPayload],
        api: ChatApi,
        store: Store | None,
        on_done: Callable[[int], None],
        on_text: Callable[[Completion], None],
        place: str = "",
    ) -> None:
        self._api, self._store, self._on_done, self._on_text = api, store, on_done, on_text
        self.completions: dict[str, Completion] = {}
        self._requests: dict[bytes, GenerationRequest] = {}
        self._calls: dict[bytes, PendingCall] = {}
        for number, request in enumerate(requests):
            asked = payload(request)
            key = _key(api, place, request.id, asked)
            self._requests[key] = request
            self._calls[key] = PendingCall(api.call(number, key, asked))
        known = store.look_up(list(self._calls)) if store else Known({}, {*self._calls})
        for key, entry in known.entries.items():
            self._known(key, entry)
        self._ready = [one for key, one in reversed(self._calls.items()) if key in known.ours]
        self._elsewhere = {*self._calls} - {*known.ours, *known.entries}

    @property
    def left(self) -> int:
        return len(self._requests) - len(self.completions)

    def next(self) -> PendingCall | None:
        """The next call; None if there is none now."""
        wanting = not self._ready and self._elsewhere
        if wanting and self._store and (known := self._store.look_again(list(self._elsewhere))):
            for key, entry in known.entries.items():
                self._known(key, entry)
            self._ready += [self._calls[key] for key in known.ours]
            self._elsewhere -= {*known.entries, *known.ours}
        return self._ready.pop() if self._ready else None

    def is_finished(self) -> bool:
        """Whether nothing will have to be asked any more."""
        return not self._ready and not self._elsewhere

    def finished(self, calls: Sequence[Finished]) -> None:
        """Keep the texts.

        Raises:
            ModpoError: the endpoint refused a request, or does not say why a text ends.
        """
        made = [(one, self._completion(one.call.key, outcome), outcome) for one, outcome in calls]
        if self._store:
            self._store.append([one.entry(outcome, self._api.model, "answer") for one, _, outcome in made])
        for _, completion, _ in made:
            self._made(completion)

    def given_up(self, call: PendingCall, reason: str) -> None:
        """There will be no text."""
        name = self._requests[call.call.key].id
        raise ModpoError(f"no text for {name}: {reason}")

    def _known(self, key: bytes, entry: Entry) -> None:
        answer = Answered(entry.answer or "", entry.finish, entry.usage, entry.judge)
        self._made(self._completion(key, answer))

    def _made(self, completion: Completion) -> None:
        self.completions[completion.id] = completion
        self._on_text(completion)
        self._on_done(len(self.completions))

    def _completion(self, key: bytes, outcome: Answered | Refused) -> Completion:
        name = self._requests[key].id
        if isinstance(outcome, Refused):
            raise ModpoError(f"the endpoint refuses the request for {name} to {self._api.model}: {outcome.reason}")
        return completion_of(name, outcome)


def completion_of(request_id: str, answer: Answered) -> Completion:
    """The completion in an answer.

    Raises:
        ModpoError: it does not say why the text ends.
    """
    if answer.finish not in ("stop", "length", "content_filter"):
        raise ModpoError(f"the answer for {request_id} does not say why it ends (finish_reason {answer.finish!r})")
    tokens = answer.usage.written if answer.usage else 0
    return Completion(request_id, answer.text.strip(), tokens, answer.finish)  # type: ignore[arg-type]


@contextmanager
def remote_engine(
    policy: str,
    endpoint: RemoteModel,
    sampling: Sampling,
    folder: Path,
    instruction: str = INSTRUCTION,
    check: Callable[[], None] = lambda: None,
) -> Iterator[ChatEngine]:
    """An engine for the endpoint of a policy of method ``remote``; ``folder`` is that of the ledger.

    Raises:
        InputError: the environment holds no key, or nobody answers at the address.
    """
    if not os.environ.get(endpoint.api_key_env, ""):
        raise InputError(
            "the endpoint's key is not in the environment",
            field=f"generation.remote.{policy}.api_key_env",
            value=endpoint.api_key_env,
            remedy=f"Set it for the jobs too, without writing it down: export {endpoint.api_key_env}=...",
        )
    check_connection(endpoint.base_url, f"generation.remote.{policy}.base_url")
    yield ChatEngine(
        FixedAddress(endpoint.base_url),
        endpoint.model,
        sampling,
        endpoint,
        folder,
        endpoint.length_parameter,
        endpoint.send_seed,
        instruction,
        check,
    )


def _key(api: ChatApi, place: str, request_id: str, asked: ChatPayload) -> bytes:
    identity = {
        "answer": [api.model, place, api.max_tokens, dict(api.sampling), dict(asked.more), list(asked.messages)],
        "id": request_id,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()[:KEY_BYTES]
