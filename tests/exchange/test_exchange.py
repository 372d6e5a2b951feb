"""The authors' formats in and out: a run goes on from them, a round trip changes nothing, faults are named."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pandas as pd
import pytest

from modpo_hpc.checks import cautions
from modpo_hpc.core.markers import IMPORTED, Marker, describe_output, write_marker
from modpo_hpc.data.questions import study_questions
from modpo_hpc.errors import InputError
from modpo_hpc.exchange.bundle import check_bundle, files_in, read_bundle
from modpo_hpc.exchange.exports import FORMATS, write_out
from modpo_hpc.exchange.imports import bring_in, unneeded
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from modpo_hpc.sandbox.compose import compose_reply
from modpo_hpc.sandbox.questions import invented_posts
from modpo_hpc.seeds import rng_of
from modpo_hpc.study import Study, load_study
from tests.conftest import REPOSITORY
from tests.study_of_tutoring import write_questions, write_survey

TRAIN, TEST, POLICIES = 8, 6, ("Base", "DPO_Empathy", "MODPO_Empathy")
OVERRIDES = [
    "personas={select: 9, train: 5, test: 4}",
    "ranking.personas_per_question=5",
    "judging.personas_per_question=4",
    "criteria.rank=[empathy, safety]",
    "alignment.policies={Base: {method: base}, DPO_Empathy: {method: dpo, criteria: {empathy: 1}}, "
    "MODPO_Empathy: {method: modpo, criteria: {empathy: 0.5, safety: 0.5}}}",
    "judging.phases={phase1: {policies: [Base, DPO_Empathy, MODPO_Empathy], criteria: [empathy, safety]}}",
    "statistics.draws=20",
    "toxicity.backends={}",
]
Modpo = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    card = tmp_path_factory.mktemp("card") / "card.md"
    card.write_text("---\nlicense: cc0-1.0\n---\n\n# Posts\n\nNobody wrote these.\n")
    return load_study("configs/demo.yaml", [*OVERRIDES, f"data.card={card}"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder as the authors would send it, of invented content; both persona files start at persona_000."""
    folder = tmp_path / "authors"
    folder.mkdir()
    posts = invented_posts(TRAIN + TEST, 5).to_dict("records")
    questions = {f"post{place}": one["text"] for place, one in enumerate(posts)}
    train, test = list(questions)[:TRAIN], list(questions)[TRAIN:]
    for split, size in (("train", 5), ("test", 4)):
        people = {f"persona_{place:03d}": persona_text(place, split) for place in range(size)}
        write_json(folder / f"{split}_personas.json", people)
    write_csv(folder / "questions_train.csv", [{"question_id": one, "question_text": questions[one]} for one in train])
    write_csv(folder / "questions_test.csv", [{"question_id": one, "question_text": questions[one]} for one in test])
    rows = [
        {
            "question_id": one,
            "question_text": questions[one],
            "response_id": number,
            "response_text": compose_reply(questions[one], rng_of(one, number)),
        }
        for one in train
        for number in range(1, 6)
    ]
    write_csv(folder / "responses_train.csv", rows)
    texts = {(row["question_id"], row["response_id"]): row["response_text"] for row in rows}
    for criterion in ("empathy", "safety"):
        ranked = {one: rng_of(one, criterion).permutation(5) + 1 for one in train}

        def shown(one: str, number: int) -> dict[str, Any]:
            return {"response_id": int(number), "response_text": texts[(one, int(number))]}

        head = {one: {"question_id": one, "question_text": questions[one]} for one in train}
        write_json(
            folder / f"{criterion}_pairs.json",
            [
                {**head[one], "chosen": shown(one, ranked[one][0]), "rejected": shown(one, ranked[one][-1])}
                for one in train
            ],
        )
        write_json(
            folder / f"{criterion}_rankings.json",
            [
                {
                    **head[one],
                    "ranking": [{"rank": rank, **shown(one, n)} for rank, n in enumerate(ranked[one], start=1)],
                }
                for one in train
            ],
        )
    for model in ("base_model", "dpo_empathy", "modpo_empathy"):
        write_csv(
            folder / f"{model}_responses.csv",
            [
                {
                    "question_id": one,
                    "question_text": questions[one],
                    "response_text": compose_reply(questions[one], rng_of(one, model)),
                    "model_name": model,
                }
                for one in test
            ],
        )
    return folder


