"""Every number of a report leads back to what it rests on, and the printed lines give it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache

import pandas as pd
import pytest

from modpo_hpc.report.formats import numbers_in
from modpo_hpc.report.results import read_results
from modpo_hpc.report.trace import Traced
from modpo_hpc.report.trace_check import check, told_by
from modpo_hpc.run import Run


@pytest.fixture(scope="module")
def traced(reported: Run) -> Traced:
    return Traced(reported)


@pytest.fixture
def cached_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd, "read_parquet", lru_cache(maxsize=None)(pd.read_parquet))


def test_the_lines_of_every_number_give_the_number(traced: Traced) -> None:
    """Every cell and sentence; one row in five of the long table of groups."""
    rows = {one: one.split(".") for one in traced.places}
    ids = [one for one, parts in rows.items() if parts[0] != "groups" or len(parts) < 3 or int(parts[1]) % 5 == 0]
    assert {"phase1_ranking", "phase2_mcnemar", "groups", "human_outcomes", "certainty"} <= {
        one[0] for one in rows.values()
    }
    found = check(traced, ids)
    assert found.unexplained == []
    assert found.numbers > found.places == len(ids)


@pytest.mark.usefixtures("cached_reads")
def test_numbers_of_the_statistics_start_from_the_verdicts_where_ten_lines_can_hold_it(traced: Traced) -> None:
    starts: dict[str, set[str]] = {}
    cells = [one for one, place in traced.places.items() if place.shown is not None]
    for identity in [one for one in cells if one.partition("_")[2].startswith(tuple(traced.results.tables))][::3]:
        for origin in traced.trace(identity).origins:
            assert (origin.rests_on == "verdicts") == ("verdicts/" in origin.code)
            (value,) = told_by(origin.code)
            assert value == pytest.approx(origin.row[origin.column], rel=1e-9, abs=1e-12, nan_ok=True), identity
            starts.setdefault(origin.rests_on, set()).add(origin.column)
    assert {"b", "c", "ties", "p", "win_rate", "rank", "difference", "win_rate_a"} <= starts["verdicts"]
    assert {"low", "high", "odds_low"} <= starts["statistics"]


def test_a_number_that_is_wrong_is_found(traced: Traced) -> None:
    """The comparison above can fail: a cell and a sentence with another number in them."""
    wrong = Traced.__new__(Traced)
    wrong.__dict__.update(vars(traced))
    for identity, old in (("phase1_win_rates.1.4", "%"), ("certainty.3", "% of the decided")):
        place = traced.places[identity]
        before = place.text[: place.text.index(old)]
        wrong.places = {
            **traced.places,
            identity: replace(place, text=f"{before}1{old}{place.text[len(before) + len(old) :]}"),
        }
        ((found, _, missing),) = check(wrong, [identity]).unexplained
        assert (found, len(missing)) == (identity, 1)


def test_a_trace_names_the_shards_and_their_hashes(reported: Run, traced: Traced) -> None:
    found = traced.trace("phase1_mcnemar.2.3")
    row = found.origins[0].row
    files = {file: sha for _, _, file, sha in found.files}
    assert set(files) == {
        "statistics/mcnemar.parquet",
        f"verdicts/phase1.{row['policy_a']}.{row['policy_b']}.0.parquet",
    }
    for file, sha in files.items():
        assert hashlib.sha256((reported.root / file).read_bytes()).hexdigest() == sha


def test_facts_captions_and_the_methods_to_copy_have_ids(traced: Traced) -> None:
    """Numbers of settings, too, so that whoever copies the paragraph can look each up."""
    ids = {"study.fact3", "study.fact4", "study.fact6", "study.paste1", "phase1_mcnemar.caption"}
    assert ids <= set(traced.places)
    assert check(traced, ids).unexplained == []
    assert not [one for one in ids if "2026" in traced.places[one].text], "a citation's year is a name"


def test_the_numbers_of_the_first_findings_lead_to_cells(traced: Traced) -> None:
    for number in (1, 2):
        found = traced.trace(f"summary.{number}")
        assert found.also
        for identity in found.also:
            assert set(numbers_in(traced.places[identity].text)) & set(numbers_in(found.text))


def test_every_id_stands_in_page_and_latex(reported: Run, traced: Traced) -> None:
    folder = reported.folder("report")
    page = (folder / "report.html").read_text()
    for identity in traced.places:
        first = identity.rpartition(".")[0]
        assert f'id="{identity}"' in page
        if identity.count(".") == 2:
            table = first.rpartition(".")[0]
            assert f"% modpo trace: {first}.COLUMN" in (folder / "tables" / f"{table}.tex").read_text()


def test_the_command(reported: Run, modpo) -> None:
    shown = modpo("trace", reported.root, "phase1_win_rates.1.4")
    assert "win_rate_a of statistics/win_rates.parquet" in shown.stdout, shown.stderr
    assert "From the raw verdicts:" in shown.stdout
    rate = read_results(reported).tables["win_rates"][0]["win_rate_a"]
    told = json.loads(modpo("trace", reported.root, "phase1_win_rates.1.4", "--json").stdout)
    assert told["origins"][0]["row"]["win_rate_a"] == rate
    assert modpo("trace", reported.root, "phase9.1").returncode == 2
