"""What every model behind HTTP has in common in the study: where it is, what it costs, how fast it may be asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modpo_hpc.section import Section


class Price(Section):
    """US dollars for a million tokens. ``cached_input`` was read before; without it, it costs like other input.

    ``thinking`` is for plans alone: tokens that the model thinks before an answer, which are billed as output.
    """

    input: float = Field(0.0, ge=0)
    cached_input: float | None = Field(None, ge=0)
    output: float = Field(0.0, ge=0)
    thinking: int = Field(0, ge=0, description="tokens of thought that a plan counts for each call")


class Endpoint(Section):
    """A model behind HTTP. Limits hold for all processes that share a ledger."""

    base_url: str = Field("https://api.openai.com/v1", description="of an OpenAI-compatible endpoint")
    api_key_env: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    window: int = Field(128, ge=1, description="most calls out at once")
    timeout_seconds: float = Field(120.0, gt=0, description="of one call")
    outage_minutes: float = Field(10.0, gt=0, description="time without any answer after which a shard ends")
    unanswered: Literal["fail", "unparsed"] = Field(
        "fail", description="what becomes of a shard in which single calls got no answer after all tries"
    )
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    price: Price = Price()
    max_usd: float | None = Field(None, gt=0, description="spending of the ledger at which no more is asked")

    @model_validator(mode="after")
    def _limit_binds(self) -> Endpoint:
        if self.max_usd is not None and not (self.price.input or self.price.output):
            raise ValueError("max_usd cannot bind without a price; give price.input and price.output, or leave it out")
        return self