def persona_text(place: int, split: str) -> str:
    return (
        f"You are roleplaying as a patient ({split} {place}).\n\nDEMOGRAPHICS:\n\u2022 Age: 25-34\n"
        "\u2022 Gender: Female\n\u2022 Ethnicity: White, Asian\n\nTHERAPY PREFERENCES:\n"
        f"\u2022 Empathy and warmth: {1 + place % 5}/5 importance\n"
        "\u2022 Active listening: 4.0/5 importance"
    )


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def imported(folder: Path, run: Path, study: Study) -> Run:
    bundle = read_bundle(files_in([folder]), study, {})
    check_bundle(bundle, study)
    the_run = Run.create(run, study)
    bring_in(the_run, bundle)
    return the_run


def test_every_stage_is_brought_in_and_nothing_before_it_is_wanted(files: Path, tmp_path: Path, study: Study) -> None:
    run = imported(files, tmp_path / "run", study)
    for stage in ("questions", "personas", "responses", "pairs", "answers", "models", "rankings", "policies", "soups"):
        assert run.missing(stage) == [], stage
    assert run.missing("verdicts")
    personas = run.table("personas").to_pandas()
    assert personas.persona_id.is_unique
    assert personas.split.value_counts().to_dict() == {"train": 5, "test": 4}
    assert personas.importance_empathy.tolist()[:5] == [1, 2, 3, 4, 5]
    assert personas.importance_active_listening.tolist() == [4] * 9
    assert personas.importance_patient_autonomy.isna().all()
    assert set(personas.primary_ethnicity) == {"White"}
    pairs = run.table("pairs").to_pandas()
    assert len(pairs) == 2 * TRAIN
    theirs = {one["question_id"]: one for one in json.loads((files / "empathy_pairs.json").read_text())}
    for row in pairs[pairs.criterion == "empathy"].itertuples():
        assert row.chosen == f"{row.question_id}.r{theirs[row.question_id]['chosen']['response_id'] - 1}"
        votes = dict(zip(row.responses, row.votes, strict=True))
        assert votes[row.chosen] == 10
        assert votes[row.rejected] == -10
        assert row.margin == 20


def test_the_study_goes_on_from_there(files: Path, tmp_path: Path, modpo: Modpo) -> None:
    settings = [word for one in OVERRIDES for word in ("--set", one)]
    first = modpo("import", "configs/demo.yaml", files, "--run", tmp_path / "run", *settings)
    assert first.returncode == 0, first.stderr
    assert "not needed any more: models, rankings" in first.stdout
    done = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--until", "report", *settings)
    assert done.returncode == 0, done.stderr + done.stdout
    run = Run.open(tmp_path / "run")
    assert run.table("verdicts").num_rows == 3 * TEST * 4 * 2
    assert (tmp_path / "run" / "report" / "report.html").stat().st_size > 10_000
    rates = pd.read_parquet(tmp_path / "run" / "statistics" / "win_rates.parquet")
    assert len(rates) == 6
    for path in (tmp_path / "run").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_rankings_and_the_vote_go_on_from_imported_responses(files: Path, tmp_path: Path, modpo: Modpo) -> None:
    kept = [
        "train_personas.json",
        "test_personas.json",
        "questions_train.csv",
        "questions_test.csv",
        "responses_train.csv",
    ]
    settings = [word for one in OVERRIDES for word in ("--set", one)]
    given = [files / name for name in kept]
    first = modpo("import", "configs/demo.yaml", *given, "--run", tmp_path / "run", *settings, "--json")
    assert json.loads(first.stdout)["rows"] == {
        "questions": TRAIN + TEST,
        "personas": 9,
        "responses": 5 * TRAIN,
    }
    done = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--only", "rankings", *settings)
    assert done.returncode == 0, done.stderr + done.stdout
    assert Run.open(tmp_path / "run").table("rankings").num_rows == TRAIN * 5 * 2


