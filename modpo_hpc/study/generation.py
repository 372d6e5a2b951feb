"""Section of the study on text from models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modpo_hpc.prompts import INSTRUCTION
from modpo_hpc.section import Section
from modpo_hpc.study.endpoint import Endpoint
from modpo_hpc.study.serving import Serving

_VLLM = (
    *("vllm", "serve", "{model}", "--served-model-name", "base", "--dtype", "{dtype}"),
    *("--host", "{host}", "--port", "{port}"),
)
_VLLM_ADAPTER = ("--enable-lora", "--max-lora-rank", "{rank}", "--lora-modules", "{policy}={adapter}")


class Sampling(Section):
    """How a model is sampled. ``temperature`` 0 is greedy."""

    temperature: float = Field(0.8, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    batch_size: int = Field(32, ge=1, description="texts decoded at once by the engine transformers")


class Server(Serving):
    """The server that the engine ``server`` starts on each GPU, for as long as a shard runs.

    In all texts below ``{model}`` is the folder of the base model, ``{policy}`` the policy's name, ``{adapter}`` the
    folder of its adapter, ``{adapter_model}`` a folder that loads as the base model with that adapter attached,
    ``{rank}`` the adapter's rank rounded up to a power of two, ``{dtype}`` the study's ``models.dtype``.
    """

    command: tuple[str, ...] = Field(
        _VLLM,
        description="command line; {host} and {port} are filled in at every start",
    )
    adapter_arguments: tuple[str, ...] = Field(
        _VLLM_ADAPTER,
        description="added to the command for a policy with an adapter",
    )
    base_name: str = Field("base", description="model name in requests to the base model")
    requests: int = Field(256, ge=1, description="requests out at each server: as many as vLLM works on by default")
    adapter_name: str = Field("{policy}", description="model name in requests to a policy with an adapter")


class RemoteModel(Endpoint):
    """A model behind an OpenAI-compatible interface elsewhere, for a policy of method ``remote``."""

    model: str = Field(description="model name as the endpoint knows it; a dated snapshot, so that it stays the same")
    length_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    send_seed: bool = True


class Generation(Section):
    """Responses to training questions, and answers to test questions."""

    instruction: str = Field(INSTRUCTION, min_length=1, description="what the model is told before each question")
    engine: Literal["transformers", "server"] = "transformers"
    server: Server = Server()
    remote: dict[str, RemoteModel] = Field(default_factory=dict, description="policy of method remote -> its endpoint")
    responses_per_question: int = Field(5, ge=2)
    responses: Sampling = Sampling()
    answers: Sampling = Sampling()
    common_random_numbers: Literal[True] | None = Field(
        None,
        description="true: all policies draw their answer to a question with the same random numbers, so that they "
        "differ by what the policies are and less by chance",
    )
