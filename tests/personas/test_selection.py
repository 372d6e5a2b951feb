"""From the pool to 100 and 50: constraints met exactly, or the reason given."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from modpo_hpc.errors import InputError
from modpo_hpc.personas import balance, records
from modpo_hpc.personas.columns import load_columns
from modpo_hpc.personas.quota import allocate, proportional
from modpo_hpc.sandbox.survey import invented_survey
from modpo_hpc.seeds import rng_of
from modpo_hpc.study.data import Personas

QUESTIONS = {name: field.question for name, field in load_columns().fields.items()}
QUOTA = {"campus": 61, "community": 89}


@pytest.fixture(scope="module")
def built() -> records.Built:
    return records.build(Personas(quota=QUOTA), 42)


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def surveys(folder: Path, **rows: list[dict[str, str]]) -> dict[str, Path]:
    return {population: write_csv(folder / f"{population}.csv", listed) for population, listed in rows.items()}


def test_the_sandbox_has_the_marginals_of_the_paper(built: records.Built) -> None:
    pool = pd.DataFrame(built.pool)
    assert dict(Counter(pool.population)) == {"campus": 124, "community": 211}
    first = pool.primary_preference.value_counts()
    assert first.index[:2].tolist() == ["empathy", "active_listening"]
    assert round(100 * first["empathy"] / len(pool), 1) == 62.7
    means = pool[[name for name in pool if str(name).startswith("importance_")]].astype(float).mean()
    assert round(means.min(), 2) == 4.16
    assert round(means.max(), 2) == 4.35


def test_the_split_is_that_of_the_paper(built: records.Built) -> None:
    people = pd.DataFrame(built.personas)
    assert people.groupby("split").size().to_dict() == {"train": 100, "test": 50}
    assert people.groupby(["split", "population"]).size().to_dict() == {
        ("test", "campus"): 20,
        ("test", "community"): 30,
        ("train", "campus"): 41,
        ("train", "community"): 59,
    }
    assert built.account["constraints_not_met"] == []
    test = people[people.split == "test"]
    for group in ("gender", "primary_ethnicity"):
        assert set(test[group]) == set(people[group])
        assert test[group].value_counts().min() >= 2
        shares = people[group].value_counts() / 3
        taken = test[group].value_counts()
        assert all(abs(taken[name] - max(share, 2)) < 1 for name, share in shares.items())
    assert people.persona_id.is_unique


def test_the_selection_repeats_itself_less_than_chance(built: records.Built) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    pool = records.participants_of(Personas(), 42, load_columns())
    texts = [records.persona_text(one, load_columns()) for one in pool]
    weights = TfidfVectorizer().fit_transform(texts)
    similarity = (weights @ weights.T).toarray()
    np.fill_diagonal(similarity, np.nan)
    states = pd.DataFrame(built.pool).state
    chosen = np.flatnonzero(states.isin(["train", "test"]))

    def nearest(places: np.ndarray) -> float:
        return float(np.nanmax(similarity[np.ix_(places, places)], axis=1).mean())

    rng = np.random.default_rng(0)
    by_chance = [nearest(rng.choice(len(pool), len(chosen), replace=False)) for _ in range(200)]
    assert nearest(chosen) < min(by_chance)


def test_everything_is_the_same_again(built: records.Built) -> None:
    again = records.build(Personas(quota=QUOTA), 42)
    assert again == built
    other = records.build(Personas(quota=QUOTA), 43)
    split, another = ({one["persona_id"]: one["split"] for one in made.personas} for made in (built, other))
    assert split != another


@settings(deadline=None, max_examples=40)
@given(
    counts=st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.sampled_from("fmn"), st.sampled_from("wxyz")),
        st.integers(1, 20),
        min_size=2,
    ),
    data=st.data(),
)
def test_quotas_are_whole_exact_and_explained(counts: dict[tuple[str, ...], int], data: st.DataObject) -> None:
    populations = Counter[str]()
    for cell, count in counts.items():
        populations[cell[0]] += count
    quota = {name: data.draw(st.integers(0, size)) for name, size in populations.items()}
    if not sum(quota.values()):
        return
    allocation = allocate(counts, ("population", "gender", "ethnicity"), quota, {"ethnicity": 2}, rng_of(1))
    for name, wanted in quota.items():
        assert sum(number for cell, number in allocation.counts.items() if cell[0] == name) == wanted
    assert all(0 <= allocation.counts[cell] <= counts[cell] for cell in counts)
    for group in "wxyz":
        taken = sum(number for cell, number in allocation.counts.items() if cell[2] == group)
        there = sum(count for cell, count in counts.items() if cell[2] == group)
        if there and taken < min(2, sum(quota.values())):
            assert any(f"ethnicity {group!r}" in reason for reason in allocation.reasons)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1), st.integers(0, 100))
def test_proportional_quotas_add_up(counts: dict[str, int], total: int) -> None:
    if total > sum(counts.values()):
        with pytest.raises(InputError):
            proportional(counts, total)
        return
    quotas = proportional(counts, total)
    assert sum(quotas.values()) == total
    assert all(quotas[name] <= counts[name] for name in counts)
    assert all(abs(quotas[name] - counts[name] * total / sum(counts.values())) < 1 for name in counts)


def test_balance_agrees_with_scipy_and_finds_an_imbalance() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.choice(list("abc"), 400).tolist(), rng.choice(list("abc"), 300).tolist()
    ours = balance.balance(left, right, rng_of(1))
    table = pd.crosstab(np.array([*left, *right]), np.repeat([0, 1], [400, 300]))
    theirs = chi2_contingency(table, correction=False)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p_asymptotic == pytest.approx(theirs.pvalue)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.03)
    assert balance.balance(["a"] * 40, ["b"] * 40, rng_of(1)).p_value < 0.001
    assert balance.balance(["a"] * 40, ["a"] * 40, rng_of(1)).p_value == 1


def test_tables_of_the_appendices_count_everyone(built: records.Built) -> None:
    people = pd.DataFrame(built.pool)
    table = balance.composition(people)
    for _, part in table.groupby("characteristic"):
        assert part["pool"].sum() == 335
        assert part["selection"].sum() == 150
        assert part["train"].sum() + part["test"].sum() == 150
        assert part["pool_share"].sum() == pytest.approx(1)
    tests = balance.balance_tests(people, rng_of(1))
    against_test = tests[tests.comparison == "training against test"]
    assert (against_test.p_value > 0.5).all()
    assert (against_test.cramers_v < 0.1).all()


def test_copies_are_counted_once(tmp_path: Path) -> None:
    rows = invented_survey(42)
    campus = rows["campus"]
    same_answers = {**campus[3], QUESTIONS["participant"]: "someone-else"}
    same_id = {**campus[4], QUESTIONS["participant"]: campus[5][QUESTIONS["participant"]]}
    files = surveys(tmp_path, campus=[*campus, same_answers, same_id], community=rows["community"])
    built = records.build(Personas(surveys=files), 42)
    assert built.account["participants"] == 337
    assert [one["left_out"] for one in built.account["copies"]] == ["campus, line 126", "campus, line 127"]
    assert len(built.pool) == 335


def test_an_untidy_export_of_the_same_answers_gives_the_same_personas(tmp_path: Path) -> None:
    """Odd case, spaces, other headers, other signs between ethnicities, other ways to leave a question out."""
    wanting = (QUESTIONS["severity"], QUESTIONS["importance_trust_rapport"], QUESTIONS["gender"])
    absent = ("", "N/A", "  ", "Prefer not to say", "n/a ")
    tidy: dict[str, list[dict[str, str]]] = {}
    untidy: dict[str, list[dict[str, str]]] = {}
    for population, rows in invented_survey(42).items():
        for number, row in enumerate(rows):
            left_out = {wanting[number % 3]} if number % 6 == 0 else set()
            tidy.setdefault(population, []).append({name: "" if name in left_out else row[name] for name in row})
            shout = str.upper if number % 2 else str.lower
            untidy.setdefault(population, []).append(
                {
                    f" {place}) {name.upper()} ": absent[number % 5]
                    if name in left_out
                    else f"  {shout(cell).replace('; ', ' | ').replace(' ', '  ')} "
                    for place, (name, cell) in enumerate(row.items())
                }
            )
    made = []
    for name, rows_of in (("tidy", tidy), ("untidy", untidy)):
        (tmp_path / name).mkdir()
        made.append(records.build(Personas(surveys=surveys(tmp_path / name, **rows_of), quota=QUOTA), 42))
    first, second = ([{**row, "text": None, "ethnicities": None} for row in one.personas] for one in made)
    assert first == second
    assert made[0].account == made[1].account
    assert made[0].account["quality"]["lowest"] < 1
    for one, other in zip(made[0].personas, made[1].personas, strict=True):
        assert one["text"].casefold() == other["text"].casefold()
        assert [each.casefold() for each in one["ethnicities"]] == [each.casefold() for each in other["ethnicities"]]


def test_a_population_with_too_few_is_refused_with_the_numbers(tmp_path: Path) -> None:
    rows = invented_survey(42)
    files = surveys(tmp_path, campus=rows["campus"][:30], community=rows["community"])
    with pytest.raises(InputError, match="'campus' has 30 people who can be taken, but 61 are wanted"):
        records.build(Personas(surveys=files, quota=QUOTA), 42)
    with pytest.raises(InputError, match="only 60 of 60 people reach the quality floor"):
        few = surveys(tmp_path, campus=rows["campus"][:30], community=rows["community"][:30])
        records.build(Personas(surveys=few), 42)


def test_a_group_that_is_too_small_is_named(tmp_path: Path) -> None:
    rows = invented_survey(42)
    ethnicity = QUESTIONS["ethnicities"]
    seen = 0
    for row in [*rows["campus"], *rows["community"]]:
        if "Middle Eastern" in row[ethnicity]:
            seen += 1
            row[ethnicity] = row[ethnicity] if seen == 1 else "White"
    built = records.build(Personas(surveys=surveys(tmp_path, **rows), quota=QUOTA), 42)
    reasons = built.account["constraints_not_met"]
    assert any("test set, primary ethnicity 'Middle Eastern': 1 taken" in reason for reason in reasons)
    assert all("there are only 1" in reason for reason in reasons if "Middle Eastern" in reason)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: b"", "two columns|no answers|no column|header"),
        (lambda text: text.encode("utf-16"), "UTF-8"),
        (lambda text: text.split("\n", 1)[0].encode() + b"\n", "no answers"),
        (lambda text: text.replace(QUESTIONS["gender"], "Sex").encode(), "fits the field gender"),
        (lambda text: (text + ",".join(["x"] * 30) + "\n").encode(), "this row has 30 cells, the header 20"),
    ],
)
def test_broken_files_are_refused(
    tmp_path: Path, damage: Callable[[str], bytes], expected: str, modpo: Callable[..., CompletedProcess[str]]
) -> None:
    rows = invented_survey(42)
    path = write_csv(tmp_path / "campus.csv", rows["campus"])
    path.write_bytes(damage(path.read_text()))
    with pytest.raises(InputError, match=expected):
        records.build(Personas(surveys={"campus": path}), 42)


def test_the_stage_writes_private_tables_and_says_nothing(
    tmp_path: Path, modpo: Callable[..., CompletedProcess[str]]
) -> None:
    rows = invented_survey(42)
    files = surveys(tmp_path, campus=rows["campus"], community=rows["community"])
    settings = [f"personas.surveys={json.dumps({name: str(path) for name, path in files.items()})}"]
    done = modpo("run", "configs/demo.yaml", "--run", tmp_path / "run", "--only", "personas", "--set", *settings)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "personas"
    table = pq.read_table(folder / "personas.parquet")
    assert table.schema.equals(records.schema(load_columns().criteria))
    assert table.num_rows == 150
    for path in (tmp_path / "run").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    logs = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert logs
    spoken = [cell for row in rows["campus"] for cell in row.values() if len(cell) > 12]
    assert not [cell for cell in spoken if cell in logs + done.stdout + done.stderr]
