"""Section of the study on toxicity: who looks for it in the answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from modpo_hpc.section import ModelName, Section

DEFAULT_MODEL = {"citizen": "modelcitizens/LLAMACITIZEN-8B", "classifier": "unitary/toxic-bert"}


class ToxicityBackend(Section):
    """One way to assess an answer.

    ``words`` is the sandbox's list of harsh phrases; ``perspective`` Google's API (key in PERSPECTIVE_API_KEY);
    ``citizen`` a language model that says YES or NO, prompted as in the ModelCitizens benchmark; ``classifier`` any
    text-classification model of the hub.
    """

    kind: Literal["words", "perspective", "citizen", "classifier"]
    model: ModelName | None = Field(None, description="citizen, classifier: name on the hub or folder")
    revision: str | None = None
    toxic_labels: tuple[str, ...] = Field((), description="classifier: labels that mean toxic; found by name if empty")
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(16, ge=1)
    max_tokens: int = Field(128, ge=1, description="citizen: length of its answer")
    requests_per_second: float = Field(1.0, gt=0, description="perspective: the quota of the key, over all workers")
    base_url: str = Field("https://commentanalyzer.googleapis.com", description="perspective: where the API is")

    @property
    def has_model(self) -> bool:
        """Whether this kind loads a model."""
        return self.kind in DEFAULT_MODEL

    @property
    def model_name(self) -> str:
        """The model to load, or the default one of this kind."""
        return self.model or DEFAULT_MODEL[self.kind]

    @model_validator(mode="after")
    def _fitting(self) -> ToxicityBackend:
        if self.model and not self.has_model:
            raise ValueError(f"kind {self.kind} takes no model")
        return self


class Toxicity(Section):
    """Toxicity of the answers. Without backends none is measured."""

    backends: dict[str, ToxicityBackend] = Field(default_factory=dict, description="name -> how it assesses")
    threshold: float = Field(0.5, gt=0, lt=1, description="a score above it counts as toxic")

    @field_validator("backends")
    @classmethod
    def _plain_names(cls, backends: dict[str, ToxicityBackend]) -> dict[str, ToxicityBackend]:
        for name in backends:
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"the name {name!r} may hold letters, digits, '_' and '-' only")
        return backends