def test_a_round_trip_gives_the_same_tables(files: Path, tmp_path: Path, study: Study) -> None:
    first = imported(files, tmp_path / "run", study)
    write_out(first, tmp_path / "out", ("authors",))
    second = imported(tmp_path / "out" / "authors", tmp_path / "again", study)
    for stage in ("questions", "personas", "responses", "pairs", "answers"):
        assert first.table(stage).equals(second.table(stage)), stage
    write_out(second, tmp_path / "out2", ("authors",))
    names = sorted(path.name for path in (tmp_path / "out" / "authors").iterdir())
    assert len(names) == 13
    for name in names:
        assert (tmp_path / "out" / "authors" / name).read_bytes() == (tmp_path / "out2" / "authors" / name).read_bytes()
    for run in (first, second):
        for shard in run.shard_ids("verdicts"):
            run_shard(str(run.root), "verdicts", shard)
        run_shard(str(run.root), "statistics", "all")
    tables = sorted(path.name for path in first.folder("statistics").glob("*.csv"))
    assert {"win_rates.csv", "mcnemar.csv", "ranking.csv", "bradley_terry.csv"} <= set(tables)
    for name in tables:
        assert (first.folder("statistics") / name).read_bytes() == (second.folder("statistics") / name).read_bytes()


def test_only_what_the_sandbox_made_carries_its_mark(files: Path, tmp_path: Path) -> None:
    """Personas and posts that were brought in are nobody's invention; without them the run says what is."""
    real = ["judge={kind: openai, model: some-model}", "models={base: some/model, reward: some/encoder}"]
    study = load_study("configs/demo.yaml", [*OVERRIDES, *real])
    assert study.simulated == ("posts", "personas")
    invented = Run.create(tmp_path / "invented", study)
    assert invented.sandbox_mark == "sandbox: invented posts, invented personas"
    assert imported(files, tmp_path / "run", study).sandbox_mark is None
    for name in ("train", "test"):
        (files / f"{name}_personas.json").unlink()
    assert imported(files, tmp_path / "without", study).sandbox_mark == "sandbox: invented personas"


def test_imported_personas_are_a_reason_to_warn_of_an_outside_judge(files: Path, tmp_path: Path) -> None:
    outside = load_study("configs/demo.yaml", [*OVERRIDES, "judge={kind: openai, model: some-model}"])
    run = imported(files, tmp_path / "run", outside)
    # nine people in all, of one age group, gender and ethnicity: nobody stands out
    assert cautions(outside, run) == []
    people = json.loads((files / "test_personas.json").read_text())
    people["persona_000"] = people["persona_000"].replace("25-34", "65+")
    write_json(files / "test_personas.json", people)
    (caution,) = cautions(outside, imported(files, tmp_path / "other", outside))
    assert "1 of 9 personas" in caution


def test_personas_of_the_survey_survive_the_round_trip(tmp_path: Path, modpo: Modpo) -> None:
    """Population, groups and ratings too, and everything that the sandbox's survey holds."""
    modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--only", "personas")
    assert modpo("export", tmp_path / "run", "--to", tmp_path / "out", "--format", "authors").returncode == 0
    back = modpo("import", "configs/demo.yaml", tmp_path / "out" / "authors", "--run", tmp_path / "again")
    assert back.returncode == 0, back.stderr
    first, second = (Run.open(tmp_path / name).table("personas") for name in ("run", "again"))
    assert first.equals(second)


