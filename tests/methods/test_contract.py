"""The contract of a method: whatever is registered is planned, rehearsed, trained or merged, answered and reported.

One of the methods comes from outside the package: IPO, from the file that the docs print.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.launch.estimate import plan_stages
from modpo_hpc.launch.profile import Profile
from modpo_hpc.methods import METHODS, Trained, known_methods
from modpo_hpc.pipeline import STAGES
from modpo_hpc.rehearsal.study import rehearsed
from modpo_hpc.run import Run
from modpo_hpc.stages.workload import Counts
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.methods.world import PAGE, method_of_the_docs, run_whole, study_of_all

NAMES = (*METHODS, "ipo")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of the study of all methods, from the first stage to the report."""
    folder = tmp_path_factory.mktemp("methods")
    with pytest.MonkeyPatch.context() as patch, counting_server(folder) as (url, _):
        patch.setenv("MODPO_LOGS", str(folder / "logs"))
        patch.setenv("OPENAI_API_KEY", "none")
        umask = os.umask(0o077)
        os.umask(umask)
        yield run_whole(folder / "run", study_of_all((method_of_the_docs(folder),), url))
        os.umask(umask)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of_all((method_of_the_docs(tmp_path),), "http://127.0.0.1:9/v1")


def test_the_method_of_the_docs_is_one_short_file(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    assert len(file.read_text().splitlines()) <= 40
    assert set(known_methods((file,))) - set(known_methods()) == {"ipo"}


def test_every_method_is_planned(study: Study) -> None:
    left = {stage.name: stage.shards(study) for stage in STAGES}
    rows = {row.stage: row for row in plan_stages(study, Profile(), Counts(12, 4), left, {})}
    trained = [name for name, policy in study.alignment.policies.items() if policy.stage == "policies"]
    assert rows["policies"].workload.items == rows["policies"].shards == len(trained)
    assert {"sft", "dpo", "modpo", "joint_dpo", "ipo"} <= set(trained)
    assert rows["soups"].shards == 2
    assert rows["conditioned"].shards == 1
    assert rows["answers"].shards == len(study.alignment.policies) == len(NAMES) + 1


def test_every_method_is_rehearsed(study: Study) -> None:
    stand_in = rehearsed(study, "test")
    assert stand_in.alignment.policies == study.alignment.policies
    assert stand_in.alignment.policies["ipo"].label == "IPO"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_made_answered_and_judged(finished: Run, name: str) -> None:
    policy = finished.study.alignment.policies[name]
    if policy.stage:
        assert (finished.folder(policy.stage) / name / "adapter" / "adapter_config.json").is_file()
    if isinstance(policy, Trained):
        rows = [json.loads(line) for line in (finished.folder(str(policy.stage)) / name / "log.jsonl").open()]
        assert rows[0]["loss"] > 0
        assert rows[0]["grad_norm"] > 0
    answers = finished.table("answers", ["policy"]).to_pydict()["policy"]
    assert answers.count(name) == 4
    judged = finished.table("verdicts", ["policy_a", "policy_b"]).to_pydict()
    assert name in {*judged["policy_a"], *judged["policy_b"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_reported(finished: Run, name: str) -> None:
    policy, page = finished.study.alignment.policies[name], next(finished.folder("report").glob("*.html")).read_text()
    assert policy.label in page
    if isinstance(policy, Trained):
        summary = json.loads((finished.folder(str(policy.stage)) / name / "summary.json").read_text())
        for column, value in policy.figures(summary).items():
            assert column in page
            assert value in page


def test_a_first_step_of_ipo_has_the_loss_that_the_paper_gives(finished: Run) -> None:
    """At the start ``h`` is 0, so the loss is ``(target / (2 beta))**2``."""
    first = json.loads((finished.folder("policies") / "ipo" / "log.jsonl").read_text().splitlines()[0])
    beta = finished.study.alignment.training_of("ipo").beta
    assert first["loss"] == pytest.approx((1 / (2 * beta)) ** 2, rel=1e-4)
    assert first["distance"] == pytest.approx(-1 / (2 * beta), rel=1e-4)


def test_the_study_of_the_docs_is_read(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    text = text.replace("configs/demo.yaml", str(REPOSITORY / "configs/demo.yaml")).replace("[ipo.py]", f"[{file}]")
    (tmp_path / "study.yaml").write_text(text)
    policy = load_study(tmp_path / "study.yaml").alignment.policies["IPO_Empathy"]
    assert policy.model_dump()["target"] == 0.5
    assert policy.file_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_file_is_another_method(tmp_path: Path) -> None:
    file = method_of_the_docs(tmp_path)
    before = known_methods((file,))["ipo"](criteria={"empathy": 1}).file_sha256
    file.write_text(file.read_text() + "\n# another\n")
    assert known_methods((file,))["ipo"](criteria={"empathy": 1}).file_sha256 != before


REFUSED = {
    "no method": ("x = 1\n", "has no class that is a modpo_hpc.methods.Method"),
    "no Python": ("def (:\n", "cannot be loaded: SyntaxError"),
    "no loss": (
        "from typing import Literal\nfrom modpo_hpc.methods import Trained\n"
        "class Mine(Trained):\n    label = 'mine'\n    method: Literal['mine'] = 'mine'\n",
        "lacks a default of its field method, a label or a loss",
    ),
    "a name that is taken": (
        "from typing import Literal\nfrom modpo_hpc.methods.dpo import DPO\n"
        "class Mine(DPO):\n    method: Literal['dpo'] = 'dpo'\n",
        "brings a method 'dpo', and there is one of that name",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_brings_no_method_is_an_input_error(tmp_path: Path, kind: str) -> None:
    code, reason = REFUSED[kind]
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(InputError, match=reason) as caught:
        load_study(REPOSITORY / "configs/demo.yaml", [f"alignment.methods=[{tmp_path / 'mine.py'}]"])
    assert caught.value.field == "alignment.policies"


WRONG = {
    "X={method: nothing}": ("X", "there is no method 'nothing'; methods are: base, sft"),
    "X={method: dpo, criteria: {empathy: 1}, sources: {}}": ("X", "method dpo has no field 'sources'"),
    "X={method: base, criteria: {empathy: 1}}": ("X", "method base has no field 'criteria'; it has none"),
    "X={method: dpo, criteria: {empathy: 1, safety: 1}}": ("X", "takes exactly one criterion, here are 2"),
    "X={method: modpo, criteria: {empathy: 1}}": ("X", "takes at least two criteria, here are 1"),
    "X={method: modpo, criteria: {empathy: 0, safety: 1}}": ("X", "needs a weight above zero"),
    "X={method: joint_dpo, criteria: {empathy: 0, safety: 0}}": ("X", "at least one criterion needs a weight"),
    "X={method: dpo, criteria: {empathy: -1}}": ("X", "weights are zero or more"),
    "X={method: soup, sources: {DPO_Safety: 1}}": ("X", "at least two sources"),
    "DPO_Soup.svd_rank=0": ("DPO_Soup.svd_rank", "greater than or equal to 1"),
    "DPO_Soup.sources={DPO_Safety: 1, Base: 1}": (None, "names 'Base', which is no trained policy"),
    "X={method: dpo, criteria: {kindness: 1}}": (None, "names 'kindness', which is not in criteria.rank"),
    "X={method: remote}": (None, "generation.remote has no endpoint of that name"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_method_does_not_take_is_refused_by_field(wrong: str) -> None:
    place, reason = WRONG[wrong]
    with pytest.raises(InputError) as caught:
        load_study(REPOSITORY / "configs/demo.yaml", [f"alignment.policies.{wrong}"])
    assert reason in str(caught.value)
    assert caught.value.field == (f"alignment.policies.{place}" if place else None)
