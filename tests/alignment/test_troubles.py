"""What ends a training before its plan, what it leaves out, and what it refuses: each told by name."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from modpo_hpc.alignment.adapter import load_adapter_weights, read_adapter, save_adapter
from modpo_hpc.alignment.engine import TrainingEngine
from modpo_hpc.alignment.evaluation import evaluate
from modpo_hpc.alignment.loading import make_engine
from modpo_hpc.alignment.material import gather_material
from modpo_hpc.alignment.policy import reference_cache
from modpo_hpc.alignment.processes import ALONE
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.study.alignment import Training
from tests.alignment.world import WORDS, started_run, study_of, write
from tests.tiny_mistral import save_tiny_mistral

CPU = torch.device("cpu")


def run_with(tmp_path: Path, model_folder: Path, training: dict[str, Any] | None = None, **models: Any) -> Run:
    study = study_of(model_folder, tmp_path / "posts.csv", training)
    study["models"] |= models
    return started_run(tmp_path / "run", study)


def made(run: Run, policy: str = "DPO") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and log of ``policy``, trained now."""
    run_shard(str(run.root), "policies", policy)
    folder = run.folder("policies") / policy
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return json.loads((folder / "summary.json").read_text()), rows


def held_out_loss(run: Run, policy: str) -> float:
    """Of the adapter that the run keeps, measured anew."""
    settings = run.study.alignment.training_of(policy)
    material, cache = gather_material(run, policy, settings), reference_cache(run)
    assert not cache.missing([one.tree for one in material.held_out])
    engine = make_engine(run, run.study.alignment.trained_policy("DPO"), settings, 0, ALONE, CPU)
    folder = run.folder("policies") / policy / "adapter"
    load_adapter_weights(engine.adapted, read_adapter(folder)[0], folder)
    held_out = [replace(one, reference=cache[one.tree]) for one in material.held_out]
    return float(evaluate(engine, material.policy, settings, held_out)["held_out_loss"])


def test_training_that_no_longer_gains_stops_and_keeps_its_best(tmp_path: Path, model_folder: Path) -> None:
    settings = {"patience": 2, "evaluations": 3, "epochs": 8, "learning_rate": 0.03, "held_out": 0.25}
    run = run_with(tmp_path, model_folder, settings)
    summary, log = made(run)
    measured = [(row["step"], row["held_out_loss"]) for row in log if "held_out_loss" in row]
    best_step, best_loss = min(measured, key=lambda one: one[1])
    assert summary["stopped_early"]
    assert summary["steps"] == measured[-1][0] < summary["steps_planned"]
    assert summary["best_step"] == best_step == measured[-3][0], "two evaluations without gain end it"
    assert held_out_loss(run, "DPO") == pytest.approx(best_loss, abs=1e-6)
    assert best_loss < measured[-1][1]


def test_a_loss_that_is_no_number_names_step_questions_and_place(tmp_path: Path, model_folder: Path) -> None:
    run = run_with(tmp_path, model_folder, {"learning_rate": 1e30, "checkpoint_seconds": 0})
    with pytest.raises(
        ModpoError, match=r"step 2 of 10: the loss is (nan|inf); the questions of this step are q\d+"
    ) as caught:
        run_shard(str(run.root), "policies", "DPO")
    checkpoints = run.folder("policies") / ".work" / "DPO" / "checkpoints"
    assert str(checkpoints) in str(caught.value)
    assert (checkpoints / "step-00000001" / "complete").exists(), "the state before it is kept"
    assert not (run.folder("policies") / "DPO").exists()


def test_an_empty_response_is_left_out_counted_and_listed(tmp_path: Path, model_folder: Path) -> None:
    run = run_with(tmp_path, model_folder, {"epochs": 1})
    pair = run.table("pairs", None, ["empathy"]).to_pylist()[0]
    rows = run.table("responses").to_pylist()
    write(run, "responses", [{**row, "text": ""} if row["response_id"] == pair["chosen"] else row for row in rows])
    summary, _ = made(run)
    assert summary["dropped"]["reasons"] == {"empty response": 1}
    assert summary["dropped"]["questions"] == [
        {"question_id": pair["question_id"], "reason": f"{pair['chosen']} is empty"}
    ]
    assert summary["examples"]["dropped"] == 1


def engine_of(run: Run, **settings: Any) -> TrainingEngine:
    small = Training(**{"lora_rank": 4, "lora_targets": ("q_proj", "v_proj"), **settings})
    return make_engine(run, run.study.alignment.trained_policy("DPO"), small, 0, ALONE, CPU)


@pytest.mark.parametrize("other", [{"lora_rank": 8}, {"lora_targets": ("q_proj",)}])
def test_an_adapter_of_another_shape_is_refused_by_name(
    tmp_path: Path, model_folder: Path, other: dict[str, Any]
) -> None:
    run, folder = run_with(tmp_path, model_folder), tmp_path / "adapter"
    engine = engine_of(run)
    save_adapter(folder, engine_of(run, **other).weights(), {"peft_type": "LORA"})
    before = engine.weights()
    told = r"does not fit the model: \d+ tensors differ.*lora_.*another base model, rank"
    with pytest.raises(InputError, match=told) as caught:
        load_adapter_weights(engine.adapted, read_adapter(folder)[0], folder)
    assert str(folder) in str(caught.value)
    assert all(torch.equal(one, before[name]) for name, one in engine.weights().items())


