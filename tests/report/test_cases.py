"""The cases behind a cell: in the terminal and in the page they are those that pandas finds in the verdicts."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from modpo_hpc.llm.ledger import Entry, Ledger
from modpo_hpc.report import matrices, style
from modpo_hpc.report.cases import MatrixCell, Vote, raw_answers, read_cases, select
from modpo_hpc.report.results import read_results
from modpo_hpc.run import Run
from tests.machine import CHROMIUM
from tests.synthetic_verdicts import small_run, small_study
from tests.waiting import PATIENCE

VALUE = {"A": 1, "B": -1}


def margins(run: Run, phase: str, criterion: str, a: str, b: str) -> pd.DataFrame:
    """For each question the votes for ``a`` less those for ``b``: of all, and by which was shown first."""
    rows = pd.concat(pd.read_parquet(path) for path in (run.root / "verdicts").glob("*.parquet"))
    rows = rows.astype(str)
    pair = rows[["policy_a", "policy_b"]].apply(set, axis=1) == {a, b}
    rows = rows[(rows["phase"] == phase) & (rows["criterion"] == criterion) & pair]
    side = np.where(rows["policy_a"] == a, 1, -1)
    rows = rows.assign(value=rows["winner"].map(VALUE).fillna(0) * side, first=rows["first"].map(VALUE) * side)
    first, second = (rows[rows["first"] == one].groupby("question_id")["value"].sum() for one in (1, -1))
    return pd.DataFrame({"all": first + second, "first": first, "second": second})


@pytest.mark.parametrize("pair", [("Base", "DPO_Empathy"), ("DPO_Empathy", "Base"), ("MODPO_Empathy", "SFT_Empathy")])
def test_cases_of_every_kind_are_those_of_pandas(reported: Run, pair: tuple[str, str]) -> None:
    theirs = margins(reported, "phase1", "safety", *pair)
    cases = read_cases(reported, MatrixCell("phase1", "safety", *pair))
    assert {case.question_id: case.margin for case in cases} == theirs["all"].to_dict()
    expected = {
        "won": theirs["all"] > 0,
        "lost": theirs["all"] < 0,
        "tied": theirs["all"] == 0,
        "flipped": theirs["first"] * theirs["second"] < 0,
        "closest": theirs["all"] < np.inf,
    }
    for kind, chosen in expected.items():
        assert {case.question_id for case in select(cases, kind)} == set(theirs.index[chosen]), kind
    sizes = [abs(case.margin) for case in select(cases, "closest")]
    assert sizes == sorted(sizes)


def test_the_command_lists_and_opens_a_case(reported: Run, modpo) -> None:
    asked = ("--phase", "phase2", "--criterion", "overall", "--pair", "MODPO_Survey", "Base")
    listed = modpo("cases", reported.root, *asked, "--show", "won", "--limit", "4", "--json")
    rows = json.loads(listed.stdout)
    theirs = margins(reported, "phase2", "overall", "MODPO_Survey", "Base")["all"]
    assert [row["margin"] for row in rows] == theirs.sort_values(ascending=False).head(4).tolist()
    opened = modpo("cases", reported.root, *asked, "--question", rows[0]["question_id"])
    assert "An answer." in opened.stdout, opened.stderr
    assert f"Question {rows[0]['question_id']}." in opened.stdout
    assert opened.stdout.count("not in the ledger") == 20
    unknown = modpo("cases", reported.root, "--criterion", "kindness")
    assert unknown.returncode == 2
    assert "empathy, safety" in unknown.stderr


def test_raw_answers_come_from_the_ledger(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", questions=8)
    key = bytes(range(16))
    with Ledger(run.root / "ledger") as ledger:
        ledger.append([Entry(key, '{"safety": "A"}', "judge", ("safety",), 2, "rules")])
    votes = [Vote("p1", "A", "A", "rules", one, None) for one in (key.hex(), bytes(16).hex(), None)]
    assert raw_answers(run, votes) == {key.hex(): '{"safety": "A"}'}


def test_texts_of_people_are_in_no_page_unless_asked_for(tmp_path: Path, modpo) -> None:
    (tmp_path / "posts.csv").write_text("sp_id,seeker_post\n")
    run = small_run(tmp_path / "run", small_study(data={"file": tmp_path / "posts.csv"}), questions=8)
    listed = modpo("cases", run.root)
    assert "Question q" not in listed.stdout, listed.stderr
    shown = modpo("cases", run.root, "--texts")
    assert "Question q" in shown.stdout
    closed, opened = tmp_path / "closed.html", tmp_path / "open.html"
    modpo("cases", run.root, "--page", closed)
    modpo("cases", run.root, "--page", opened, "--texts")
    assert 'id="texts"' not in closed.read_text()
    assert "clinic" not in closed.read_text()
    assert 'id="texts"' in opened.read_text()
    assert {path.stat().st_mode & 0o077 for path in (closed, opened)} == {0}


def test_every_cell_of_every_matrix_links_to_its_comparison(reported: Run) -> None:
    page = (reported.folder("report") / "report.html").read_text()
    links = [parse_qs(html.unescape(one)) for one in re.findall(r'href="cases.html#([^"]+)"', page)]
    asked = {(one["phase"][0], one["criterion"][0], one["a"][0], one["b"][0]) for one in links}
    expected = {
        (phase, criterion, a, b)
        for phase, settings in reported.study.judging.phases.items()
        for criterion in settings.criteria
        for a in settings.policies
        for b in settings.policies
        if a != b
    }
    assert asked == expected
    assert len(links) == 2 * len(expected)


def test_no_cell_of_a_heatmap_is_hard_to_read(reported: Run) -> None:
    """WCAG AA: 4.5 for every colour that a cell can have, and for the cells of this report."""
    possible = [to_hex(tuple(colormaps[matrices.RATES](rate))) for rate in np.linspace(0, 1, 256)]
    possible += [matrices.ROW_WINS, matrices.COLUMN_WINS, matrices.NOT_SHOWN]
    assert min(style.contrast(colour, style.ink_on(colour)) for colour in possible) >= 4.5
    results = read_results(reported)
    for make in (matrices.win_rates, matrices.p_values):
        for tile in make(results, "phase1", "safety").tiles.values():
            assert style.contrast(tile.background, tile.ink) >= 4.5
    assert style.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert style.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's own well-known grey


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM.missing, reason=CHROMIUM.reason)
@pytest.mark.parametrize("pair", [("Base", "DPO_Empathy"), ("DPO_Empathy", "Base")])
def test_the_page_opens_the_cases_of_a_cell(reported: Run, tmp_path: Path, pair: tuple[str, str]) -> None:
    theirs = margins(reported, "phase1", "safety", *pair)
    flipped = theirs[theirs["first"] * theirs["second"] < 0]
    question = theirs.index[0]
    place = (reported.folder("report") / "cases.html").as_uri()
    seen = dom(f"{place}#phase=phase1&criterion=safety&a={pair[0]}&b={pair[1]}&show=flipped&q={question}", tmp_path)
    assert f">{len(flipped)} cases<" in seen
    listed = set(re.findall(r'data-id="([^"]+)"', seen))
    assert listed == set(flipped.index)
    shown = re.search(r"votes for B: ([+\-\d]+) where A was shown first, ([+\-\d]+) where B was", seen)
    assert shown is not None
    assert [int(one) for one in shown.groups()] == [theirs["first"].iloc[0], theirs["second"].iloc[0]]
    assert f"Question {question}." in seen
    assert seen.count("<tr>") == 21


def dom(address: str, folder: Path) -> str:
    """The page as the browser has made it when its script says that it is ready."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    words: list[Any] = ["chromium", *options, "--virtual-time-budget=20000", "--dump-dom", address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert 'data-ready="yes"' in done.stdout, done.stderr[-1000:]
    shutil.rmtree(folder / "profile", ignore_errors=True)
    return done.stdout
