"""A study of tutoring, whole and offline: no word of it is about care, and nothing in the library needs one."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.requests import study_personas
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.run import Run
from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.study_of_tutoring import write_questions, write_survey

OF_CARE = re.compile(r"therap|patient\b|clinic|psych|counsel|mental health|empath", re.IGNORECASE)


@pytest.mark.slow
def test_a_study_of_tutoring_runs_to_its_report(tmp_path: Path, modpo) -> None:
    pupils, parents = (write_survey(tmp_path / f"{age}.csv", age, 12) for age in ("14", "41"))
    with counting_server(tmp_path) as (url, _):
        settings = {
            "data.file": write_questions(tmp_path / "questions.csv", 40), "data.test_size": 10,
            "personas.surveys": f"{{pupils: {pupils}, parents: {parents}}}", "personas.select": 12,
            "personas.train": 6, "personas.test": 6, "ranking.personas_per_question": 4,
            "judging.personas_per_question": 4, "models.base": "sandbox", "models.reward": "sandbox",
            "models.dtype": "float32", "models.teach_steps": 30, "judge.kind": "openai", "judge.model": "m-1",
            "judge.base_url": url, "generation.responses.max_tokens": 24, "generation.answers.max_tokens": 24,
            "shards": "{responses: 1, rankings: 1, scores: 1}", "rewards.folds": 2, "rewards.overlong": "cut",
            "rewards.search.trials": 1, "rewards.search.learning_rate": "[1.0e-3, 1.0e-3]",
            "rewards.search.batch_size": "[8]", "rewards.search.max_length": "[64]", "rewards.search.epochs": "[1, 1]",
            "alignment.training": "{epochs: 1, batch_size: 8, micro_batch_size: 8, lora_rank: 4, lora_alpha: 8}",
            "statistics.draws": 20, "toxicity.backends": "{words: {kind: words}}",
        }  # fmt: skip
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        done = modpo("run", "configs/tutoring/study.yaml", "--run", tmp_path / "run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = modpo("results", tmp_path / "run").stdout
    assert "MODPO_Tutor" in shown
    assert "Patience" in shown
    run = Run.open(tmp_path / "run")
    personas = pq.read_table(run.table_path("personas", "all"), partitioning=None)
    assert [name for name in personas.column_names if name.startswith("importance_")] == [
        "importance_patience", "importance_correctness", "importance_no_giving_away",
    ]  # fmt: skip
    judge = run.study.judges[0]
    criteria = load_criteria(run.study.criteria.files, run.study.criteria.rank)
    for persona in study_personas(run, "test"):
        request = JudgeRequest("judge", persona, criteria, "q", "How?", ("a", "b"))
        prompt = Keys({}, judge.prompt_order, judge.scene).prompt(request)
        assert "tutor" in prompt
        assert not OF_CARE.search(prompt)
    assert not OF_CARE.search(shown)
    assert not OF_CARE.search(run.study.generation.instruction)


LEFT_TO_SPEAK = ("prompts.py", "sandbox/", "human/", "exchange/", "report/human", "cli/human.py", "study/fidelity.py")


def test_the_library_speaks_of_no_domain() -> None:
    """Prompts, the sandbox, forms for clinicians and the authors' file formats are about therapy; no other code is."""
    root = REPOSITORY / "modpo_hpc"
    spoken = re.compile(r"therap(?!eutic\.yaml)|patient\b|patient_|clinic|psych|counsel", re.IGNORECASE)
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if not str(path.relative_to(root)).startswith(LEFT_TO_SPEAK)
        for line in path.read_text().splitlines()
        if spoken.search(line)
    ]
    assert found == []