@pytest.mark.slow
def test_datasets_are_what_trl_takes(files: Path, tmp_path: Path, study: Study) -> None:
    from datasets import get_dataset_config_names, load_dataset
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    run = imported(files, tmp_path / "run", study)
    written = write_out(run, tmp_path / "out", ("datasets",))
    assert written["datasets/preferences_empathy"] == TRAIN
    folder = str(tmp_path / "out" / "datasets")
    assert set(get_dataset_config_names(folder)) == {
        "preferences_empathy",
        "preferences_safety",
        "responses",
        "answers",
    }
    example = load_dataset(folder, "preferences_empathy", split="train", cache_dir=str(tmp_path / "cache"))[0]
    assert is_conversational(example)

    class Tokenizer:
        chat_template = "x"

        def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
            return "".join(f"<{one['role']}>{one['content']}" for one in messages)

    text = maybe_apply_chat_template(example, Tokenizer())
    assert text["chosen"].startswith("<assistant>")
    assert text["prompt"].startswith("<user>")
    answers = load_dataset(folder, "answers", split="test", cache_dir=str(tmp_path / "cache"))
    assert answers.num_rows == len(POLICIES) * TEST
    card = (tmp_path / "out" / "datasets" / "README.md").read_text()
    assert "Empathy" in card
    assert run.sandbox_mark in card


def test_bytes_of_any_text_survive_the_tools_own_files(files: Path, tmp_path: Path, study: Study) -> None:
    """A bare carriage return, quotes, commas, line separators of Unicode, spaces at the ends."""
    odd = 'a\rb "c", d\r\n\u2028e\x0b '
    for path in files.glob("*.csv"):
        rows = list(csv.DictReader(path.open(newline="", encoding="utf-8")))
        if "response_text" in rows[0]:
            rows[0]["response_text"] += odd
            write_csv_to(path, rows)
    for path in files.glob("*.json"):
        if path.name.startswith(("empathy", "safety")):
            path.unlink()
    first = imported(files, tmp_path / "run", study)
    assert odd in first.table("responses")["text"].to_pylist()[0]
    write_out(first, tmp_path / "out", ("authors",))
    second = imported(tmp_path / "out" / "authors", tmp_path / "again", study)
    for stage in ("responses", "answers"):
        assert first.table(stage).equals(second.table(stage)), stage


def write_csv_to(path: Path, rows: list[dict[str, Any]]) -> None:
    from modpo_hpc.data import files as csv_files

    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv_files.write_csv(stream, list(rows[0]), rows)


