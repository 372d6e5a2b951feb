"""The contract of a kind of judge: whatever is registered says all that is asked of it; one comes from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from modpo_hpc.checks import cautions, check_inputs
from modpo_hpc.cli.main import main
from modpo_hpc.errors import InputError
from modpo_hpc.judging.kinds import JUDGE_KINDS, judge_kind
from modpo_hpc.judging.settings import identity_of_judges
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.models import hub_models
from modpo_hpc.rehearsal.study import rehearsed
from modpo_hpc.study import parse_study
from tests.conftest import REPOSITORY
from tests.judging import worlds


def judge_of_the_docs(folder: Path) -> Path:
    page = (REPOSITORY / "docs/judging.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "longer.py").write_text(code)
    return folder / "longer.py"


@pytest.fixture(params=[*JUDGE_KINDS, "longer.py"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(judge_of_the_docs(tmp_path)) if request.param == "longer.py" else str(request.param)


def test_every_kind_is_planned_rehearsed_and_known_by_what_it_asks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(worlds.study(kind=name, model="m", price={"input": 1.0, "output": 1.0})))
    kind, study = judge_kind(name), parse_study(yaml.safe_load(file.read_text()), file)
    check_inputs(study)
    assert cautions(study) == []
    assert ("m", None) in hub_models(study) or not kind.serves
    assert {one.kind for one in rehearsed(study, "test").judges} == {"rules"}
    assert main(["plan", str(file), "--json"]) == 0
    rows = {row["stage"]: row for row in yaml.safe_load(capsys.readouterr().out)["stages"]}
    assert rows["verdicts"]["calls_left"] == 3 * 10 * 6
    assert (rows["verdicts"]["price"] > 0) == kind.paid
    (identity,) = identity_of_judges(study, {})
    assert identity["kind"] == kind.name
    assert len(kind.source_sha256) == 64


def test_a_judge_from_outside_judges_and_is_known_by_its_file(tmp_path: Path) -> None:
    file = judge_of_the_docs(tmp_path)
    assert len(file.read_text().splitlines()) <= 40
    run = worlds.world(tmp_path / "run", kind=str(file))
    run_shard(str(run.root), "verdicts", "one.Base.DPO.0")
    texts = {policy: run.table("answers", shard_ids=[f"{policy}.0"]).to_pylist() for policy in ("Base", "DPO")}
    length = {(policy, one["question_id"]): len(one["text"]) for policy, rows in texts.items() for one in rows}
    for row in run.table("verdicts", shard_ids=["one.Base.DPO.0"]).to_pylist():
        base, dpo = (length[policy, row["question_id"]] for policy in ("Base", "DPO"))
        assert base == dpo or row["winner"] == ("A" if base > dpo else "B")
    before = identity_of_judges(run.study, {})
    file.write_text(file.read_text() + "\n# another file\n")
    assert identity_of_judges(run.study, {}) != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "0 classes that are a JudgeKind"),
        ("1 / 0", "cannot be loaded"),
        ("from modpo_hpc.judging.kinds import LocalJudge\nclass J(LocalJudge):\n    pass", "lacks name, answer"),
    ],
)
def test_a_file_that_brings_no_judge(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "judge.py"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        judge_kind(str(file))


def test_a_kind_that_nobody_knows_is_refused_before_anything_is_made() -> None:
    with pytest.raises(InputError, match=r"judge\.kind.*no such kind.*rules, openai, batch, server"):
        check_inputs(parse_study(worlds.study(kind="opnai"), "study.yaml"))


def test_a_limit_of_dollars_that_cannot_bind_is_refused() -> None:
    with pytest.raises(InputError, match="cannot bind without a price"):
        parse_study(worlds.study(kind="openai", max_usd=5.0), "study.yaml")
