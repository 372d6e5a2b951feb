"""One adapter for every weight: the soup it begins as, its losses, its training, and the plain adapters it gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from modpo_hpc.alignment import losses
from modpo_hpc.alignment.adapter import read_adapter
from modpo_hpc.alignment.conditioned import (
    WHOLE,
    ConditionedModel,
    at_weights,
    conditioned_config,
    read_conditioned,
    start_from,
)
from modpo_hpc.alignment.soup import Source, merge, read_source
from modpo_hpc.errors import InputError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.methods.conditioned import Conditioned
from modpo_hpc.run import Run
from tests.alignment.test_policies import content
from tests.alignment.world import started_run, study_of
from tests.conftest import REPOSITORY
from tests.tiny_study import why_refused
from tests.waiting import TRIES, killed_when

WEIGHTS = {"empathy": 0.6, "safety": 0.4}
ONE = {"method": "conditioned", "criteria": WEIGHTS, "start": {"empathy": "DPO", "safety": "DPO_Safety"}}
POINT = {"method": "at_weights", "of": "One", "criteria": {"empathy": 1, "safety": 3}}


def sources(count: int, ranks: tuple[int, ...]) -> list[Source]:
    draw = torch.Generator().manual_seed(1)
    return [
        Source(
            f"S{number}",
            {
                layer: (torch.randn(rank, 7, generator=draw), torch.randn(5, rank, generator=draw))
                for layer in ("base_model.model.a", "base_model.model.b")
            },
            scale=1.5 + number,
            config={"peft_type": "LORA", "r": rank},
        )
        for number, rank in zip(range(count), ranks, strict=True)
    ]


def update(weights: Any, layer: str) -> Tensor:
    return weights[f"{layer}.lora_B.weight"].double() @ weights[f"{layer}.lora_A.weight"].double()


def flat(factors: Any) -> dict[str, Tensor]:
    return {f"{layer}.{part}": getattr(one, part) for layer, one in factors.items() for part in "ABCD"}


@pytest.mark.parametrize("ranks", [(4, 4), (2, 3, 4), (2, 2, 2, 2, 2, 2)])
def test_it_begins_as_the_exact_soup_for_any_weights(ranks: tuple[int, ...]) -> None:
    mine = sources(len(ranks), ranks)
    names = tuple(f"c{number}" for number in range(len(ranks)))
    config = conditioned_config(mine[0].config, names)
    rng = np.random.default_rng(2)
    for asked in (rng.dirichlet([1.0] * len(ranks)), rng.dirichlet([0.2] * len(ranks)), np.eye(len(ranks))[0]):
        plain, plain_config = at_weights(flat(start_from(mine)), config, dict(zip(names, asked, strict=True)))
        soup = merge(mine, tuple(asked), "exact")
        assert plain_config["lora_alpha"] / plain_config["r"] == 1
        for layer in mine[0].factors:
            torch.testing.assert_close(update(plain, layer), update(soup.weights, layer), rtol=1e-5, atol=1e-5)


def test_the_losses_are_those_of_formulas_written_out_one_pair_at_a_time() -> None:
    rng = np.random.default_rng(3)
    h, margins, weights, beta = rng.normal(size=(3, 6)), rng.normal(size=(3, 6, 3)), np.array([0.5, 0.2, 0.3]), 0.4

    def softplus(x: float) -> float:
        return float(np.log1p(np.exp(-x)))

    dpo = [sum(w * softplus(beta * h[k, n]) for k, w in enumerate(weights)) for n in range(6)]
    modpo = [
        sum(
            w * softplus((beta * h[k, n] - sum(weights[j] * margins[k, n, j] for j in range(3) if j != k)) / w)
            for k, w in enumerate(weights)
        )
        for n in range(6)
    ]
    tensors = (torch.tensor(h), torch.tensor(weights))
    assert losses.weighted_dpo_loss(*tensors, beta)[0].numpy() == pytest.approx(np.array(dpo))
    found, _ = losses.modpo_over_anchors_loss(tensors[0], torch.tensor(margins), tensors[1], beta)
    assert found.numpy() == pytest.approx(np.array(modpo))


def test_modpo_at_an_end_is_dpo_of_that_criterion() -> None:
    h, margins = torch.randn(2, 5), torch.randn(2, 5, 2)
    found, _ = losses.modpo_over_anchors_loss(h, margins, torch.tensor([1.0, 0.0]), 0.3)
    torch.testing.assert_close(found, -torch.nn.functional.logsigmoid(0.3 * h[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("concentration", [0.1, 1.0])
def test_weights_are_drawn_for_each_step_from_its_number_alone(concentration: float) -> None:
    policy = Conditioned.model_validate({**ONE, "concentration": concentration})
    drawn = [policy.in_step(7, number).weights for number in range(400)]
    assert drawn[3] == policy.in_step(7, 3).weights
    assert all(sum(one) == pytest.approx(1) for one in drawn)
    first = [one[0] for one in drawn]
    assert stats.kstest(first, stats.beta(concentration, concentration).cdf).pvalue > 0.05
    assert stats.kstest(first, stats.beta(2 * concentration, 2 * concentration).cdf).pvalue < 0.001


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Run:
    """A run in which the policies that it starts from are trained."""
    base = tmp_path_factory.mktemp("conditioned")
    os.environ["MODPO_LOGS"] = str(base / "logs")
    settings = {"checkpoint_seconds": 0, "lora_dropout": 0.2}
    run = started_run(base / "run", study_of(model_folder, base / "posts.csv", settings, One=ONE, Point=POINT))
    for source in ("DPO", "DPO_Safety"):
        run_shard(str(run.root), "policies", source)
    return run


@pytest.fixture(scope="module")
def finished(started: Run) -> Run:
    run_shard(str(started.root), "conditioned", "One")
    run_shard(str(started.root), "soups", "Point")
    return started


def answers(model: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=tokens).logits
    return logits


def test_a_plain_adapter_answers_in_peft_as_the_conditioned_one_does(finished: Run, model_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    tokens = torch.randint(5, 40, (2, 12))
    bare = answers(AutoModelForCausalLM.from_pretrained(model_folder), tokens)
    weights, config = read_conditioned(finished.folder("conditioned") / "One" / WHOLE)
    begun = [read_source(name, finished.folder("policies") / name / "adapter") for name in ("DPO", "DPO_Safety")]
    whole = ConditionedModel(AutoModelForCausalLM.from_pretrained(model_folder), start_from(begun), {}, 0.0).eval()
    whole.load_adapter_weights(weights)
    assert torch.equal(answers(whole.get_base_model(), tokens), bare), "without weights it is the base model"
    places = {
        (0.6, 0.4): finished.folder("conditioned") / "One" / "adapter",
        (0.25, 0.75): finished.folder("soups") / "Point" / "adapter",
    }
    for shares, folder in places.items():
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), folder).eval()
        whole.set_weights(shares)
        mine = answers(whole.get_base_model(), tokens)
        torch.testing.assert_close(mine, answers(plain, tokens), rtol=1e-4, atol=1e-5)
        assert float((mine - bare).abs().max()) > 1e-2
    assert config["criteria"] == ["empathy", "safety"]


def test_training_moves_it_away_from_the_soup_and_is_told(finished: Run) -> None:
    folder = finished.folder("conditioned") / "One"
    begun = [read_source(name, finished.folder("policies") / name / "adapter") for name in ("DPO", "DPO_Safety")]
    soup, (mine, _) = merge(begun, (0.6, 0.4)), read_adapter(folder / "adapter")
    layer = next(iter(begun[0].factors))
    assert float((update(mine, layer) - update(soup.weights, layer)).norm()) > 1e-3
    weights, _ = read_conditioned(folder / WHOLE)
    assert float(weights[f"{layer}.D"].abs().max()) > 0, "what no soup has"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"loss", "grad_norm", "accuracy"} <= set(rows[0])
    assert any("held_out_loss" in row for row in rows)
    summary = json.loads((finished.folder("soups") / "Point" / "summary.json").read_text())
    assert (summary["method"], summary["of"], summary["weights"]) == ("at_weights", "One", {"empathy": 1, "safety": 3})


def test_killed_and_resumed_it_ends_the_same(finished: Run, tmp_path: Path) -> None:
    study = finished.study.model_dump(mode="json")

    def killed(run: Run) -> bool:
        process = subprocess.Popen(
            [sys.executable, "jobs/condition.py", str(run.root), "--shard", "One"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
        )
        checkpoints = run.folder("conditioned") / ".work" / "One" / "checkpoints"
        return killed_when(process, (checkpoints / "step-00000003").exists)

    def another(number: int) -> Run:
        run = started_run(tmp_path / f"disturbed-{number}", study)
        for source in ("DPO", "DPO_Safety"):
            run_shard(str(run.root), "policies", source)
        return run

    disturbed = next(run for run in map(another, range(TRIES)) if killed(run))
    assert not (disturbed.folder("conditioned") / "One").exists()
    run_shard(str(disturbed.root), "conditioned", "One")
    assert content(disturbed.folder("conditioned") / "One") == content(finished.folder("conditioned") / "One")


@pytest.mark.parametrize("setting", [{"objective": "joint_dpo"}, {"objective": "modpo"}, {"concentration": 1.0}])
def test_it_learns_by_the_other_settings_too(started: Run, tmp_path: Path, setting: dict[str, Any]) -> None:
    policies = {"One": {**ONE, **setting}}
    study = started.study.model_dump(mode="json")
    study["alignment"]["policies"] = {**study["alignment"]["policies"], **policies}
    run = started_run(tmp_path / "run", study)
    for source in ("DPO", "DPO_Safety"):
        run_shard(str(run.root), "policies", source)
    run_shard(str(run.root), "conditioned", "One")
    rows = [json.loads(line) for line in (run.folder("conditioned") / "One" / "log.jsonl").open()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    begun = [read_source(name, run.folder("policies") / name / "adapter") for name in ("DPO", "DPO_Safety")]
    for corner, alone in zip(({"empathy": 1}, {"safety": 1}), begun, strict=True):
        plain, _ = at_weights(*read_conditioned(run.folder("conditioned") / "One" / WHOLE), corner)
        as_it_began = merge([alone], (1.0,), "exact").weights
        moved = max(float((update(plain, one) - update(as_it_began, one)).abs().max()) for one in alone.factors)
        assert moved > 1e-6


def test_an_exported_adapter_is_the_one_at_these_weights(
    finished: Run, tmp_path: Path, modpo: Callable[..., Any]
) -> None:
    words = ("export", "adapter", str(finished.root), "One", "--to", str(tmp_path / "out"))
    modpo(*words, "--weights", "empathy=1,safety=3")
    mine, _ = read_adapter(tmp_path / "out")
    point, _ = read_adapter(finished.folder("soups") / "Point" / "adapter")
    assert set(mine) == set(point)
    assert all(torch.equal(mine[name], point[name]) for name in mine)


REFUSED = {
    ("One", "--weights", "kindness=1"): "was not trained for this criterion",
    ("One", "--weights", "empathy=0,safety=0"): "no shares",
    ("One", "--weights", "empathy"): "have no form that is understood",
    ("DPO", "--weights", "empathy=1"): "only a conditioned policy answers at weights",
    ("Base",): "has no adapter",
    ("Nobody",): "there is no such policy",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_exported_is_refused(finished: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    import argparse

    from modpo_hpc.cli import export

    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    asked = parser.parse_args(["adapter", str(finished.root), *words, "--to", str(tmp_path / "out")])
    with pytest.raises(InputError, match=REFUSED[words]):
        export.run(asked)
    assert not (tmp_path / "out").exists()


WRONG = {
    "{method: conditioned, criteria: {empathy: 1, safety: 1}, start: {empathy: DPO_Empathy}}": "give one for each",
    "{method: conditioned, criteria: {empathy: 1, safety: 1}, start: {empathy: DPO_Empathy, safety: DPO_Soup}}": (
        "names 'DPO_Soup', which is no trained policy"
    ),
    "{method: conditioned, criteria: {empathy: 1}, start: {empathy: DPO_Empathy}}": "at least two criteria",
    "{method: at_weights, of: DPO_Empathy, criteria: {empathy: 1}}": "which is no policy of method conditioned",
    "{method: at_weights, of: DPO_Empathy, criteria: {empathy: 0}}": "weights are zero or more, one above zero",
}


@pytest.mark.parametrize("policy", WRONG)
def test_a_policy_that_cannot_be_conditioned_is_refused(policy: str) -> None:
    assert WRONG[policy] in why_refused(f"alignment.policies.X={policy}")
