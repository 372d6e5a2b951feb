"""Policies trained by one process on one base that stays loaded: each as if alone, and none the worse for another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from modpo_hpc.alignment import material, resident
from modpo_hpc.alignment.adapter import attach_adapter
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.errors import InputError
from modpo_hpc.launch import task
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.attempts import attempts_at
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.resident import keep_resident, let_go
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.alignment.test_policies import content
from tests.alignment.world import started_run, study_of
from tests.conftest import REPOSITORY
from tests.launch.fake_slurm import install
from tests.launch.test_transactions import Desk
from tests.waiting import TRIES, wait_until

pytestmark = pytest.mark.xdist_group("policies")
ONE = {"method": "conditioned", "criteria": {"empathy": 1, "safety": 1}, "start": {"empathy": "DPO", "safety": "SFT"}}
SETTINGS = {"epochs": 1, "lora_dropout": 0.2, "checkpoint_seconds": 0}


def of_its_own(training: dict[str, Any]) -> dict[str, Any]:
    return {"method": "dpo", "criteria": {"empathy": 1}, "training": training}


STUDY = {
    "One": ONE,
    "Wide": of_its_own({"lora_rank": 8, "lora_targets": ["q_proj", "down_proj"], "gradient_checkpointing": True}),
    "Broken": of_its_own({"learning_rate": 1e30}),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Run:
    """A run in which every policy was trained on a base of its own."""
    base = tmp_path_factory.mktemp("alone")
    os.environ["MODPO_LOGS"] = str(base / "logs")
    run = started_run(base / "run", study_of(model_folder, base / "posts.csv", SETTINGS, **STUDY))
    for policy in ("SFT", "DPO", "MODPO", "Wide"):
        run_shard(str(run.root), "policies", policy)
    run_shard(str(run.root), "conditioned", "One")
    return run


def another(run: Run, folder: Path, model: Path) -> Run:
    return started_run(folder, study_of(model, Path(run.study.data.file or ""), SETTINGS, **STUDY))


@pytest.fixture
def keeps() -> Iterator[None]:
    """This process keeps the base until the test ends."""
    keep_resident()
    yield
    let_go()


@pytest.mark.usefixtures("keeps")
def test_policies_that_follow_each_other_have_the_bytes_of_policies_trained_alone(
    alone: Run, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, another rank, other targets, recomputation and an adapter that is not PEFT's are among them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    calls: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[f"{owner.__name__}.{name}"] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    for owner in (AutoModelForCausalLM, AutoTokenizer):
        counting(owner, "from_pretrained")
    counting(material, "response_tokens")
    run = another(alone, tmp_path / "run", model_folder)
    for stage, policy in (
        ("policies", "Wide"),
        ("policies", "SFT"),
        ("policies", "DPO"),
        ("conditioned", "One"),
        ("policies", "MODPO"),
    ):
        run_shard(str(run.root), stage, policy)
        assert content(run.folder(stage) / policy) == content(alone.folder(stage) / policy), policy
    responses = {text for text in run.table("responses", ["text"]).column("text").to_pylist()}
    assert calls == {
        "AutoModelForCausalLM.from_pretrained": 1,
        "AutoTokenizer.from_pretrained": 1,
        "modpo_hpc.alignment.material.response_tokens": len(responses),
    }


@pytest.mark.usefixtures("keeps")
@pytest.mark.parametrize("changed", [False, True])
def test_nothing_of_an_adapter_is_left_and_a_changed_base_is_loaded_again(alone: Run, changed: bool) -> None:
    from transformers import AutoModelForCausalLM

    loads: list[Any] = []

    def load() -> Any:
        loads.append(AutoModelForCausalLM.from_pretrained(alone.study.models.base))
        return loads[-1]

    settings = alone.study.alignment.training_of("Wide")
    base = resident.resident_base("one", load, torch.device("cpu"))
    as_loaded = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    modules = [(name, type(module)) for name, module in base.named_modules()]
    adapted = attach_adapter(base, settings, "tiny", 0)
    engine = PlainEngine(adapted, settings, torch.device("cpu"))
    engine.backward(engine.logps(pack([Tree((0, 5, 6), ((8, 9, 1), (7, 1)))])).sum(), last=True)
    engine.step(0.1)
    gone = weakref.ref(next(one for name, one in adapted.named_parameters() if "lora_A" in name))
    if changed:
        with torch.no_grad():
            base.lm_head.weight += 1
    del base, adapted, engine
    again = resident.resident_base("one", load, torch.device("cpu"))
    assert gone() is None
    assert len(loads) == 1 + changed
    assert [(name, type(module)) for name, module in again.named_modules()] == modules
    assert all(torch.equal(tensor, as_loaded[name]) for name, tensor in again.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in again.parameters())
    assert not hasattr(again, "peft_config")
    assert again.config._attn_implementation == loads[-1].config._attn_implementation != "modpo_tree"
    assert {one.data_ptr() for one in again.parameters()} == {one.data_ptr() for one in loads[-1].parameters()}


def job(run: Run, folder: Path, policies: list[str]) -> Path:
    folder.mkdir()
    tasks = {"run": str(run.root), "stage": "policies", "tasks": [policies], "again": [], "resident": True}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return folder


@pytest.mark.slow
def test_one_that_fails_and_one_that_is_killed_take_no_other_with_them(
    alone: Run, tmp_path: Path, model_folder: Path
) -> None:
    policies = ["SFT", "Broken", "DPO", "MODPO"]

    def killed(run: Run, folder: Path) -> bool:
        """Whether one of the policies was killed: DPO, or on a busy machine the one after it."""
        command = [sys.executable, "-m", "modpo_hpc.launch.task", str(job(run, folder, policies))]
        environment = {**os.environ, "SLURM_JOB_ID": "7", "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
        checkpoints = run.folder("policies") / ".work" / "DPO" / "checkpoints"
        wait_until(lambda: (checkpoints / "step-00000002").exists() or process.poll() is not None, pause=0.002)
        with suppress(ProcessLookupError):
            os.kill(attempts_at(run.logs, "policies", "DPO")[0].pid, signal.SIGKILL)
        return process.wait() == 128 + signal.SIGKILL

    runs = ((another(alone, tmp_path / f"run-{n}", model_folder), tmp_path / f"job-{n}") for n in range(TRIES))
    run = next(run for run, folder in runs if killed(run, folder))
    attempts = {policy: attempts_at(run.logs, "policies", policy)[0] for policy in policies}
    outcomes = Counter(one.outcome for one in attempts.values())
    assert outcomes == {"done": 2, "failed": 1, "running": 1}
    assert attempts["Broken"].outcome == "failed"
    assert "NotANumber" in str(attempts["Broken"].error)
    assert attempts["SFT"].pid == attempts["Broken"].pid != attempts["DPO"].pid
    logs = {policy: (run.logs / "policies" / policy / "attempt_1.out").read_text() for policy in policies}
    assert "here from the policy before" in logs["Broken"]
    assert all(f"policies/{one} " not in logs[other] for one in policies for other in policies if one != other)
    for policy in ("SFT", "DPO", "MODPO"):
        run_shard(str(run.root), "policies", policy)
        assert content(run.folder("policies") / policy) == content(alone.folder("policies") / policy), policy
    assert not (run.folder("policies") / "Broken").exists()


def test_after_a_policy_that_did_not_end_well_the_others_get_a_new_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, stops = tmp_path / "seen", list[int]()

    def make(_: str, __: str, shard: str, again: bool, heard: list[int]) -> int:
        with seen.open("a") as stream:
            stream.write(f"{shard} {os.getpid()} {again} {bool(heard)}\n")
        if shard == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if shard == "stopped":
            os.kill(os.getppid(), signal.SIGTERM)
            wait_until(lambda: heard)
        return {"bad": 2, "stopped": 75}.get(shard, 0)

    monkeypatch.setattr(task, "make_shard", make)
    before = {number: signal.getsignal(number) for number in task.STOPS}
    shards = ["a", "bad", "b", "c", "killed", "d", "stopped", "e"]
    try:
        for number in task.STOPS:
            signal.signal(number, lambda sign, _: stops.append(sign))
        assert task._make_one_by_one("run", "policies", shards, {"c"}, stops, resident=True) == 128 + signal.SIGKILL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    rows = [line.split() for line in seen.read_text().splitlines()]
    assert [row[0] for row in rows] == shards
    assert [row[0] for row in rows if row[2] == "True"] == ["c"]
    pids = [row[1] for row in rows]
    assert pids[0] == pids[1]
    assert pids[2] == pids[3] == pids[4]
    assert pids[5] == pids[6]
    assert len(set(pids)) == 4
    assert [row[3] for row in rows] == ["False"] * 7 + ["True"]


DEMO = REPOSITORY / "configs" / "demo.yaml"


def test_a_profile_that_says_so_for_all_stages_means_those_that_train_policies() -> None:
    profile, study = Profile(resident=True, pack=3), load_study(DEMO)
    found = {stage.name for stage in STAGES if allocate(profile, study, stage).resident}
    assert found == {"policies", "policy_trials", "conditioned"}


@pytest.mark.parametrize(
    ("stage", "fields", "overrides", "said"),
    [
        ("responses", {"pack": 3}, [], "only policies share a base model"),
        ("answers", {"pack": 3}, [], "only answers of generation.engine server"),
        ("policies", {}, [], "nothing to share"),
        ("policies", {"pack": 3, "gpus": 2}, [], "2 processes, each with a base of its own"),
        ("policies", {"pack": 3, "launcher": "srun"}, [], "launcher srun"),
        ("policies", {"pack": 3}, ["alignment.training.processes=2"], "alignment.training.processes"),
        ("policies", {"pack": 3}, ["alignment.training.deepspeed=configs/deepspeed/zero2.json"], "DeepSpeed"),
        ("policies", {"pack": 3}, ["models.quantization=nf4"], "four bits"),
    ],
)
def test_what_cannot_share_a_base_is_refused_before_anything_is_queued(
    stage: str, fields: dict[str, object], overrides: list[str], said: str
) -> None:
    profile = Profile.model_validate({"stages": {stage: {**fields, "resident": True}}})
    with pytest.raises(InputError, match=said) as caught:
        allocate(profile, load_study(DEMO, overrides), stage_named(stage))
    assert f"stages.{stage}.resident" in str(caught.value)


@pytest.mark.usefixtures("keeps")
def test_a_node_that_shows_more_gpus_than_were_asked_for_is_refused(
    alone: Run, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = another(alone, tmp_path / "run", model_folder)
    monkeypatch.setattr("modpo_hpc.alignment.processes.visible_gpus", lambda: 8)
    with pytest.raises(InputError, match="8 processes would each load their own"):
        run_shard(str(run.root), "policies", "DPO")


def test_policies_whose_inputs_are_there_are_handed_in_as_one_job_that_shares_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, install(monkeypatch), capsys)
    (tmp_path / "profile.yaml").write_text("partition: cpu\nstages: {policies: {pack: 20, resident: true}}\n")

    def handed_in(*words: str) -> list[dict[str, Any]]:
        code, said = desk.submit(*words)
        assert code == 0, said
        return [json.loads(file.read_text()) for file in desk.run.logs.glob("slurm/*/tasks.json")]

    before = handed_in("--until", "scores")
    assert not any(one["resident"] for one in before)
    for stage in STAGES:
        if stage.name in {one["stage"] for one in before}:
            desk.finish(stage.name)
    (policies,) = [one for one in handed_in() if one["resident"]]
    assert policies["stage"] == "policies"
    assert policies["tasks"] == [list(desk.run.shard_ids("policies"))]
