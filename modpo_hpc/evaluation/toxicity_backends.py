"""The backends of toxicity, by the kind that the study names."""

from __future__ import annotations

from collections.abc import Callable

from modpo_hpc.evaluation.toxicity import Assessor
from modpo_hpc.evaluation.toxicity_models import Citizen, Classifier
from modpo_hpc.evaluation.toxicity_perspective import Perspective
from modpo_hpc.evaluation.toxicity_words import Words
from modpo_hpc.models import auxiliary_model_path
from modpo_hpc.run import Run
from modpo_hpc.stages.texts import TOXICITY_MODEL
from modpo_hpc.study.toxicity import ToxicityBackend


def backend_of(run: Run, name: str) -> ToxicityBackend:
    """The settings of the backend ``name``, with the model that the stage ``models`` has fetched for it."""
    settings = run.study.toxicity.backends[name]
    fetched = auxiliary_model_path(run, f"{TOXICITY_MODEL}.{name}") if settings.has_model else None
    return settings if fetched is None else settings.model_copy(update={"model": fetched, "revision": None})


def assessor_of(settings: ToxicityBackend, threshold: float, run: Run, check: Callable[[], None]) -> Assessor:
    """The backend of ``settings``, its model loaded; one that waits for an API calls ``check`` in the meantime.

    Raises:
        InputError: no key, no such model, or a model whose labels do not say which of them means toxic.
    """
    if settings.kind == "words":
        return Words(threshold)
    if settings.kind == "perspective":
        return Perspective.from_environment(settings, threshold, run.folder("toxicity"), check)
    if settings.kind == "citizen":
        return Citizen.load(settings)
    return Classifier.load(settings, threshold)