def test_ratings_of_another_studys_criteria_survive_the_round_trip(tmp_path: Path) -> None:
    surveys = {
        one: write_survey(tmp_path / f"{one}.csv", age, 12) for one, age in (("pupils", "14"), ("parents", "41"))
    }
    settings = [
        f"personas.surveys={{pupils: {surveys['pupils']}, parents: {surveys['parents']}}}",
        "personas.select=12", "personas.train=6", "personas.test=6",
        "ranking.personas_per_question=4", "judging.personas_per_question=4",
        f"data.file={write_questions(tmp_path / 'questions.csv', 40)}", "data.test_size=10",
    ]  # fmt: skip
    study = load_study("configs/tutoring/study.yaml", settings)
    first = Run.create(tmp_path / "run", study)
    run_shard(str(first.root), "personas", "all")
    write_out(first, tmp_path / "out", ("authors",))
    told = json.loads((tmp_path / "out" / "authors" / "all_personas.json").read_text())["test_personas"][0]
    assert set(told["ratings"]) == {"patience", "correctness", "no_giving_away"}
    assert None not in told["ratings"].values()
    second = imported(tmp_path / "out" / "authors", tmp_path / "again", study)
    assert first.table("personas").equals(second.table("personas"))
    (tmp_path / "out" / "authors" / "all_personas.json").unlink()
    third = imported(tmp_path / "out" / "authors", tmp_path / "texts_alone", study)
    for column in ("importance_patience", "importance_correctness", "importance_no_giving_away"):
        assert first.table("personas")[column].equals(third.table("personas")[column]), column


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def entry(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        write_json(folder / name, content)

    return apply


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (edit("empathy_pairs.json", "]", ""), r"empathy_pairs.json: line \d+, column \d+: this is no JSON"),
        (entry("empathy_pairs.json", lambda all: all[3].pop("chosen")), r"field '\[3\]': chosen is missing"),
        (entry("empathy_pairs.json", lambda all: all.append(all[0])), "this question occurs twice"),
        (
            entry("safety_rankings.json", lambda all: all[1]["ranking"][0].update(rank=2)),
            r"\[1\].ranking.*ranks are not",
        ),
        (
            entry("safety_rankings.json", lambda all: all[1]["ranking"][0].update(response_text="other")),
            "another text in another of the files",
        ),
        (
            entry("safety_pairs.json", lambda all: all[0].update(chosen=all[0]["rejected"], rejected=all[0]["chosen"])),
            "do not agree on the best and the worst",
        ),
        (entry("train_personas.json", lambda all: all.update(persona_001=7)), "persona_001.*has no text"),
        (entry("train_personas.json", lambda all: all.pop("persona_001")), "hold 4 train personas, the study 5"),
        (lambda folder: (folder / "test_personas.json").unlink(), "no test personas"),
        (lambda folder: (folder / "safety_pairs.json").rename(folder / "warmth_pairs.json"), "'warmth'.*does not rank"),
        (
            lambda folder: [(folder / f"safety_{one}.json").unlink() for one in ("pairs", "rankings")],
            "'safety'.*no pairs or rankings file",
        ),
        (lambda folder: (folder / "base_model_responses.csv").unlink(), "'Base'.*no answers of it"),
        (edit("base_model_responses.csv", "base_model", "gpt"), "'gpt'.*no policy of the study"),
        (edit("base_model_responses.csv", "post9,", "post8,"), "line \\d+|occurs twice|another text"),
        (edit("questions_test.csv", "question_text", "text"), "no known format"),
        (lambda folder: (folder / "questions_test.csv").write_text("question_id,question_text\n"), "no rows"),
        (
            lambda folder: (folder / "questions_test.csv").write_bytes(b"question_id,question_text\n1,\xff\n"),
            "not UTF-8",
        ),
        (lambda folder: (folder / "questions_test.csv").write_text("question_id,question_text\n1,a,b\n"), "line 2"),
        (lambda folder: (folder / "notes.json").write_text("{}"), "no known format"),
        (lambda folder: (folder / "questions_train.csv").rename(folder / "questions.csv"), "train.*or.*test"),
    ],
)
def test_a_fault_is_named_and_nothing_is_written(
    damage: Callable[[Path], None], expected: str, files: Path, tmp_path: Path, study: Study
) -> None:
    damage(files)
    with pytest.raises(InputError, match=expected):
        check_bundle(read_bundle(files_in([files]), study, {}), study)
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_with_code_2(files: Path, tmp_path: Path, modpo: Modpo) -> None:
    (files / "notes.json").write_text("{}")
    settings = [word for one in OVERRIDES for word in ("--set", one)]
    refused = modpo("import", "configs/demo.yaml", files, "--run", tmp_path / "run", *settings)
    assert refused.returncode == 2
    assert "notes.json" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_nothing_of_a_run_is_overwritten(files: Path, tmp_path: Path, study: Study) -> None:
    run = imported(files, tmp_path / "run", study)
    bundle = read_bundle(files_in([files]), study, {})
    with pytest.raises(InputError, match="has questions already"):
        bring_in(run, bundle)
    with pytest.raises(InputError, match="holds files already"):
        write_out(run, files, ("authors",))


def test_unneeded_stages_follow_from_the_graph(study: Study) -> None:
    assert unneeded(["questions", "personas", "responses"], study) == []
    assert unneeded(["questions", "responses", "pairs"], study) == ["rankings"]
    assert unneeded(["answers"], study)[0] == "models"
    assert "personas" not in unneeded(["questions", "answers"], study)
    scored = study.model_copy(update={"rewards": study.rewards.model_copy(update={"score_answers": True})})
    assert "rewards" in unneeded(["answers"], study)
    assert "rewards" not in unneeded(["answers"], scored)


