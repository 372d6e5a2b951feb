"""CSV read to the character or refused with its line and column; never fewer rows than the file has without a word."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modpo_hpc.data.files import read_csv, write_csv
from modpo_hpc.data.questions import usable_posts
from modpo_hpc.errors import InputError
from modpo_hpc.study.data import Data

CELLS = st.text(st.sampled_from("ab ,\"'\r\n\t;|é\u2028\x0b\x1c\\#"), max_size=12)
TABLES = st.lists(st.tuples(CELLS.map("x".__add__), CELLS), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_what_we_write_is_read_back_here_and_by_others(tmp_path_factory, rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    write_csv(stream, ("id", "text"), [{"id": one, "text": other} for one, other in rows])
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_text(stream.getvalue(), newline="")
    assert [tuple(row.values()) for _, row in read_csv(path).rows] == rows
    assert [tuple(row) for row in csv.reader(io.StringIO(stream.getvalue(), newline=""))][1:] == rows


@settings(max_examples=200, deadline=None)
@given(TABLES, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.sampled_from(["\n", "\r\n"]))
def test_what_pythons_writer_writes_is_read_as_pythons_reader_reads_it(
    tmp_path_factory, rows: list[tuple[str, str]], quoting: int, end: str
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=quoting, lineterminator=end).writerows([("id", "text"), *rows])
    path = tmp_path_factory.getbasetemp() / "peer.csv"
    path.write_text(stream.getvalue(), newline="")
    try:
        ours = [tuple(row.values()) for _, row in read_csv(path).rows]
    except InputError:  # a bare carriage return, which their writer leaves without quotes and they misread
        assert quoting == csv.QUOTE_MINIMAL
        assert any("\r" in cell for row in rows for cell in row)
        return
    assert ours == [tuple(row) for row in csv.reader(io.StringIO(stream.getvalue(), newline=""), strict=True)][1:]


def posts(count: int) -> list[list[str]]:
    return [[f"p{n}", f"How long do I cook {n} eggs, please, and {'why ' * (n % 5)}so long?"] for n in range(count)]


def written(path: Path, rows: list[list[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["id", "text"], *rows])
    return path


def test_one_quote_forgotten_anywhere_is_refused_with_a_place(tmp_path: Path) -> None:
    """Each one of the quotes of sixty posts, opening, closing or inside; some posts have line ends and quotations."""
    rows = posts(60)
    for row in random.Random(1).sample(rows, 10):
        row[1] = row[1].replace("please", 'said "please"\nand', 1)
    whole = written(tmp_path / "posts.csv", rows).read_text()
    assert len(read_csv(tmp_path / "posts.csv").rows) == 60
    quotes = [place for place, character in enumerate(whole) if character == '"']
    assert len(quotes) > 150
    for place in quotes:
        (tmp_path / "posts.csv").write_text(whole[:place] + whole[place + 1 :])
        at = whole.count("\n", 0, place) + 1
        with pytest.raises(InputError, match=r"line \d+, column \d") as caught:
            read_csv(tmp_path / "posts.csv")
        assert int(str(caught.value).split("line ")[1].split(",")[0]) in (at - 1, at, at + 1)
        assert "eggs" not in str(caught.value), "a message shows places, never the texts of people"


def test_commas_without_quotes_are_refused_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,text\n1,How long?\n2,Eggs, please, now\n")
    with pytest.raises(InputError, match="line 3, column 3: this row has 4 cells, the header 2"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;text\n1;a\n", "separated by ';'"),
        ("id,text\n1\n", "line 2, column 2: this row has 1 cells"),
        ("id,id\n1,2\n", "two columns are called 'id'"),
        ("id,text\n1,a\rb\n2,c\n", "line 2, column 2: a line end"),
        ('id,text\n1,"a" b\n', "line 2, column 2: the quote"),
        ("id,body\n1,a\n", "no column 'text'"),
        ("", "empty"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "posts.csv"
    path.write_text(content, newline="")
    with pytest.raises(InputError, match=message):
        read_csv(path, ("id", "text"))


def test_real_posts_are_read_as_pandas_reads_them(epitome: Path) -> None:
    table = read_csv(epitome)
    theirs = pd.read_csv(epitome, dtype=str, keep_default_na=False)
    assert list(table.header) == list(theirs.columns)
    assert [list(row.values()) for _, row in table.rows] == theirs.to_numpy().tolist()


def test_the_account_of_rows_adds_up_and_names_each_rule(tmp_path: Path) -> None:
    rows = [*posts(20), ["short", "hm"], ["words", "aaaaaaaaaaaa bbbbbb"], ["long", "word " * 500], ["none", ""]]
    rows[3][1] = rows[3][1].replace(",", ",\n")
    path = written(tmp_path / "posts.csv", rows)
    path.write_text(path.read_text() + "\n\n")
    kept, account = usable_posts(Data(file=path, id_column="id", text_column="text"), seed=1)
    assert account.rows == 24 == account.kept + sum(account.dropped.values())
    assert account.kept == len(kept) == 20
    assert {rule: count for rule, count in account.dropped.items() if count} == {
        "shorter than 10 characters": 2,
        "longer than 2000 characters": 1,
        "fewer than 3 words": 1,
    }
    assert (account.running_on, account.blank) == (1, 2)
    assert account.lines == len(path.read_text().splitlines()) - 1


def test_every_command_that_begins_a_study_shows_the_account_and_the_run_keeps_it(modpo, tmp_path: Path) -> None:
    path = written(tmp_path / "posts.csv", [*posts(20), ["short", "hm"]])
    settings_ = (f"data.file={path}", "data.id_column=id", "data.text_column=text", "data.test_size=8")
    words = [word for one in settings_ for word in ("--set", one)]
    planned = modpo("plan", "configs/demo.yaml", *words)
    done = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--until", "questions", *words)
    expected = "posts.csv: 21 rows read from 21 lines; dropped 1 (1 shorter than 10 characters); 20 posts kept"
    assert expected in " ".join(planned.stdout.split()), planned.stderr
    assert expected in done.stdout, done.stderr
    handed_in = modpo("submit", "configs/demo.yaml", "--run", tmp_path / "a", "--profile", "gpu", "--dry-run", *words)
    rehearsed = modpo("rehearse", "configs/demo.yaml", "--run", tmp_path / "b", "--until", "questions", *words)
    assert [expected in one.stderr for one in (handed_in, rehearsed)] == [True, True], handed_in.stderr
    assert json.loads((tmp_path / "run" / "questions" / "account.json").read_text())["kept"] == 20


@pytest.mark.parametrize("lengths", [[30] * 20, [30] * 19 + [90], [30] * 10 + [40] * 9 + [50]])
def test_posts_of_equal_length_are_split_all_the_same(modpo, tmp_path: Path, lengths: list[int]) -> None:
    rows = [[f"p{n}", f"what is {n:02d} " + "and " * length][:2] for n, length in enumerate(lengths)]
    rows = [[one, text[:length].strip() + "!" * (length - len(text[:length].strip()))] for (one, text), length in
            zip(rows, lengths, strict=True)]  # fmt: skip
    path = written(tmp_path / "posts.csv", rows)
    settings_ = (f"data.file={path}", "data.id_column=id", "data.text_column=text", "data.test_size=8")
    words = [word for one in settings_ for word in ("--set", one)]
    done = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--until", "questions", *words)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "run" / "questions" / "questions.parquet")
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 8}


@pytest.mark.parametrize("command", ["run", "import"])
def test_a_run_in_a_place_that_cannot_be_written_is_refused_in_a_sentence(modpo, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    more = ("configs/demo.yaml", "--until", "questions") if command == "run" else ("configs/demo.yaml", tmp_path)
    if command == "import":
        (tmp_path / "questions_train.csv").write_text("question_id,question_text\n1,a\n")
        (tmp_path / "questions_test.csv").write_text("question_id,question_text\n2,b\n")
    for place in (tmp_path / "file" / "run", "/proc/nothing/run"):
        done = modpo(command, *more, "--run", place)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert str(place).rpartition("/")[0] in done.stderr
