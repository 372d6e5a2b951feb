"""LLaMA-Factory's DPO on the same tokens as the other trainers of the benchmarks, in a Python of its own.

It wants other versions of transformers and TRL than this project: ``pip install torch==2.13.0 llamafactory`` into an
environment of its own, whose interpreter is named to the benchmark. That interpreter runs this file as a script, with
a file of arguments, and writes down when each optimizer step ended. It has no reference computed beforehand and no
joint loss: each step passes the base model, too, and several criteria are as many rows. What it prints holds the
posts, and is thrown away.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modpo_hpc.alignment.examples import Example
    from modpo_hpc.study.alignment import Training
    from tests.bench.train_parts import Shape

IGNORED = -100


def version_of(python: Path) -> str:
    """The release that ``python`` imports. SystemExit where it has none."""
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('llamafactory'))"]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} has no llamafactory: pip install torch==2.13.0 llamafactory, into an environment")
    return done.stdout.strip()


def run_llama_factory(
    python: Path, shape: Shape, settings: Training, examples: Sequence[Example], arguments: Any, **changes: Any
) -> dict[str, float]:
    """Its speed and memory on these pairs, and the mean log-prob of what was chosen in the first step, by which one
    sees that it reads the same tokens with the same weights. ``changes`` are departures from its defaults."""
    import torch
    from datasets import Dataset

    from tests.bench import train_parts as parts

    rows = len(examples[0].pairs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts.make_model(shape, arguments.dtype, arguments.device).save_pretrained(folder / "model")
        parts.make_tokenizer(["a"], 300).save_pretrained(folder / "model")
        Dataset.from_list(_rows(examples)).save_to_disk(folder / "pairs" / "train")
        (folder / "pairs" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
        asked = {
            "model_name_or_path": str(folder / "model"),
            "stage": "dpo",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": settings.lora_rank,
            "lora_alpha": settings.lora_alpha,
            "lora_dropout": 0.0,
            "lora_target": ",".join(settings.lora_targets),
            "pref_beta": settings.beta,
            "template": "empty",
            "dataset": "pairs",
            "dataset_dir": str(folder),
            "tokenized_path": str(folder / "pairs"),
            "output_dir": str(folder / "out"),
            "per_device_train_batch_size": arguments.micro_batch,
            "gradient_accumulation_steps": rows * arguments.batch // arguments.micro_batch,
            "max_steps": arguments.steps + arguments.warmup,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "constant",
            "disable_shuffling": True,
            "dataloader_num_workers": 0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "bf16": arguments.device != "cpu",
            "use_cpu": arguments.device == "cpu",
            **changes,
        }
        (folder / "asked.json").write_text(json.dumps(asked))
        gc.collect()
        torch.cuda.empty_cache()  # what others have left on the card
        done = subprocess.run([str(python), __file__, str(folder)], cwd=folder, capture_output=True, text=True)
        told = folder / "told.json"
        if not told.exists():
            raise RuntimeError(f"LLaMA-Factory: {done.stderr.strip().splitlines()[-1][:300]}")
        found = json.loads(told.read_text())
    seconds = [after - before for before, after in pairwise(found["ends"])][arguments.warmup - 1 :]
    middle = sorted(seconds)[len(seconds) // 2]
    memory = {"peak_gib": found["peak_gib"]} if found["peak_gib"] else {}
    return {
        "seconds_a_question": middle / arguments.batch,
        "first_logps_of_chosen": found["logps_of_chosen"][0],
        **memory,
    }


def _rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
    rows = []
    for one in examples:
        prompt = list(one.tree.prompt)
        for pair in one.pairs:
            if pair is None:
                continue
            row: dict[str, Any] = {"images": None, "videos": None, "audios": None}
            for name, place in zip(("chosen", "rejected"), pair, strict=True):
                response = list(one.tree.responses[place])
                row[f"{name}_input_ids"] = prompt + response
                row[f"{name}_attention_mask"] = [1] * (len(prompt) + len(response))
                row[f"{name}_labels"] = [IGNORED] * len(prompt) + response
            rows.append(row)
    return rows


def train(folder: Path) -> None:
    """In LLaMA-Factory's own Python: train as ``asked.json`` says, and leave ``told.json``."""
    import torch

    # it imports torchaudio for audio alone, and on a CPU there is often no build of it
    if find_spec("torchaudio") is None:
        sys.modules["torchaudio"] = module_from_spec(ModuleSpec("torchaudio", None))
    from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found, unused-ignore]
    from transformers import TrainerCallback

    on_gpu = torch.cuda.is_available()
    ends: list[float] = []
    chosen: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

        def on_log(self, *_: Any, **told: Any) -> None:
            if "logps/chosen" in told["logs"]:
                chosen.append(float(told["logs"]["logps/chosen"]))

    run_exp(json.loads((folder / "asked.json").read_text()), [Clock()])
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    (folder / "told.json").write_text(json.dumps({"ends": ends, "logps_of_chosen": chosen, "peak_gib": peak}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("this file is run by tests/bench/train_gpu.py")
    train(Path(sys.argv[1]))