def test_a_pairs_file_alone_is_enough_for_alignment(files: Path, tmp_path: Path, study: Study) -> None:
    for name in ("responses_train.csv", "empathy_rankings.json", "safety_rankings.json"):
        (files / name).unlink()
    for path in files.glob("*_responses.csv"):
        path.unlink()
    run = imported(files, tmp_path / "run", study)
    assert run.missing("responses") == run.missing("pairs") == []
    responses = set(run.table("responses")["response_id"].to_pylist())
    for row in run.table("pairs").to_pylist():
        assert {row["chosen"], row["rejected"]} <= responses
        assert row["votes"] in ([10, -10], [-10, 10])


def test_what_was_imported_is_not_made_again_by_mistake(
    files: Path, tmp_path: Path, study: Study, modpo: Modpo
) -> None:
    run = imported(files, tmp_path / "run", study)
    before = run.table("personas")
    refused = modpo("rerun", tmp_path / "run", "personas", "all")
    assert refused.returncode == 2
    assert "was imported" in refused.stderr
    assert run.table("personas").equals(before)


DOCUMENTED = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "authors-files.md").read_text(), re.DOTALL)


@pytest.fixture
def trained(files: Path, tmp_path: Path, study: Study) -> Run:
    """An imported run with the sandbox's base model, untaught, and an adapter of each policy that is not zero."""
    from peft import LoraConfig, get_peft_model

    from modpo_hpc.sandbox.language_model import make_language_model, make_tokenizer

    for path in files.glob("*_responses.csv"):
        path.unlink()
    run = imported(files, tmp_path / "run", study)
    tokenizer = make_tokenizer([one.text for one in study_questions(run, "train")])
    base = make_language_model(tokenizer)
    place = run.folder("models") / "base"
    base.save_pretrained(place)
    tokenizer.save_pretrained(place)
    (run.folder("models") / "base.json").write_text(json.dumps({"sandbox": "base"}))
    done("models", "base", run, place / "config.json")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    for policy in ("DPO_Empathy", "MODPO_Empathy"):
        folder = run.folder("policies") / policy / "adapter"
        adapted.save_pretrained(folder)
        done("policies", policy, run, folder / "adapter_model.safetensors")
    return run


def done(stage: str, shard: str, run: Run, output: Path) -> None:
    outputs = {output.name: describe_output(output)}
    marker = Marker(stage, shard, IMPORTED, outputs, 0.0, 0.0, "here", None, 1)
    write_marker(run.folder(stage), marker)


def test_the_lines_of_the_docs_load_what_is_exported(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """datasets, PEFT and TRL, as docs/authors-files.md prints them, after the run itself was moved away."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    write_out(trained, tmp_path / "out", FORMATS)
    folder = tmp_path / "out" / "adapters"
    assert {one.name for one in folder.iterdir()} == {"base_model", "DPO_Empathy", "MODPO_Empathy"}
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in (".json", ".md"):
            assert str(tmp_path) not in path.read_text(), f"{path.name} names a place of this machine"
    card = (folder / "MODPO_Empathy" / "README.md").read_text()
    assert "| safety | 0.5 |" in card
    assert trained.sandbox_mark in card
    assert "## Posts\n\nNobody wrote these.\n" in card
    assert "license" not in card, "that of the data is not that of the adapter"
    trained.root.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names: dict[str, Any] = {}
    assert len(DOCUMENTED) == 3
    for block in DOCUMENTED:
        exec(block, names)
    assert names["pairs"].num_rows == TRAIN
    assert (tmp_path / "out" / "trl" / "checkpoint-1" / "adapter_model.safetensors").exists()
    loaded, kept = (
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval()
        for base, adapter in (
            (folder / "base_model", folder / "DPO_Empathy"),
            (
                tmp_path / "elsewhere" / "models" / "base",
                tmp_path / "elsewhere" / "policies" / "DPO_Empathy" / "adapter",
            ),
        )
    )
    with torch.inference_mode():
        assert torch.equal(loaded(torch.arange(10)[None]).logits, kept(torch.arange(10)[None]).logits)
