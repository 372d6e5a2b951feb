"""What each of two processes does in ``test_processes``: every ZeRO stage, whole and, without dropout, resumed.

``python -m tests.alignment.ranks OUT RUN=LABEL ...`` writes for each run the log and the adapter to OUT.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from modpo_hpc.alignment.policy import align_policy
from modpo_hpc.errors import Interrupted
from modpo_hpc.run import Run

POLICY = "Joint"


class StopAt:
    """A watch that asks to stop at its n-th question, and never without n."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.asked = at, 0

    def progress(self, *_: object, **__: object) -> None:
        pass

    def check(self) -> None:
        self.asked += 1
        if self.asked == self.at:
            raise Interrupted("enough for now")


def main(out: Path, runs: list[str]) -> None:
    torch.set_num_threads(1)
    for entry in runs:
        folder, label = entry.split("=")
        run = Run.open(folder)
        settings = run.study.alignment.training_of(POLICY)
        kinds: dict[str, int | None] = {"whole": None, **({} if settings.lora_dropout else {"resumed": 3})}
        for kind, stops in kinds.items():
            scratch = out / f"{label}.{kind}"
            if stops:
                try:
                    align_policy(run, POLICY, settings, scratch, StopAt(stops))
                    raise AssertionError("it was not interrupted")
                except Interrupted:
                    gc.collect()
            aligned = align_policy(run, POLICY, settings, scratch, StopAt())
            gc.collect()
            if int(os.environ["RANK"]) == 0:
                save_file(aligned.weights, out / f"{label}.{kind}.safetensors")
                (out / f"{label}.{kind}.json").write_text(json.dumps(aligned.position.log))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
