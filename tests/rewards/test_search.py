"""The search is the same search whatever its workers do: order, number, deaths, torn journals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from modpo_hpc.errors import Interrupted, ModpoError
from modpo_hpc.search import RunningTrial, Search, SearchPlan, Trial
from modpo_hpc.search import search as search_module
from tests.waiting import PATIENCE, wait_until

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "width": CategoricalDistribution((8, 16)),
    "epochs": IntDistribution(3, 7),
}
PLAN = SearchPlan("valley", SPACE, trials=9, seed=7, startup=3, wave=3)


def height(attempt: RunningTrial) -> float:
    """A smooth hill with its top inside the space; reports each epoch on the way up."""
    top = -(abs(attempt.params["rate"] - 0.01) * 30) - abs(attempt.params["width"] - 16) / 8
    for epoch in range(attempt.params["epochs"]):
        attempt.report(epoch, top - 1 / (epoch + 1))
    attempt.facts["rate_squared"] = attempt.params["rate"] ** 2
    return top


def undisturbed(folder: Path, plan: SearchPlan = PLAN) -> list[Trial]:
    search = Search(folder / "undisturbed.journal", plan)
    return [search.run(number, height) for number in range(plan.trials)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(PLAN.trials)))
def test_any_order_gives_the_same_trials(tmp_path: Path, order: list[int]) -> None:
    expected = undisturbed(tmp_path)
    journal = tmp_path / f"{'-'.join(map(str, order))}.journal"
    for number in order:
        assert Search(journal, PLAN).run(number, height) == expected[number]
    assert Search(journal, PLAN).finished() == expected


def test_pruning_and_learning_happen_and_see_earlier_waves_only(tmp_path: Path) -> None:
    plan = SearchPlan("valley", SPACE, trials=30, seed=1, startup=6, wave=6)
    trials = undisturbed(tmp_path, plan)
    assert any(trial.pruned for trial in trials[6:])
    assert not any(trial.pruned for trial in trials[:6])
    assert [trial.facts["learned_from"] for trial in trials] == [0] * 6 + [6] * 6 + [12] * 6 + [18] * 6 + [24] * 6
    assert len({trial.params["rate"] for trial in trials}) == 30
    assert max(trial.value for trial in trials[6:] if not trial.pruned) > max(trial.value for trial in trials[:6])


def test_a_finished_search_is_never_searched_again(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)

    def never(attempt: RunningTrial) -> float:
        raise AssertionError("searched again")

    assert [Search(tmp_path / "undisturbed.journal", PLAN).run(n, never) for n in range(PLAN.trials)] == expected


def _work(journal: Path, numbers: list[int], computed: Path) -> None:
    def objective(attempt: RunningTrial) -> float:
        with open(computed, "a") as stream:
            stream.write(f"{attempt.number}\n")
        time.sleep(0.05)
        return height(attempt)

    for number in numbers:
        Search(journal, PLAN).run(number, objective)


def test_many_workers_compute_each_trial_once(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    spawn = multiprocessing.get_context("fork")
    journal, computed = tmp_path / "shared.journal", tmp_path / "computed"
    orders = [list(range(9)), list(reversed(range(9))), [4, 0, 8, 2, 6, 1, 3, 5, 7]]
    workers = [spawn.Process(target=_work, args=(journal, order, computed)) for order in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert Search(journal, PLAN).finished() == expected
    assert sorted(map(int, computed.read_text().split())) == list(range(9))


def _hang(journal: Path, number: int, begun: Path) -> None:
    def objective(attempt: RunningTrial) -> float:
        begun.touch()
        time.sleep(600)
        return 0.0

    Search(journal, PLAN).run(number, objective)


def _kill_in_the_middle_of(journal: Path, number: int, begun: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_hang, args=(journal, number, begun))
    worker.start()
    wait_until(begun.exists)
    begun.unlink()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()


def test_a_killed_worker_is_replaced_at_once_by_one_that_needs_its_trial(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path)
    journal = tmp_path / "killed.journal"
    _kill_in_the_middle_of(journal, 1, tmp_path / "begun")
    assert Search(journal, PLAN).run(4, height) == expected[4]
    assert Search(journal, PLAN).run(1, height) == expected[1]


def test_others_take_up_a_dying_trial_a_bounded_number_of_times(tmp_path: Path) -> None:
    journal = tmp_path / "dying.journal"
    for _ in range(PLAN.retries + 1):
        _kill_in_the_middle_of(journal, 1, tmp_path / "begun")
    with pytest.raises(ModpoError, match=r"trial 1.*failed 3 times.*its worker died"):
        Search(journal, PLAN).run(4, height)
    assert Search(journal, PLAN).run(1, height).number == 1, "asked for by name, it is tried again"
    assert Search(journal, PLAN).run(4, height).number == 4


def test_an_error_passes_through_and_is_told_to_those_who_wait_for_the_trial(tmp_path: Path) -> None:
    def out_of_memory(attempt: RunningTrial) -> float:
        raise MemoryError("39 GiB wanted")

    for _ in range(PLAN.retries + 1):
        with pytest.raises(MemoryError):
            Search(tmp_path / "j", PLAN).run(0, out_of_memory)
    with pytest.raises(ModpoError, match="MemoryError: 39 GiB wanted"):
        Search(tmp_path / "j", PLAN).run(8, height)


def test_interruptions_are_no_failures(tmp_path: Path) -> None:
    def preempted(attempt: RunningTrial) -> float:
        raise Interrupted("asked to stop")

    for _ in range(5):
        with pytest.raises(Interrupted):
            Search(tmp_path / "j", PLAN).run(0, preempted)
    assert Search(tmp_path / "j", PLAN).run(8, height) == undisturbed(tmp_path)[8]


def test_a_worker_on_another_machine_counts_as_dead_after_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "far.journal"
    _kill_in_the_middle_of(journal, 0, tmp_path / "begun")
    monkeypatch.setattr(search_module, "is_dead", lambda worker: None)
    monkeypatch.setattr(search_module, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(search_module, "POLL_SECONDS", 0.05)
    assert Search(journal, PLAN).run(0, height) == undisturbed(tmp_path)[0]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_journal_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    expected = undisturbed(tmp_path)
    journal = tmp_path / "torn.journal"
    Search(journal, PLAN).run(3, height)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    assert [Search(journal, PLAN).run(n, height) for n in range(PLAN.trials)] == expected


def test_the_journal_is_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = Search(Path("here.journal"), PLAN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert search.run(0, height) == undisturbed(tmp_path)[0]
    assert list(elsewhere.iterdir()) == []
