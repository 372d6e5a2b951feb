"""What a reader meets first, and what explains it."""

from __future__ import annotations

import html
import re
from pathlib import Path

from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report import formats, glossary
from modpo_hpc.report.contents import sections_of
from modpo_hpc.report.results import read_results
from modpo_hpc.report.summary import summary_section
from modpo_hpc.run import Run
from tests.synthetic_verdicts import small_run, small_study


def page(run: Run) -> str:
    return (run.folder("report") / "report.html").read_text()


def test_the_question_and_findings_come_first_and_the_configuration_last(reported: Run) -> None:
    headings = [section.anchor for section in sections_of(reported, read_results(reported))]
    assert headings[:2] == ["summary", "phase1"]
    assert headings[-3:] == ["study", "cost", "provenance"]
    told = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page(reported), flags=re.DOTALL)
    assert told.index("The question: which of 4 policies") < told.index("does not show") < told.index("Base model")


def test_the_findings_say_numbers_of_the_tables_with_their_intervals(reported: Run) -> None:
    results = read_results(reported)
    first, beside, front, limits = summary_section(reported, results).findings
    best = results.rows("ranking", phase="phase1", criterion="empathy")[0]
    assert f"{best['policy']} is preferred most often" in first
    assert f"{formats.percent(best['win_rate'])} of the questions (95% interval " in first
    for criterion in ("empathy", "safety"):
        assert f"by {criterion} (95% interval" in beside
    for row in results.rows("pareto", phase="phase1"):
        assert (f"{row['policy']} (" in front) == row["on_front"]
    pair = {"Base", next(iter(results.by_policy("phase1")))}
    apart = [row["separated"] for row in results.rows("win_rates", phase="phase1") if
             {row["policy_a"], row["policy_b"]} == pair]  # fmt: skip
    assert beside.count("not shown to be a difference") == apart.count(False)
    assert "not of people" in limits
    assert "seed 7 alone" in limits


def test_what_the_margins_did_comes_first_where_a_placebo_is_judged(tmp_path: Path) -> None:
    weights = {"empathy": 0.5, "safety": 0.5}
    policies = {
        "Base": {"method": "base"},
        "DPO_Empathy": {"method": "modpo", "criteria": weights, "margins": "zero"},
        "MODPO_Empathy": {"method": "modpo", "criteria": weights},
    }
    phases = {"phase1": {"policies": list(policies), "criteria": ["safety"]}}
    study = small_study(
        alignment={"policies": policies},
        judging={"personas_per_question": 20, "phases": phases},
        statistics={"draws": 200},
    )
    run = small_run(tmp_path / "run", study)
    run_shard(str(run.root), "statistics", "all")
    results = read_results(run)
    (row,) = [row for row in results.rows("win_rates") if row["policy_a"] == "DPO_Empathy"]
    first = summary_section(run, results).findings[0]
    assert first.startswith("What the margins did: MODPO_Empathy less its placebo DPO_Empathy")
    assert formats.signed_percent(-row["difference"]) in first
    assert formats.signed_interval(-row["difference_high"], -row["difference_low"]) in first


def test_the_number_of_policies_is_the_same_everywhere(reported: Run) -> None:
    count = len(small_study().alignment.policies)
    text = re.sub(r"<[^>]+>", "", page(reported))
    assert f"{count} policies compared" in text
    assert f"{count} policies answer: {count - 1} of them are aligned" in text
    assert len((reported.folder("report") / "tables" / "policies.csv").read_text().splitlines()) == count + 1


def test_terms_are_explained_where_they_stand_and_in_the_list(reported: Run) -> None:
    shown = page(reported)
    linked = re.findall(r'<a class="term" href="#([^"]+)" title="([^"]+)"', shown)
    assert {"term-pareto-front", "term-interval", "term-mcnemar-s-test"} <= {anchor for anchor, _ in linked}
    for anchor, title in linked:
        assert f'<dt id="{anchor}">' in shown
        assert html.unescape(title) in glossary.TERMS.values()
    assert str(glossary.explained("<b> policy & policy")).startswith("&lt;b&gt; <a class")
    assert str(glossary.explained("policy, policy")).count("<a ") == 1


def test_methods_can_be_pasted(reported: Run) -> None:
    methods = re.search(r'<p class="paste">(.*?)</p>', page(reported), re.DOTALL)
    assert methods is not None
    for part in ("20 test personas", "after Holm", "seed 7", "arXiv 2602.16053", "modpo-hpc 0"):
        assert part in html.unescape(methods[1])


def test_text_on_the_page_is_dark_enough(reported: Run) -> None:
    """WCAG AA for every pair of the page's own colours that text is set in."""
    from modpo_hpc.report.style import contrast

    template = Path(glossary.__file__).parent / "templates"
    for name in ("report.html.j2", "cases.html.j2"):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", (template / name).read_text()))
        colours.setdefault("mark", "#6e4800")
        for ink in ("ink", "soft", "accent"):
            for page_ in ("page", "card"):
                assert contrast(colours[ink], colours[page_]) >= 4.5, (name, ink, page_)
        assert contrast(colours["mark"], "#fff3d6") >= 4.5
