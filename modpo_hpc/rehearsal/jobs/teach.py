"""Stand-in: no model is fetched or taught."""

from __future__ import annotations

import json

from modpo_hpc.models import MODELS_FILE
from modpo_hpc.run import Run, Shard


def teach(run: Run, shard: Shard) -> None:
    with shard.file(MODELS_FILE) as stream:
        json.dump({"stand_in": True}, stream)
