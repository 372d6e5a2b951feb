"""CPU time and FLOPs of a DPO pair here and in TRL, and of Joint-Loss DPO here and without shared prompts.

Interleaved in one run: every round trains each contender on the same batches, and the medians over the rounds count.
``EPITOME`` names the real posts; by default they lie beside the checkout.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.losses import joint_dpo_loss, log_ratio
from modpo_hpc.methods import Trained
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.study.alignment import Training
from tests.bench import train_parts as parts
from tests.bench.measuring import cpu_seconds, machine, tell

CRITERIA = 6
RATE = 1e-3
SETTINGS = Training(beta=0.1, lora_rank=16, lora_alpha=32, learning_rate=RATE)


class Ours:
    """This project's engine."""

    def __init__(self, policy: Trained, examples: Sequence[Example], batch: int) -> None:
        self.engine = PlainEngine(parts.adapted_model(parts.TINY, SETTINGS), SETTINGS, torch.device("cpu"))
        views = [policy.training_view(one) for one in examples]
        self.reference_seconds, self.examples = cpu_seconds(lambda: parts.with_reference(self.engine, views))
        self.policy, self.batch = policy, batch

    def train(self) -> list[float]:
        steps = parts.steps_in_order(len(self.examples), self.batch, self.batch)
        return [
            parts.train_step(self.engine, self.policy, SETTINGS, self.examples, step, RATE)["loss"] for step in steps
        ]


class Trl:
    """TRL's trainer; ``changes`` are departures from its defaults."""

    def __init__(self, examples: Sequence[Example], batch: int, folder: Path, **changes: Any) -> None:
        options = {"per_device_train_batch_size": batch, "learning_rate": RATE, **changes}
        views = [DPO(criteria={"empathy": 1}).training_view(one) for one in examples]
        self.trainer = parts.trl_trainer(parts.TINY, SETTINGS, views, folder, **options)

    def train(self) -> list[float]:
        self.trainer.train()
        losses: list[float] = self.trainer.step_losses
        return losses


class PaddedJoint:
    """Joint-Loss DPO as it is mostly written: two padded sequences a criterion, the reference computed online."""

    def __init__(
        self,
        policy: JointDPO,
        examples: Sequence[Example],
        batch: int,
        shape: parts.Shape = parts.TINY,
        settings: Training = SETTINGS,
    ) -> None:
        self.model = parts.adapted_model(shape, settings)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad], lr=settings.learning_rate, weight_decay=0
        )
        self.policy, self.settings, self.examples, self.batch = policy, settings, list(examples), batch

    def train(self) -> list[float]:
        weights = torch.tensor(self.policy.weights)
        losses = []
        for step in parts.steps_in_order(len(self.examples), self.batch, self.batch):
            batch = [self.examples[place] for place in step.parts[0][0]]
            self.model.train()
            h = torch.stack([self._h(batch, criterion) for criterion in range(len(weights))])
            loss = joint_dpo_loss(h, weights, self.settings.beta)[0].mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(float(loss.detach()))
        return losses

    def _h(self, batch: Sequence[Example], criterion: int) -> torch.Tensor:
        pairs = [one.pairs[criterion] for one in batch]
        chosen = [one.tree.responses[pair[0]] for one, pair in zip(batch, pairs, strict=True) if pair]
        rejected = [one.tree.responses[pair[1]] for one, pair in zip(batch, pairs, strict=True) if pair]
        prompts = [one.tree.prompt for one in batch]
        policy = self._logps(prompts + prompts, chosen + rejected)
        with torch.no_grad(), self.model.disable_adapter():
            reference = self._logps(prompts + prompts, chosen + rejected)
        return log_ratio(*policy.chunk(2), *reference.chunk(2))

    def _logps(self, prompts: Sequence[tuple[int, ...]], responses: Sequence[tuple[int, ...]]) -> torch.Tensor:
        rows = [torch.tensor(prompt + response) for prompt, response in zip(prompts, responses, strict=True)]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
        lengths = torch.tensor([len(row) for row in rows])
        starts = torch.tensor([len(prompt) for prompt in prompts])
        places = torch.arange(ids.shape[1])
        logits = self.model(input_ids=ids, attention_mask=(places < lengths[:, None]).long()).logits
        logps = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        inside = (places[1:] >= starts[:, None]) & (places[1:] < lengths[:, None])
        return (logps * inside).sum(1)


def flops(train: Callable[[], list[float]]) -> tuple[int, list[float]]:
    """Counted FLOPs of matrix products and attention during ``train``, and the loss of each step."""
    counter = FlopCounterMode(display=False)
    with counter:
        losses = train()
    return int(counter.get_total_flops()), losses


def contenders(examples: Sequence[Example], batch: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """How to make each contender afresh, with the same first weights."""
    dpo = DPO(criteria={"empathy": 1})
    joint = JointDPO(criteria=parts.criteria(CRITERIA))
    few = examples[: 2 * batch]
    faster = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
    return {
        "ours": lambda: Ours(dpo, examples, batch),
        "trl_defaults": lambda: Trl(examples, batch, folder),
        "trl_precomputed": lambda: Trl(examples, batch, folder, **faster),
        "ours_joint": lambda: Ours(joint, few, batch),
        "padded_joint": lambda: PaddedJoint(joint, few, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.questions % arguments.batch:
        parser.error("--questions: give a multiple of --batch, so that all make the same steps")
    torch.set_num_threads(1)
    examples = parts.make_examples(arguments.questions, CRITERIA)
    seconds: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    reference: list[float] = []
    counted: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        makers = contenders(examples, arguments.batch, Path(folder))
        for number in range(arguments.rounds):
            for name, make in makers.items():
                contender = make()
                spent, losses[name] = cpu_seconds(contender.train)
                seconds.setdefault(name, []).append(spent / (len(losses[name]) * arguments.batch))
                if name == "ours":
                    reference.append(contender.reference_seconds / len(examples))
                print(f"round {number + 1}: {name} {1000 * seconds[name][-1]:.1f} ms a question", flush=True)
        for name, make in contenders(examples[: 2 * arguments.batch], arguments.batch, Path(folder)).items():
            contender = make()
            total, steps = flops(contender.train)
            counted[name] = total / (arguments.batch * len(steps))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    apart = {
        peer: max(abs(one - other) for one, other in zip(losses[ours], losses[peer], strict=True))
        for ours, peer in (("ours", "trl_defaults"), ("ours", "trl_precomputed"), ("ours_joint", "padded_joint"))
    }
    views = [DPO(criteria={"empathy": 1}).training_view(one) for one in examples]
    prompt = statistics.mean(len(one.tree.prompt) for one in views)
    response = statistics.mean(len(one) for view in views for one in view.tree.responses)
    print(f"largest difference of a step's loss: {apart}")
    with_reference = medians["ours"] + statistics.median(reference)
    tell(
        "train",
        ratios={
            "dpo_vs_trl_defaults": medians["trl_defaults"] / medians["ours"],
            "dpo_with_its_reference_vs_trl_defaults": medians["trl_defaults"] / with_reference,
            "dpo_vs_trl_precomputed": medians["trl_precomputed"] / medians["ours"],
            "joint_6_criteria_vs_padded_online": medians["padded_joint"] / medians["ours_joint"],
        },
        cpu_ms_a_question={name: 1000 * value for name, value in medians.items()},
        gflops_a_question={name: value / 1e9 for name, value in counted.items()},
        largest_loss_difference=apart,
        mean_tokens={"prompt": prompt, "response": response},
        machine=machine(),
    )


if __name__ == "__main__":
    main()
