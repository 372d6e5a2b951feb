"""The spine under faults: races, odd filesystems, flipped bits, and studies that cannot be carried out."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from modpo_hpc.checks import cautions, check_inputs
from modpo_hpc.core import studies
from modpo_hpc.core.atomic import atomic_file, atomic_folder
from modpo_hpc.core.markers import IMPORTED, Marker, write_marker
from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY

DEMO = REPOSITORY / "configs" / "demo.yaml"


def _begin(folder: str, seed: int, gate: Any, said: Any) -> None:
    study, begin = load_study(DEMO, [f"seed={seed}"]), studies.begin

    def at_once(*arguments: Any) -> bool:
        gate.wait()  # all have seen that no run is there
        return begin(*arguments)

    setattr(studies, "begin", at_once)  # noqa: B010 - in this process alone
    try:
        run = Run.create(folder, study)
        said.put((seed, run.study.seed, run.provenance["id"]))
    except ModpoError as error:
        said.put((seed, None, str(error)))


def test_a_run_that_is_just_being_begun_or_was_killed_then_is_no_other_thing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (".at_work", "run.json", ".study.yaml.41.7", "..study.yaml.41.7.host.41.8.tmp"):
        (run / name).write_text("{}")
    assert Run.create(run, load_study(DEMO)).study.name == "demo"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(InputError, match="taken by something that is no run"):
        Run.create(tmp_path / "other", load_study(DEMO))


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_studies_begun_in_one_folder_at_once_one_wins_and_the_other_is_told(
    tmp_path: Path, attempt: int
) -> None:
    context = multiprocessing.get_context("fork")
    seeds = (1, 2, 1, 2, 1, 2)
    gate, said = context.Barrier(len(seeds)), context.Queue()
    workers = [context.Process(target=_begin, args=(str(tmp_path / "run"), seed, gate, said)) for seed in seeds]
    for worker in workers:
        worker.start()
    answers = [said.get() for _ in seeds]
    for worker in workers:
        worker.join()
    winner = Run.open(tmp_path / "run")
    joined = [one for one in answers if one[1] is not None]
    assert {seed for seed, _, _ in joined} == {winner.study.seed}, "nobody works on by another study"
    assert {identity for _, _, identity in joined} == {winner.provenance["id"]}
    assert all(seed != winner.study.seed for seed, got, _ in answers if got is None)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_filesystem_that_cannot_sync_folders_finishes_its_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_file(tmp_path / "file", "w") as stream:
        stream.write("whole")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("whole")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside").read_text() == "whole"


def test_a_disk_that_fails_is_not_taken_for_an_odd_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="input/output"), atomic_file(tmp_path / "file", "w") as stream:
        stream.write("lost")
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_passes_a_reader(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_study(DEMO))
    work = Shard(run, stage_named("questions"), "all", tmp_path)
    rows = [{"question_id": f"q{number}", "text": f"text {number * number}"} for number in range(50)]
    work.write_table(rows, pa.schema([("question_id", pa.string()), ("text", pa.string())]))
    marker = Marker("questions", "all", IMPORTED, work.outputs, 0.0, 0.0, "here", None, 1)
    write_marker(run.folder("questions"), marker)
    path = run.table_path("questions", "all")
    content = path.read_bytes()
    assert run.table("questions").num_rows == 50
    for position in range(0, len(content), max(1, len(content) // 300)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="not those that its shard wrote") as error:
            run.table("questions")
        assert error.value.file == path
    path.write_bytes(content)
    assert run.table("questions").num_rows == 50


def changed(edit: Callable[[dict[str, Any]], object]) -> str:
    raw = load_study(DEMO).model_dump(mode="json")
    edit(raw)
    return yaml.safe_dump(raw, sort_keys=False)


def _rename(old: str, new: str) -> str:
    return changed(lambda raw: raw["alignment"]["policies"].update({new: raw["alignment"]["policies"][old]}))


UNSAFE = ("DPO/safe", "../../../escaped", "a.b", "", "x" * 81, "-leading", "n\u00e9", "a b", "a\nb")


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("what", ["policy", "phase", "backend", "criterion"])
def test_no_name_of_a_study_leaves_its_place(tmp_path: Path, name: str, what: str) -> None:
    def edit(raw: dict[str, Any]) -> None:
        if what == "policy":
            raw["alignment"]["policies"][name] = {"method": "base"}
        elif what == "phase":
            raw["judging"]["phases"][name] = raw["judging"]["phases"]["phase1"]
        elif what == "backend":
            raw["toxicity"]["backends"][name] = {"kind": "words"}
        else:
            raw["criteria"]["rank"].append(name)

    path = tmp_path / "study.yaml"
    path.write_text(changed(edit), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_study(path)
    assert error.value.file == path
    assert [one.name for one in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (changed(lambda raw: raw["shards"].update(answerz=3)), "no stage"),
        (changed(lambda raw: raw["resources"].update(answerz={"cpus": 1})), "no stage"),
        (changed(lambda raw: raw["shards"].update(responses=0)), "one block at least"),
        (changed(lambda raw: raw["shards"].update(policies=3)), "not cut into blocks"),
        (changed(lambda raw: raw["criteria"]["rank"].append("safety")), "'safety' stands in this list twice"),
        (changed(lambda raw: raw["judging"]["phases"]["phase1"]["policies"].append("Base")), "'Base' stands"),
        (changed(lambda raw: raw["judging"]["phases"]["phase1"]["criteria"].append("safety")), "'safety' stands"),
        (DEMO.read_text().replace("seed: 42", "seed: 42\nseed: 43"), "the key 'seed' stands here a second time"),
        (DEMO.read_text().replace("    Base: {method: base}", "    Base: {method: base}\n    Base: {method: base}"),
         "'Base' stands here a second time"),
    ],
)  # fmt: skip
def test_what_a_study_says_by_mistake_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as error:
        load_study(path)
    assert str(path) in str(error.value)


def _model(folder: Path, modules: list[str]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    header = json.dumps({f"model.layers.0.{name}.weight": {} for name in modules}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_models_that_are_not_there_are_named_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check_inputs(load_study(DEMO, [f"models.base={tmp_path}/nowhere"]))
    with pytest.raises(InputError, match="no model"):
        check_inputs(load_study(DEMO, [f"models.reward={tmp_path}"]))
    base = _model(tmp_path / "gpt", ["attn.c_attn", "mlp.c_fc"])
    with pytest.raises(InputError, match=r"no module of this name.*c_attn, c_fc"):
        check_inputs(load_study(DEMO, [f"models.base={base}"]))
    check_inputs(load_study(DEMO, [f"models.base={base}", "alignment.training.lora_targets=[c_attn]"]))


def test_a_judge_of_rules_refuses_what_it_has_no_rules_for_unless_it_is_to_be_generic(tmp_path: Path) -> None:
    criteria = tmp_path / "criteria.yaml"
    criteria.write_text("criteria:\n  crispness: {definition: It is crisp.}\n")
    files = f"criteria.files=[{criteria},configs/criteria/therapeutic.yaml,configs/criteria/gricean.yaml]"
    ranked = "criteria.rank=[empathy,active_listening,self_motivated_change,trust_rapport,patient_autonomy,safety,"
    says = [files, f"{ranked}quantity,quality,relation,manner,crispness]"]
    with pytest.raises(
        InputError, match=r"criteria\.rank.*'crispness'.*no rules for.*judge\.model to generic"
    ) as error:
        check_inputs(load_study(DEMO, says))
    assert str(criteria) in str(error.value)
    judged = [files, "judging.phases.phase1.criteria=[empathy,crispness]"]
    with pytest.raises(InputError, match=r"judging\.phases\.phase1\.criteria.*'crispness'"):
        check_inputs(load_study(DEMO, judged))
    study = load_study(DEMO, [*says, "judge.model=generic"])
    check_inputs(study)
    (caution,) = cautions(study)
    assert "no rules for crispness" in caution
    assert "invented and mean nothing" in caution
    assert cautions(load_study(DEMO)) == cautions(load_study(DEMO, ["judge.model=generic"])) == []
