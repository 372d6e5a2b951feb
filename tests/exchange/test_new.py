"""A study of another field from a file of posts and a sentence a criterion: what is written is a study that goes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from modpo_hpc.data.files import read_csv
from modpo_hpc.exchange.source_card import TO_FILL_IN
from modpo_hpc.generation.records import RESPONSES
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.personas import records
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.synthetic_verdicts import fill

CRITERIA = ("--criterion", "clarity=It can be followed at the stove.", "--criterion", "thrift=It wastes nothing.")
POSTS = [(f"c{number}", f'How long, "roughly", do I cook {number + 2} eggs,\nand why?') for number in range(60)]


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    with open(tmp_path / "cook.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("id", "question"), *POSTS])
    return tmp_path / "cook.csv"


def test_a_study_of_cooking_is_written_shown_and_planned(posts: Path, tmp_path: Path, modpo) -> None:
    made = modpo(
        "new", tmp_path / "cook", "--posts", posts, "--text-column", "question", "--id-column", "id", *CRITERIA
    )
    assert made.returncode == 0, made.stderr
    assert "60 rows read from 120 lines (60 rows run over several lines); dropped 0; 60 posts kept" in made.stdout
    assert made.stdout.count("It can be followed at the stove.") == made.stdout.count("--- the judge reads:") == 4
    assert made.stdout.count("(answer 5)") == 2
    assert "810 judge calls" in made.stdout
    assert "&id" not in (tmp_path / "cook" / "study.yaml").read_text()
    assert "eggs" in made.stdout
    assert [tuple(row.values()) for _, row in read_csv(tmp_path / "cook" / "posts.csv").rows] == POSTS
    study = load_study(tmp_path / "cook" / "study.yaml")
    assert study.simulated == ("judge", "models", "personas")
    people = records.build(study.personas, study.seed).personas
    assert {row["split"] for row in people} == {"train", "test"}
    assert all(row["importance_clarity"] in range(1, 6) for row in people)
    planned = modpo("plan", tmp_path / "cook" / "study.yaml", "--json")
    assert json.loads(planned.stdout)["questions"] == {"train": 45, "test": 15}, planned.stderr
    card = (tmp_path / "cook" / "card.md").read_text()
    assert "File: `cook.csv`, of its columns `id` (id) and `question` (text), kept in `posts.csv`" in card
    assert "60 rows read from 120 lines (60 rows run over several lines); dropped 0; 60 posts kept" in card
    assert "nobody was asked" in card
    assert card.count(TO_FILL_IN) == 5
    assert str(tmp_path / "cook" / "card.md") in made.stdout
    again = modpo("new", tmp_path / "cook", "--posts", posts, "--text-column", "question", *CRITERIA)
    assert again.returncode == 2
    assert "holds files already" in again.stderr


def test_posts_may_be_json_lines_or_a_dataset(tmp_path: Path, modpo) -> None:
    lines = tmp_path / "cook.jsonl"
    lines.write_text("".join(json.dumps({"question": text}) + "\n" for _, text in POSTS))
    made = modpo("new", tmp_path / "one", "--posts", lines, "--text-column", "question", *CRITERIA)
    assert made.returncode == 0, made.stderr
    (tmp_path / "dataset").mkdir()
    lines.rename(tmp_path / "dataset" / "train.jsonl")
    made = modpo("new", tmp_path / "two", "--posts", tmp_path / "dataset", "--text-column", "question", *CRITERIA)
    assert made.returncode == 0, made.stderr
    texts = [text for _, text in POSTS]
    for name in ("one", "two"):
        assert [row["text"] for _, row in read_csv(tmp_path / name / "posts.csv").rows] == texts


def test_a_survey_of_ones_own_gives_groups_and_ratings(posts: Path, tmp_path: Path, modpo) -> None:
    survey = tmp_path / "people.csv"
    with open(survey, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ("Your age", "Gender", "How important is clarity?", "How important is thrift?", "Favourite dish")
        )
        writer.writerows((20 + n, ("woman", "man")[n % 2], 1 + n % 5, 5 - n % 5, f"dish {n}") for n in range(14))
    made = modpo(
        "new", tmp_path / "own", "--posts", posts, "--text-column", "question", "--id-column", "id", "--survey", survey,
        *CRITERIA,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    study = load_study(tmp_path / "own" / "study.yaml")
    assert "personas" not in study.simulated
    people = records.build(study.personas, study.seed).personas
    for row in people:
        assert "dish" in row["text"]
        assert row["importance_clarity"] + row["importance_thrift"] == 6
    assert {row["gender"] for row in people} == {"Female", "Male"}
    card = (tmp_path / "own" / "card.md").read_text()
    assert (
        "File: `people.csv`, its columns and what they are read as: `Your age` (age_group), `Gender` (gender), " in card
    )
    assert "`Favourite dish` (told_favourite_dish)" in card
    assert card.count(TO_FILL_IN) == 9


def test_people_may_be_texts(posts: Path, tmp_path: Path, modpo) -> None:
    people, told = tmp_path / "people.jsonl", "I cook for {} children, and I am short of time, money; never of hunger."
    rows = [{"text": told.format(n), "Age": 20 + 5 * n, "How important is thrift?": 1 + n % 5} for n in range(14)]
    people.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = modpo(
        "new", tmp_path / "own", "--posts", posts, "--text-column", "question", "--personas", people, *CRITERIA
    )
    assert made.returncode == 0, made.stderr
    study = load_study(tmp_path / "own" / "study.yaml")
    assert "personas" not in study.simulated
    found = records.build(study.personas, study.seed).personas
    texts = {told.format(n): 1 + n % 5 for n in range(14)}
    for row in found:
        (text,) = [one for one in texts if f"- {one}\n" in row["text"]]
        assert row["importance_thrift"] == texts[text]
    assert "- I cook for" in made.stdout
    both = modpo("new", tmp_path / "two", "--posts", posts, "--text-column", "question", "--personas", people,
                 "--survey", people, *CRITERIA)  # fmt: skip
    assert both.returncode == 2
    assert "both are given" in both.stderr


def test_the_words_of_the_user_travel_with_what_is_exported(posts: Path, tmp_path: Path, modpo) -> None:
    """What ``modpo new`` leaves open is said at every export; what is filled in stands in the dataset card."""
    given = ("--posts", posts, "--text-column", "question", "--id-column", "id")
    assert modpo("new", tmp_path / "cook", *given, *CRITERIA).returncode == 0
    run = tmp_path / "run"
    made = Run.create(run, load_study(tmp_path / "cook" / "study.yaml"))
    for stage in ("questions", "personas"):
        run_shard(str(run), stage, "all")
    fill(made, "responses", {shard: ([], RESPONSES) for shard in made.shard_ids("responses")})
    exported = modpo("export", run, "--to", tmp_path / "one", "--format", "datasets")
    card = tmp_path / "cook" / "card.md"
    assert f"{card}: 5 entries still say {TO_FILL_IN}" in exported.stdout, exported.stderr
    card.write_text(card.read_text().replace(TO_FILL_IN, "Asked at my stall.").replace("unknown", "cc-by-4.0"))
    assert json.loads(modpo("export", run, "--to", tmp_path / "two", "--json").stdout)["unfilled"] == 0
    _, head, told = (tmp_path / "two" / "datasets" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    assert "## Where the data of cook come from\n\n### Posts\n\n- What this is: Asked at my stall.\n" in told
    assert "- Questions: posts.csv: 60 rows read from 120 lines" in told
    assert "- Personas: 12 of 24 participants (invented); 2 copies and 0 below the quality floor of 0 left out" in told
    assert TO_FILL_IN not in told
    card.write_text("---\nlicense: [\n---\n")
    broken = modpo("export", run, "--to", tmp_path / "three")
    assert broken.returncode == 2
    assert "card.md" in broken.stderr
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text-column", "body", *CRITERIA), "no column 'body'"),
        (("--text-column", "question"), "needs a criterion"),
        (("--text-column", "question", "--criterion", "clarity"), "a name and a sentence"),
        (("--text-column", "question", "--criterion", "Much Fun=It is fun."), "small letters"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(posts: Path, tmp_path: Path, modpo, words, message: str) -> None:
    made = modpo("new", tmp_path / "cook", "--posts", posts, *words)
    assert made.returncode == 2
    assert message in made.stderr
    assert not (tmp_path / "cook").exists()


def test_what_is_not_given_is_asked_for_by_its_option(tmp_path: Path, modpo) -> None:
    made = modpo("new", tmp_path / "cook", stdin=-3)
    assert made.returncode == 2
    assert "--posts" in made.stderr
