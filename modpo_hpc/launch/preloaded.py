"""What the local executor's fork server imports once, so that no shard has to: the recipes and what they use.

A module that cannot be imported is left to the shard that needs it, whose log then says why.
"""

from __future__ import annotations

import gc
import importlib
from contextlib import suppress

from modpo_hpc.launch.entry import recipe
from modpo_hpc.pipeline import STAGES

# what transformers imports only when a model is loaded, and the architectures of the sandbox
_LATER = (
    "transformers.modeling_layers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.roberta.modeling_roberta",
)

for stage in STAGES:
    if stage.uses_models:
        with suppress(Exception):
            recipe(stage)
for name in _LATER:
    with suppress(Exception):
        importlib.import_module(name)
# nothing here is garbage: a shard's collector need not look at it, nor copy the pages that it would write to
gc.collect()
gc.freeze()
