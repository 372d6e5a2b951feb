"""One model behind all tables: it covers, it does not depend on names, and no two tables contradict each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modpo_hpc.evaluation import inference, winrates
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from tests.bench.coverage import Design, coverage
from tests.synthetic_verdicts import small_run, small_study


@pytest.mark.parametrize(
    "design",
    [Design(20, 100, 0.12, 0.1, False), Design(20, 100, 0.25, 0.01, True), Design(6, 100, 0.12, 0.1, True)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(design: Design) -> None:
    """80 studies of each design; ``make bench-coverage`` goes over the whole grid."""
    held, rejected = coverage(design, 80, seed=3)
    for name in ("win rate", "difference", "average", "group", "group of 2", "persona"):
        assert 0.91 <= held[name] <= 0.99, (name, held)
    assert min(held["all differences"], held["all ranks"]) > 0.88
    if not design.apart:  # McNemar's test takes these personas for all there are
        assert rejected > 0.2


def test_personas_who_agree_on_all_questions_are_one_vote() -> None:
    """Persona effects shared by all questions do not average out over questions, however many."""
    rng = np.random.default_rng(1)
    taste = rng.normal(0, 1, (1, 1, 12))
    few, many = (
        np.where(taste + rng.normal(0, 1, (1, questions, 12)) > 0, 1, -1).astype(np.int8) for questions in (100, 1600)
    )
    spread = [inference.majority_errors(votes, 2000, rng)[:, 0, 0].std() for votes in (few, many)]
    assert spread[1] > 0.6 * spread[0]
    alike = [
        inference.majority_errors(rng.choice([-1, 1], (1, questions, 12)).astype(np.int8), 2000, rng)[:, 0, 0].std()
        for questions in (100, 1600)
    ]
    assert alike[1] < 0.45 * alike[0]


def test_errors_are_centred_and_swap_with_the_names() -> None:
    votes = np.random.default_rng(0).choice([-1, 0, 1], size=(3, 80, 9), p=[0.2, 0.1, 0.7]).astype(np.int8)
    errors, swapped = (inference.majority_errors(one, 4000, np.random.default_rng(1)) for one in (votes, -votes))
    spread = errors.std(axis=0)
    assert (np.abs(errors.mean(axis=0)) < 4 * spread / np.sqrt(4000)).all()
    np.testing.assert_allclose(spread[0], swapped.std(axis=0)[1], rtol=0.1)


def test_a_clean_sweep_leaves_room_for_a_loss_and_no_more_than_there_is() -> None:
    votes = np.ones((1, 100, 5), dtype=np.int8)
    errors = inference.majority_errors(votes, 1000, np.random.default_rng(0))
    made = inference.intervals(np.ones(1), errors[:, 0], 0.95, 100)
    assert 0.9 < made.low[0] < made.high[0] == 1.0


def test_330_to_270_may_be_first_or_second() -> None:
    """A policy that wins more often cannot be sure to be second (it was, when draws were not centred)."""
    rng = np.random.default_rng(0)
    ahead = rng.permutation(np.repeat([27, 23], [330, 270]))
    votes = np.where(rng.random((600, 50)).argsort(axis=1) < ahead[:, None], 1, -1).astype(np.int8)[None]
    wins = winrates.count_wins(winrates.majorities(votes))
    assert (wins.a[0], wins.b[0]) == (330, 270)
    average = winrates.average_rates(*wins.rates(), 2)
    errors = inference.majority_errors(votes, 2000, rng)
    drawn = average + winrates.average_rates(errors[:, 0], errors[:, 1], 2)
    assert 0.5 < (winrates.ranks(drawn)[:, 0] == 1).mean() < 1


@pytest.fixture(scope="module", params=["none", "half"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    study = small_study(statistics={"draws": 2000, "ties": request.param})
    run = small_run(tmp_path_factory.mktemp("one") / "run", study, ties=0.1)
    run_shard(str(run.root), "statistics", "all")
    return run


def test_no_two_tables_of_a_phase_contradict_each_other(finished: Run) -> None:
    contradictions = list(contradictions_in({name: rows_of(finished, name) for name in TABLES}))
    assert contradictions == []


def test_the_check_finds_a_contradiction(finished: Run) -> None:
    """Each check is shown one table turned round, and must say so."""
    tables = {name: rows_of(finished, name) for name in TABLES}
    turned = [
        ("ranking", {"best_probability": lambda row: 1 - row["best_probability"]}),
        ("ranking", {"rank_low": lambda row: row["rank"] + 1}),
        ("ranking", {"win_rate": lambda row: 1 - row["win_rate"]}),
        ("win_rates", {"separated": lambda row: not row["separated"]}),
        ("mcnemar", {"b": lambda row: row["c"], "c": lambda row: row["b"], "favours": lambda row: row["policy_b"]}),
        ("pareto", {"on_front": lambda row: not row["on_front"]}),
        ("groups", {"overall": lambda row: -row["overall"]}),
    ]
    for name, changes in turned:
        rows = [{**row, **{column: change(row) for column, change in changes.items()}} for row in tables[name]]
        assert list(contradictions_in({**tables, name: rows})), (name, changes)


TABLES = ("win_rates", "mcnemar", "ranking", "pareto", "groups", "persona_rates")


def rows_of(run: Run, name: str) -> list[dict[str, Any]]:
    from modpo_hpc.report.results import read_results

    return read_results(run).tables[name]


def contradictions_in(tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Every two cells of the tables of a run of which not both can be true."""
    found: list[str] = []

    def check(holds: bool, *what: object) -> None:
        if not holds:
            found.append(" ".join(map(str, what)))

    tests = {(row["phase"], row["criterion"], row["policy_a"], row["policy_b"]): row for row in tables["mcnemar"]}
    rates: dict[tuple[str, str, str], list[float]] = {}
    for row in tables["win_rates"]:
        key = (row["phase"], row["criterion"], row["policy_a"], row["policy_b"])
        rates.setdefault((*key[:2], key[2]), []).append(row["win_rate_a"])
        rates.setdefault((*key[:2], key[3]), []).append(row["win_rate_b"])
        check((row["wins_a"], row["wins_b"], row["ties"]) == tuple(tests[key][one] for one in ("b", "c", "ties")), key)
        won = {1: key[2], -1: key[3], 0: ""}[int(np.sign(row["difference"]))]
        check(tests[key]["favours"] == won, key, "favours")
        for name, low, high in (("win_rate_a", "a_low", "a_high"), ("win_rate_b", "b_low", "b_high")):
            check(row[low] <= row[name] <= row[high], key, name)
        check(row["difference_all_low"] <= row["difference_low"] <= row["difference"], key, "low")
        check(row["difference"] <= row["difference_high"] <= row["difference_all_high"], key, "high")
        apart = row["difference_all_low"] > 0 or row["difference_all_high"] < 0
        check(row["separated"] == apart, key, "separated")
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in tables["ranking"]:
        cells.setdefault((row["phase"], row["criterion"]), []).append(row)
    for cell, rows in cells.items():
        for row in rows:
            check(row["win_rate"] == pytest.approx(np.mean(rates[(*cell, row["policy"])])), cell, row["policy"], "mean")
            check(row["low"] <= row["win_rate"] <= row["high"], cell, row["policy"], "interval")
            above = sum(one["win_rate"] > row["win_rate"] for one in rows)
            check(row["rank"] == 1 + above, cell, row["policy"], "rank")
            check(row["rank_low"] <= row["rank"] <= row["rank_high"], cell, row["policy"], "ranks")
            check(row["best_probability"] == 0 or row["high"] > 0, cell, row["policy"], "P(best)")
        best = max(rows, key=lambda one: one["best_probability"])
        check(best["rank"] == 1, cell, "P(best) is highest for", best["policy"])
        first = next(row for row in rows if row["rank"] == 1)
        for row in rows:
            sure = row["rank_low"] > 1 and len(rows) == 2
            check(not sure or row["best_probability"] < 0.05, cell, row["policy"], "surely not first")
            check(row["best_probability"] <= first["best_probability"], cell, row["policy"], "more likely first")
    phases: dict[str, list[dict[str, Any]]] = {}
    for row in tables["pareto"]:
        phases.setdefault(row["phase"], []).append(row)
    for phase, rows in phases.items():
        point = {
            row["policy"]: [
                one["win_rate"]
                for (p, _), cell in cells.items()
                if p == phase
                for one in cell
                if one["policy"] == row["policy"]
            ]
            for row in rows
        }
        for row in rows:
            mine = point[row["policy"]]
            beaten = any(
                all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in point.values()
            )
            check(row["on_front"] == (not beaten), phase, row["policy"], "front")
            check(row["mean_win_rate"] == pytest.approx(np.mean(mine)), phase, row["policy"], "mean of criteria")
    persona: dict[tuple[str, str, str], list[float]] = {}
    for row in tables["persona_rates"]:
        persona.setdefault((row["phase"], row["criterion"], row["policy"]), []).append(row["win_rate"])
        check(row["low"] <= row["win_rate"] <= row["high"], row["persona_id"])
    for row in tables["groups"]:
        key3 = (row["phase"], row["criterion"], row["policy"])
        check(row["overall"] == pytest.approx(np.mean(persona[key3])), key3, row["group"], "overall")
        check(row["low"] <= row["win_rate"] <= row["high"], key3, row["group"])
        highest = max(np.mean(persona[(*key3[:2], one)]) for *_, one in persona if (*key3[:2], one) in persona)
        check(not row["favourite"] or row["overall"] == pytest.approx(highest), key3, "favourite")
        check(not row["separated"] or row["best_here"] != row["policy"] or not row["favourite"], key3, "separated")
    return found