def test_tensorboard_reads_the_log(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MODPO_LOGS", str(tmp_path / "logs"))
    run = run_with(tmp_path, model_folder, {"track": ["tensorboard"]})
    summary, log = made(run, "MODPO")
    events = EventAccumulator(str(run.logs / "tracking" / "MODPO" / "tensorboard")).Reload()
    for name in ("loss", "held_out_loss", "reward_margin"):
        shown = [(one.step, one.value) for one in events.Scalars(name)]
        written = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in log if name in row]
        assert shown == written
    assert {f"criteria/{name}/accuracy" for name in summary["weights"]} <= set(events.Tags()["scalars"])


def test_wandb_is_written_offline(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("MODPO_LOGS", str(tmp_path / "logs"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = run_with(tmp_path, model_folder, {"track": ["wandb"], "epochs": 1})
    made(run)
    (file,) = (run.logs / "tracking" / "DPO" / "wandb").rglob("*.wandb")
    assert b"held_out_accuracy" in file.read_bytes()


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))


@pytest.mark.parametrize(
    ("package", "training", "models", "message"),
    [
        ("wandb", {"track": ["wandb"]}, {}, r"track.*wandb is not installed.*modpo-hpc\[wandb\]"),
        ("bitsandbytes", {}, {"quantization": "nf4"}, r"models.quantization.*need bitsandbytes.*modpo-hpc\[nf4\]"),
    ],
)
def test_an_extra_that_is_not_installed_is_asked_for_by_name(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    training: dict[str, Any],
    models: dict[str, Any],
    message: str,
) -> None:
    run = run_with(tmp_path, model_folder, training, **models)
    without(package, monkeypatch)
    with pytest.raises(InputError, match=message):
        run_shard(str(run.root), "policies", "DPO")


def test_four_bits_are_refused_under_zero_3_before_anything_is_loaded(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_with(
        tmp_path, model_folder, {"deepspeed": "configs/deepspeed/zero3.json", "processes": 2}, quantization="nf4"
    )
    monkeypatch.setattr("modpo_hpc.alignment.start.subprocess.Popen", lambda *_, **__: pytest.fail("it was started"))
    with pytest.raises(InputError, match=r"zero_optimization.stage.*weights in four bits are packed.*Use stage 1 or 2"):
        run_shard(str(run.root), "policies", "DPO")


def test_four_bits_are_refused_where_a_server_would_answer_with_other_weights(
    tmp_path: Path, model_folder: Path
) -> None:
    from modpo_hpc.study import parse_study

    study = study_of(model_folder, tmp_path / "posts.csv")
    study["models"]["quantization"] = "nf4"
    study["generation"]["engine"] = "server"
    with pytest.raises(InputError, match=r"generation.server.command does not load them so"):
        parse_study(study, "test")
    study["generation"]["server"] = {"command": ["vllm", "--port", "{port}", "--quantization", "bitsandbytes"]}
    assert parse_study(study, "test").models.quantization == "nf4"


def test_a_policy_answers_with_the_weights_in_four_bits_that_it_was_trained_on(tmp_path: Path) -> None:
    bits = pytest.importorskip("bitsandbytes")
    from modpo_hpc.alignment.scorer import ResponseScorer
    from modpo_hpc.alignment.trees import Tree, pack
    from modpo_hpc.generation.policies import load_policy

    model_folder = save_tiny_mistral(tmp_path / "model", words=WORDS, width=128)
    run = run_with(tmp_path, model_folder, {"epochs": 4}, quantization="nf4")
    summary, log = made(run)
    losses = [row["loss"] for row in log if "loss" in row]
    assert losses[-1] < losses[0]
    assert summary["base"]["precision"] == "nf4 in float32"
    settings = run.study.alignment.training_of("DPO")
    engine = make_engine(run, run.study.alignment.trained_policy("DPO"), settings, 0, ALONE, CPU)
    folder = run.folder("policies") / "DPO" / "adapter"
    load_adapter_weights(engine.adapted, read_adapter(folder)[0], folder)
    answering = load_policy(run, "DPO")
    four_bit = [one for one in answering.modules() if isinstance(one, bits.nn.Linear4bit)]
    assert len(four_bit) == 2 * 7, "every linear layer but the head"
    packed = pack([Tree((0, 5, 6, 7), ((8, 9, 1), (20, 21, 22, 1)))])
    engine.train(False)
    with torch.no_grad():
        torch.testing.assert_close(ResponseScorer(answering)(packed), engine.logps(packed))
        (tmp_path / "plain").mkdir()
        plain = load_policy(run_with(tmp_path / "plain", model_folder), None)
        assert not torch.allclose(ResponseScorer(plain)(packed), ResponseScorer(load_policy(run, None))(packed))
