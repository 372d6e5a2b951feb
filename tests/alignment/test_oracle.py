"""TRL as oracle: its DPO trainer's losses on the same tokens are ours; and one prompt for everybody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modpo_hpc.alignment.batches import plan_batches
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.examples import Example
from modpo_hpc.alignment.material import gather_material
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.methods.dpo import DPO
from modpo_hpc.methods.joint_dpo import JointDPO
from modpo_hpc.prompts import answering_messages
from modpo_hpc.study.alignment import Training
from tests.alignment.world import started_run, study_of


def test_losses_of_training_steps_are_those_of_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    from tests.bench import train_parts as parts

    shape = parts.Shape(32, 64, 2, 4, 2, 300)
    settings = Training(lora_rank=4, lora_alpha=8, learning_rate=5e-3)
    rng = np.random.default_rng(2)

    def ids(count: int) -> tuple[int, ...]:
        return (*(int(one) for one in rng.integers(2, 300, size=count)), 1)

    examples = [
        Example(f"q{n}", Tree(ids(10 + n)[:-1], (ids(5 + n), ids(12 - n))), ("a", "b"), ((0, 1),)) for n in range(8)
    ]
    policy = DPO(criteria={"empathy": 1})
    engine = PlainEngine(parts.adapted_model(shape, settings), settings, torch.device("cpu"))
    ours = []
    ready = parts.with_reference(engine, examples)
    for _ in range(2):
        for step in parts.steps_in_order(8, 4, 2):
            ours.append(parts.train_step(engine, policy, settings, ready, step, 5e-3)["loss"])
    trainer = parts.trl_trainer(
        shape, settings, [*examples, *examples], tmp_path, per_device_train_batch_size=4, learning_rate=5e-3
    )
    trainer.train()
    assert trainer.step_losses == pytest.approx(ours, abs=1e-5)
    assert abs(ours[-1] - ours[0]) > 1e-3


def test_losses_of_joint_training_are_those_of_padded_pairs_with_an_online_reference() -> None:
    """Three optimizer steps of four criteria: a tree a question here, eight padded sequences and a reference there."""
    from tests.bench import train_parts as parts
    from tests.bench.train import PaddedJoint

    shape, rate = parts.Shape(32, 64, 2, 4, 2, 300), 5e-3
    settings = Training(lora_rank=4, lora_alpha=8, learning_rate=rate)
    policy = JointDPO(criteria={"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1})
    rng = np.random.default_rng(4)

    def ids(count: int) -> tuple[int, ...]:
        return (*(int(one) for one in rng.integers(2, 300, size=count)), 1)

    def pair() -> tuple[int, int]:
        chosen, rejected = rng.permutation(5)[:2]
        return int(chosen), int(rejected)

    examples = [
        Example(
            f"q{n}",
            Tree(ids(8 + n), tuple(ids(4 + 3 * k) for k in range(5))),
            tuple("abcde"),
            tuple(pair() for _ in range(4)),
        )
        for n in range(12)
    ]
    engine = PlainEngine(parts.adapted_model(shape, settings), settings, torch.device("cpu"))
    ready = parts.with_reference(engine, [policy.training_view(one) for one in examples])
    ours = [
        parts.train_step(engine, policy, settings, ready, step, rate)["loss"] for step in parts.steps_in_order(12, 4, 2)
    ]
    padded = PaddedJoint(policy, examples, 4, shape, settings).train()
    assert ours == pytest.approx(padded, abs=1e-5)
    assert len(ours) == 3
    assert abs(ours[-1] - ours[0]) > 1e-4


def test_training_reads_the_prompt_that_generation_gives(tmp_path: Path, model_folder: Path) -> None:
    """One chat template, one BOS, and the response ends in its EOS."""
    from transformers import AutoTokenizer

    run = started_run(tmp_path / "run", study_of(model_folder, tmp_path / "posts.csv"))
    material = gather_material(run, "DPO", run.study.alignment.training_of("DPO"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    texts = dict(run.table("questions", ["question_id", "text"]).to_pandas().itertuples(index=False))
    for example in (*material.training, *material.held_out):
        whole = tokenizer.apply_chat_template(
            answering_messages(texts[example.question_id]), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert list(example.tree.prompt) == whole
        assert example.tree.prompt.count(tokenizer.bos_token_id) == 1
        for response in example.tree.responses:
            assert response.count(tokenizer.eos_token_id) == 1
            assert response[-1] == tokenizer.eos_token_id
            assert tokenizer.bos_token_id not in response


def test_batches_are_a_plan() -> None:
    lengths = [int(one) for one in np.random.default_rng(0).integers(10, 100, size=53)]
    for processes in (1, 2, 3):
        plan = plan_batches(lengths, seed=3, epochs=2, batch_size=8, micro_batch_size=3, processes=processes)
        for epoch in (0, 1):
            seen = [p for step in plan if step.epoch == epoch for rank in step.parts for part in rank for p in part]
            assert sorted(seen) == list(range(53))
        alone = plan_batches(lengths, seed=3, epochs=2, batch_size=8, micro_batch_size=8)
        sets = [{p for rank in step.parts for part in rank for p in part} for step in plan]
        assert sets == [{p for rank in step.parts for part in rank for p in part} for step in alone]
        assert all(len({len(rank) for rank in step.parts}) == 1 for step in plan)


def test_reference_does_not_depend_on_its_neighbours(model_folder: Path) -> None:
    from tests.alignment.test_trees import adapted

    engine = PlainEngine(adapted(model_folder), Training(), torch.device("cpu"))
    engine.train(False)
    tree = Tree((2, 3, 4), ((5, 6, 1), (7, 1)))
    with torch.no_grad():
        first = engine.logps(pack([tree])).tolist()
        assert engine.logps(pack([tree])).tolist() == first
        more = replace(tree, responses=(*tree.responses, (8, 9, 1)))
        torch.testing.assert_close(engine.logps(pack([more]))[:2], torch.tensor(first))
