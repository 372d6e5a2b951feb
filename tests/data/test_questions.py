"""Questions: the paper's numbers on the real posts, and every wrong input named before anything is written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ENOUGH = "sp_id,seeker_post\n" + "".join(f"p{n},I have been feeling low {'again ' * (n % 9)}today\n" for n in range(40))


def prepare(modpo, tmp_path: Path, *settings: str, study: str = "configs/demo.yaml"):
    overrides = [word for setting in settings for word in ("--set", setting)]
    return modpo("run", study, "--run", tmp_path / "run", "--until", "questions", *overrides)


def assert_refused(result, tmp_path: Path, *words: str) -> None:
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "logs").exists()


def test_epitome_gives_the_papers_counts_and_mean_lengths(modpo, tmp_path: Path, epitome: Path) -> None:
    result = prepare(modpo, tmp_path, f"data.epitome={epitome}")
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(tmp_path / "run" / "questions" / "questions.parquet")
    assert list(table.columns) == ["question_id", "text", "split"]
    assert table["question_id"].is_unique
    lengths = table["text"].str.len().groupby(table["split"])
    assert lengths.size().to_dict() == {"train": 2379, "test": 600}
    assert lengths.mean().to_dict() == pytest.approx({"train": 183.0, "test": 182.3}, abs=0.06)


def test_another_file_with_columns_of_its_own(modpo, tmp_path: Path) -> None:
    source = tmp_path / "posts.csv"
    source.write_text(ENOUGH.replace("sp_id,seeker_post", "id,body"))
    result = prepare(
        modpo, tmp_path, f"data.file={source}", "data.id_column=id", "data.text_column=body", "data.test_size=8"
    )
    assert result.returncode == 0, result.stderr
    table = pd.read_parquet(tmp_path / "run" / "questions" / "questions.parquet")
    assert table["split"].value_counts().to_dict() == {"train": 32, "test": 8}


@pytest.mark.parametrize(
    ("content", "settings", "words"),
    [
        (ENOUGH.replace("seeker_post", "text", 1), (), ("seeker_post", "its columns are", "text")),
        ("", (), ("empty",)),
        ("sp_id,seeker_post\n", (), ("no posts",)),
        (ENOUGH + "p3,another post with this id\n", (), ("p3", "lines 5 and 42", "id of its own")),
        (ENOUGH + ",a post without any id\n", (), ("line 42", "no id")),
        (ENOUGH, ("data.test_size=600",), ("600", "40", "between 4 and 36")),
        (ENOUGH, ("criteria.rank=[empathy, kindness]",), ("kindness",)),
    ],
    ids=["missing column", "empty file", "header only", "duplicate id", "no id", "test too large", "unknown criterion"],
)
def test_wrong_posts_are_refused_with_the_remedy(modpo, tmp_path: Path, content, settings, words) -> None:
    source = tmp_path / "posts.csv"
    source.write_text(content)
    result = prepare(modpo, tmp_path, f"data.epitome={source}", "data.test_size=8", *settings)
    lowered = result
    lowered.stderr = lowered.stderr.replace("Its columns", "its columns")
    assert_refused(lowered, tmp_path, *words)


def test_bytes_that_are_not_utf8_are_refused_with_their_line(modpo, tmp_path: Path) -> None:
    source = tmp_path / "posts.csv"
    source.write_bytes(ENOUGH.encode() + b"p99,caf\xe9 is closed today\n")
    assert_refused(prepare(modpo, tmp_path, f"data.epitome={source}"), tmp_path, "line 42", "UTF-8", "iconv")


def test_a_repeated_id_is_fine_in_epitome_and_refused_elsewhere(modpo, tmp_path: Path) -> None:
    source = tmp_path / "posts.csv"
    source.write_text(ENOUGH + ENOUGH.splitlines()[4] + "\n")
    assert_refused(prepare(modpo, tmp_path, f"data.file={source}", "data.test_size=8"), tmp_path, "lines 5 and 42")
    assert prepare(modpo, tmp_path, f"data.epitome={source}", "data.test_size=8").returncode == 0


def test_no_such_file(modpo, tmp_path: Path) -> None:
    assert_refused(prepare(modpo, tmp_path, "data.epitome=/nowhere/posts.csv"), tmp_path, "/nowhere/posts.csv")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.tset_size=5", ("data.tset_size", "not known", "test_size")),
        ("nonsense.a=5", ("nonsense", "not known")),
        ("data.test_size=many", ("data.test_size", "many", "integer")),
        ("seed=-1", ("seed", "-1")),
        ("generation.responses.temperature=-1", ("generation.responses.temperature",)),
        ("judging.personas_per_question=51", ("judging.personas_per_question",)),
        ("ranking.weights=[10, 5, 0, -5, -9]", ("sums to 1",)),
        ("data.test_size", ("data.test_size", "--set section.field=value")),
    ],
)
def test_a_wrong_study_is_refused_by_field_and_value(modpo, tmp_path: Path, setting: str, words) -> None:
    assert_refused(prepare(modpo, tmp_path, setting), tmp_path, *words)


def test_a_study_file_that_is_no_study(modpo, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    for content in ("", "- a\n- b\n", "name: [unclosed\n"):
        study.write_text(content)
        assert_refused(prepare(modpo, tmp_path, study=str(study)), tmp_path, "study.yaml")
    assert_refused(prepare(modpo, tmp_path, study=str(tmp_path / "none.yaml")), tmp_path, "none.yaml")


def test_a_run_follows_another_study_and_keeps_what_it_had(modpo, tmp_path: Path) -> None:
    source = tmp_path / "posts.csv"
    source.write_text(ENOUGH)
    assert prepare(modpo, tmp_path, f"data.epitome={source}", "data.test_size=8").returncode == 0
    table = tmp_path / "run" / "questions" / "questions.parquet"
    before = table.read_bytes()
    assert prepare(modpo, tmp_path, f"data.epitome={source}", "data.test_size=9").returncode == 0
    assert table.read_bytes() != before
    assert prepare(modpo, tmp_path, f"data.epitome={source}", "data.test_size=8").returncode == 0
    assert table.read_bytes() == before


def test_a_folder_that_is_no_run_is_left_alone(modpo, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("four years")
    result = prepare(modpo, tmp_path)
    assert result.returncode == 2
    assert "taken" in result.stderr
    assert (tmp_path / "run" / "thesis.tex").read_text() == "four years"
