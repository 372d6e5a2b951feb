"""What shared prompts save at the size of Mistral-7B, by counted FLOP, for each method and length of responses.

    python -m tests.bench.train_flops [--questions 64] [--tokens 100 300 500]

Counted is what a LoRA step of rank 64 needs, by the formula of ``alignment.speed``: here a question's prompt is read
once and each response once; a peer reads each response of a pair after a prompt of its own. The peer is counted at its
best (reference computed beforehand, nothing recomputed, no padding, the head over responses alone) and as TRL comes
(reference in each step, activations recomputed). No model is run: it is arithmetic, not speed. Real prompts, invented
responses, pairs drawn by lot among five. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.speed import ModelCost, cost_of
from modpo_hpc.alignment.trees import Tree
from modpo_hpc.methods import Trained
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.methods.listwise import ListwiseDPO
from modpo_hpc.methods.modpo import MODPO
from modpo_hpc.methods.sft import SFT
from modpo_hpc.study.alignment import Training
from tests.bench import train_parts as parts
from tests.bench.measuring import tell

CRITERIA = 6
WHOLE, AGAIN, REFERENCE = 4, 2, 2
"""FLOP a token and weight of a linear layer: forward and gradient; a second forward pass; one of the reference."""


METHODS: dict[str, Trained] = {
    "SFT": SFT(criteria=parts.criteria(1)),
    "DPO": DPO(criteria=parts.criteria(1)),
    "MODPO, 2 criteria": MODPO(criteria=parts.criteria(2)),
    "MODPO, 6 criteria": MODPO(criteria=parts.criteria(6)),
    "Joint-Loss DPO, 2 criteria": JointDPO(criteria=parts.criteria(2)),
    "Joint-Loss DPO, 6 criteria": JointDPO(criteria=parts.criteria(6)),
    "listwise, all five responses": ListwiseDPO(criteria=parts.criteria(6)),
}


def ours_and_theirs(policy: Trained, cost: ModelCost, drawn: Sequence[Example]) -> tuple[float, float]:
    """FLOP a question here, and where each response has a prompt of its own."""
    ours = theirs = 0.0
    for example in drawn:
        view = policy.training_view(example)
        pairs = [dict.fromkeys(pair) for pair in view.pairs if pair]  # SFT's names one response twice
        read = range(len(view.tree.responses)) if policy.all_responses else [place for pair in pairs for place in pair]
        ours += cost.training_flops(view.tree)
        theirs += sum(cost.training_flops(Tree(view.tree.prompt, (view.tree.responses[place],))) for place in read)
    return ours / len(drawn), theirs / len(drawn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, nargs="+", default=(100, 300, 500), help="mean lengths of a response")
    arguments = parser.parse_args()
    settings = Training(lora_rank=64, lora_alpha=128)
    cost = cost_of(parts.adapted_model(parts.MISTRAL_7B, settings, torch.bfloat16, "meta"))
    ratios: dict[str, float] = {}
    for tokens in arguments.tokens:
        drawn = parts.make_examples(arguments.questions, CRITERIA, tokens=tokens)
        for name, policy in METHODS.items():
            ours, theirs = ours_and_theirs(policy, cost, drawn)
            best = theirs / ours
            as_it_comes = best * (WHOLE + AGAIN + (0 if name == "SFT" else REFERENCE)) / WHOLE
            ratios[f"{name}, {tokens} tokens"] = best
            print(
                f"{name}, responses of {tokens}: {ours / 1e12:.1f} TFLOP a question; a peer at its best {best:.2f} "
                f"times as many, as TRL comes about {as_it_comes:.1f}"
            )
    tell("train-flops", ratios=ratios, machine="none: counted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
