"""The report as files: what is in them, that they carry the mark, and that they come out the same."""

from __future__ import annotations

import csv
import html
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from modpo_hpc.cli.main import main
from modpo_hpc.core.markers import read_marker
from modpo_hpc.human.study import criteria_of
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report import files, formats, labels, latex, style
from modpo_hpc.report.contents import sections_of
from modpo_hpc.report.files import files_of
from modpo_hpc.report.parts import Shown, numbers, text
from modpo_hpc.report.results import read_results
from modpo_hpc.report.study import study_section
from modpo_hpc.run import Run
from modpo_hpc.study.evaluation import SANDBOX_MARK
from tests.machine import LATEX
from tests.synthetic_verdicts import small_run, small_study


def test_every_figure_comes_in_three_forms_and_every_table_in_two(reported: Run) -> None:
    folder = reported.folder("report")
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"phase1_empathy_safety", "phase2_overall_safety", "position_bias", "phase1_groups"} <= figures
    for name in figures:
        for form, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
            assert (folder / "figures" / f"{name}.{form}").read_bytes().startswith(start)
    tables = {path.stem for path in (folder / "tables").iterdir()}
    assert {"phase1_mcnemar", "phase1_ranking", "length_control", "cost", "provenance"} <= tables
    for name in tables:
        reader = csv.DictReader((folder / "tables" / f"{name}.csv").open())
        rows, columns = list(reader), reader.fieldnames or []
        assert rows
        assert len(set(columns)) == len(columns), name
        assert {row["note"] for row in rows} == {SANDBOX_MARK}
        tex = (folder / "tables" / f"{name}.tex").read_text()
        assert tex.count(r"\bottomrule") == tex.count(r"\caption") == 1
        assert tex.count(r"\toprule") == (2 if "longtable" in tex else 1)
        assert SANDBOX_MARK in tex


def test_columns_that_are_called_alike_are_told_apart_in_files(reported: Run) -> None:
    tables = reported.folder("report") / "tables"
    columns = (tables / "phase1_ranking.csv").read_text().splitlines()[0].split(",")
    assert columns[:4] == ["Policy", "Empathy", "Empathy interval", "Empathy rank"]
    assert "Safety rank" in columns


def test_the_page_needs_nothing_beside_itself_and_says_what_was_found(reported: Run) -> None:
    page = (reported.folder("report") / "report.html").read_text()
    assert not re.findall(r"""src=["'](?!data:)""", page)
    links = {html.unescape(one).partition("#")[0] for one in re.findall(r'href="([^"]+)"', page)} - {""}
    assert "tables/phase1_mcnemar.tex" in links
    assert all((reported.folder("report") / one).is_file() for one in links), links
    assert "@import" not in page
    assert "<script" not in page
    readable = html.unescape(re.sub(r"data:[^\"]+", "", page))
    assert readable.count(SANDBOX_MARK) >= 2
    for words_of_the_page in ("Bradley-Terry", "Pareto front", "How sure the votes are", "Who prefers what", "SHA-256"):
        assert words_of_the_page in readable
    for policy in reported.study.alignment.policies:
        assert policy in readable


def test_no_text_of_a_figure_is_cut_off_or_covers_another(reported: Run) -> None:
    """As drawn for paper and screen, whatever the resolution. Slanted labels are left out: their boxes overlap."""
    figures = [one for section in sections_of(reported, read_results(reported)) for one in section.figures]
    assert len(figures) > 15
    for picture in figures:
        figure = files.drawn(picture, SANDBOX_MARK)
        for dots in (72, style.DOTS_PER_INCH):
            with rc_context(style.STYLE):
                figure.set_dpi(dots)
                written = texts_drawn(figure)
            assert SANDBOX_MARK in [words for words, _, _ in written]
            for words_, box, _ in written:
                inside = figure.bbox.padded(dots / 72)
                assert inside.containsx(box.x0), (picture.name, words_)
                assert inside.containsx(box.x1), (picture.name, words_)
                assert inside.containsy(box.y0), (picture.name, words_)
                assert inside.containsy(box.y1), (picture.name, words_)
            level = [(words_, box) for words_, box, angle in written if not angle]
            for (one, box), (other, beside) in combinations(level, 2):
                common = Bbox.intersection(box, beside)
                assert common is None or min(common.width, common.height) < dots / 36, (picture.name, one, other)


