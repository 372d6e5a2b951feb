"""Every number of a report leads back to what it rests on, and the printed lines give it again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
from functools import lru_cache

import pandas as pd
import pytest

from modpo_hpc.report import formats
from modpo_hpc.report.results import read_results
from modpo_hpc.report.trace import LAYOUTS, NUMBER, all_ids, read_report, trace
from modpo_hpc.run import Run


def forms(value: float) -> set[str]:
    """Every way in which the report may print ``value``, without sign of percent and plus."""
    if not math.isfinite(value):
        return {"∞"}
    shares = {f"{100 * value:.{digits}f}" for digits in range(2)} | {f"{100 * value:g}"}
    plain = {f"{value:.{digits}f}" for digits in range(4)} | {f"{value:.2g}", f"{value:g}", formats.p_value(value)}
    return {one.replace("-0.0", "0.0").removeprefix("<") for one in shares | plain} | shares | plain


@pytest.fixture
def cached_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd, "read_parquet", lru_cache(maxsize=None)(pd.read_parquet))


def computed(code: str) -> float:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(code, {})
    return float(told.getvalue())


@pytest.mark.usefixtures("cached_reads")
def test_the_lines_of_every_number_give_the_number(reported: Run) -> None:
    """Every cell of every table of the statistics; one in five of the long table of groups."""
    ids = [identity for identity, _ in all_ids(reported)]
    tables = {identity.rsplit(".", 2)[0] for identity in ids if identity.count(".") == 2}
    of_statistics = {one for one in tables if one.removeprefix("phase1_").removeprefix("phase2_") in LAYOUTS}
    assert {"phase1_ranking", "phase2_mcnemar", "phase1_win_rates", "groups", "completeness"} <= of_statistics
    read = read_report(reported)
    checked = from_verdicts = 0
    for identity in ids:
        table = identity.rsplit(".", 2)[0]
        if table not in of_statistics or (table == "groups" and int(identity.split(".")[1]) % 5):
            continue
        found = trace(reported, identity, read)
        printed = [token.lstrip("+").replace(",", "") for token in NUMBER.findall(found.text.replace("–", " "))]
        values = []
        for origin in found.origins:
            assert len(origin.code.splitlines()) <= 10, identity
            assert ("statistics/" not in origin.code) == origin.from_verdicts
            values.append(computed(origin.code))
            assert values[-1] == pytest.approx(origin.row[origin.column], rel=1e-9, abs=1e-12, nan_ok=True), identity
            from_verdicts += origin.from_verdicts
        for token, value in zip(printed, values, strict=False):
            assert token in forms(value), (identity, found.text, value)
        assert printed == [] or values, identity
        checked += 1
    assert checked > 500
    assert from_verdicts > 150


def test_a_trace_names_the_shards_and_their_hashes(reported: Run) -> None:
    found = trace(reported, "phase1_mcnemar.2.3")
    row = found.origins[0].row
    files = {file: sha for _, _, file, sha in found.files}
    assert set(files) == {
        "statistics/mcnemar.parquet",
        f"verdicts/phase1.{row['policy_a']}.{row['policy_b']}.0.parquet",
    }
    for file, sha in files.items():
        assert hashlib.sha256((reported.root / file).read_bytes()).hexdigest() == sha


def test_the_numbers_of_the_first_findings_lead_to_cells(reported: Run) -> None:
    for number in (1, 2):
        found = trace(reported, f"summary.{number}")
        assert found.also
        for identity in found.also:
            cell = trace(reported, identity).text.replace("–", " ")
            assert set(NUMBER.findall(cell)) & set(NUMBER.findall(found.text))


def test_every_id_stands_in_page_and_latex(reported: Run) -> None:
    folder = reported.folder("report")
    page = (folder / "report.html").read_text()
    for identity, _ in all_ids(reported):
        first, _, last = identity.rpartition(".")
        if last != "0":  # the line under a heading
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