def texts_drawn(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text that is really drawn, its box in pixels, and its angle."""
    seen: dict[int, Text] = {}

    class Recorder(RendererAgg):
        def draw_text(self, *words: Any, mtext: Any = None, **more: Any) -> None:
            if mtext is not None:
                seen[id(mtext)] = mtext

    width, height = figure.bbox.size
    renderer = Recorder(width, height, figure.dpi)
    figure.draw(renderer)
    return [(one.get_text(), one.get_window_extent(renderer), one.get_rotation()) for one in seen.values()]


def test_judgments_by_people_are_a_section_of_their_own(reported: Run) -> None:
    folder = reported.folder("report")
    page = html.unescape(re.sub(r"data:[^\"]+", "", (folder / "report.html").read_text()))
    assert "Judgments by people" in page
    assert "4 simulated raters judged 20 questions, MODPO_Empathy against Base, blinded." in page
    outcomes = list(csv.DictReader((folder / "tables" / "human_outcomes.csv").open()))
    analysis = list(csv.DictReader((reported.root / "human" / "analysis" / "outcomes.csv").open()))
    study = reported.study
    assert len(outcomes) == len(criteria_of(study, list(study.judging.phases)[-1]))
    for shown, row in zip(outcomes, [row for row in analysis if row["rule"] == "majority"], strict=True):
        assert shown["MODPO_Empathy"].startswith(formats.percent(float(row["A_share"])))
    agreement = list(csv.DictReader((folder / "tables" / "human_agreement.csv").open()))
    assert {row["Criterion"] for row in agreement if row["Who"] == "model"} == {"overall", "safety"}


def test_a_new_analysis_of_people_asks_for_a_new_report(reported: Run, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(reported.root, copy)
    assert Run.open(copy).missing("report") == []
    assert main(["human", "analyze", str(copy), "--bootstrap", "10"]) == 0
    assert Run.open(copy).missing("report") == ["all"]


def test_a_study_of_real_models_with_an_invented_survey_says_so(tmp_path: Path) -> None:
    """The mark names the part that is invented, in every table and on the page."""
    posts = tmp_path / "posts.csv"
    posts.write_text("sp_id,seeker_post\n")
    study = small_study(
        judge={"kind": "openai", "model": "some-model"},
        models={"base": "some/model", "reward": "some/encoder"},
        data={"file": posts},
        statistics={"draws": 100},
    )
    run = small_run(tmp_path / "run", study)
    run_shard(str(run.root), "statistics", "all")
    results = read_results(run)
    assert results.mark == "sandbox: invented personas"
    rows = list(csv.DictReader((run.folder("statistics") / "mcnemar.csv").open()))
    assert {row["note"] for row in rows} == {results.mark}
    section = study_section(run, results)
    assert "invented personas" in section.findings[0]
    page = dict(files_of("study", [replace(section, figures=())], results.mark))["report.html"].decode()
    assert page.count(results.mark) >= 2


def test_markup_in_a_name_stays_text() -> None:
    from modpo_hpc.report.page import render
    from modpo_hpc.report.parts import ReportSection

    page = render("<b>&study</b>", [ReportSection("a", "A", findings=["<script>alert(1)</script>"])], {}, None)
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;study" in page


def test_the_same_results_give_the_same_bytes(reported: Run, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(reported.root, copy)
    shutil.rmtree(copy / "report")
    run_shard(str(copy), "report", "all")
    before, after = (read_marker(root / "report", "all") for root in (reported.root, copy))
    assert before is not None
    assert after is not None
    assert before.outputs == after.outputs


def test_the_command_says_where_the_page_is(reported: Run, modpo: Callable[..., Any]) -> None:
    shown = modpo("report", reported.root)
    assert shown.returncode == 0, shown.stderr
    assert str(reported.folder("report") / "report.html") in shown.stdout
    as_json = modpo("report", reported.root, "--json")
    assert as_json.stdout.strip() == f'{{"report": "{reported.folder("report") / "report.html"}"}}'


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("MODPO_Survey & 5%", r"MODPO\_Survey \& 5\%"),
        ("a\\b^c", r"a\textbackslash{}b\textasciicircum{}c"),
        ("{$x}#", r"\{\$x\}\#"),
        ("3 > 2 ~ 1", r"3 $>$ 2 $\sim$ 1"),
    ],
)
def test_latex_prints_what_a_name_holds(name: str, escaped: str) -> None:
    tex = latex.booktabs(Shown(name, [text("x"), *numbers("y")], [[name, "1"]], "name", frozenset({(0, 0)})))
    assert rf"\caption{{{escaped}}}" in tex
    assert rf"\textbf{{{escaped}}} & 1 \\" in tex
    assert r"\begin{tabular}{lr}" in tex


@pytest.mark.skipif(LATEX.missing, reason=LATEX.reason)
def test_latex_compiles(reported: Run, tmp_path: Path) -> None:
    """All tables in a document as wide as a conference paper: none is taller than a page or wider than the text."""
    tables = "".join(path.read_text() for path in sorted((reported.folder("report") / "tables").glob("*.tex")))
    assert r"\begin{longtable}" in tables
    packages = r"\usepackage{booktabs,graphicx,longtable}\setlength{\textwidth}{5.5in}"
    (tmp_path / "t.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{tables}\end{{document}}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "too large" not in said
    assert "multiply" not in said
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", said)]
    assert max(too_wide, default=0.0) < 20


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_labels_cover_neither_each_other_nor_a_point(points: list[tuple[float, float]]) -> None:
    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.add_subplot()
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylim(-0.3, 1.3)
    boxes = labels.place(axes, points, [f"Policy_{number}" for number in range(len(points))])
    for one, other in combinations(boxes, 2):
        assert Bbox.intersection(one, other) is None
    for box in boxes:
        for x, y in axes.transData.transform(np.array(points)):
            assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)


@pytest.mark.parametrize(
    ("p", "shown"), [(0.2207, ".221"), (0.0004, "<.001"), (1.0, "1"), (0.9996, "1"), (0.05, ".050"), (0.0, "<.001")]
)
def test_p_values_read_as_in_a_paper(p: float, shown: str) -> None:
    assert formats.p_value(p) == shown
