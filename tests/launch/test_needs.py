"""A shard sees whether all is there that it needs, and many shards do not read every marker of it again."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from modpo_hpc import shards, summaries
from modpo_hpc.errors import IncompleteError
from modpo_hpc.launch.entry import recipe, run_shard
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run
from modpo_hpc.shards import IMPORTED, Marker, Output, marker_path, write_marker
from modpo_hpc.study import load_study
from modpo_hpc.summaries import MarkerSummary, summarise_markers
from tests.conftest import REPOSITORY
from tests.slurm import fates
from tests.slurm.fates import write_recipes

IDS = ("0", "1", "2")
TICKS = 0.06
"""More than one tick of the clock with which this machine's filesystem stamps a change."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "STILL_SECONDS", TICKS / 2)


def mark(folder: Path, shard: str, content: str = "a", inputs: str = "x") -> None:
    outputs = {f"{shard}.parquet": Output(1, content)}
    write_marker(folder, Marker("responses", shard, inputs, outputs, 0.0, 1.0, "h", None, 1))


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every marker that is read from now on."""
    read, reader = [], shards.read_marker

    def counting(folder: Path, shard: str) -> Marker | None:
        read.append(shard)
        return reader(folder, shard)

    monkeypatch.setattr(shards, "read_marker", counting)
    return read


def by_reading(folder: Path) -> MarkerSummary:
    markers = [marker for shard in IDS if (marker := shards.read_marker(folder, shard))]
    inputs = tuple(sorted({marker.inputs for marker in markers}))
    return MarkerSummary(shards.digest(markers), inputs, len(IDS) - len(markers))


@pytest.mark.parametrize("seed", range(6))
def test_a_summary_never_hides_a_change(tmp_path: Path, seed: int) -> None:
    """Markers are added, replaced and taken away at random, with and without pauses."""
    chance = random.Random(seed)
    for _ in range(40):
        shard = chance.choice(IDS)
        if chance.random() < 0.2:
            marker_path(tmp_path, shard).unlink(missing_ok=True)
        else:
            mark(tmp_path, shard, chance.choice("abc"), chance.choice(("x", "y", IMPORTED)))
        for _ in range(chance.randrange(3)):
            time.sleep(chance.choice((0, 0, TICKS)))
            assert summarise_markers(tmp_path, IDS) == by_reading(tmp_path)
    assert summarise_markers(tmp_path, ("0",)) != summarise_markers(tmp_path, IDS)


def test_a_summary_is_kept_only_of_a_complete_stage_that_has_been_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted_reads(monkeypatch)
    for shard in IDS[:2]:
        mark(tmp_path, shard)
    time.sleep(TICKS)
    for _ in range(2):
        assert not summarise_markers(tmp_path, IDS).complete("x")
    assert len(read) == 6, "incomplete: read every time"
    mark(tmp_path, "2", inputs=IMPORTED)
    monkeypatch.setattr(summaries, "STILL_SECONDS", 60)
    summarise_markers(tmp_path, IDS)
    summarise_markers(tmp_path, IDS)
    assert len(read) == 12, "just changed: read every time"
    monkeypatch.setattr(summaries, "STILL_SECONDS", TICKS / 2)
    time.sleep(TICKS)
    for _ in range(5):
        summary = summarise_markers(tmp_path, IDS)
        assert summary.complete("x")
        assert not summary.complete("y")
    assert len(read) == 15, "still: read once more, then never"


def test_a_stage_behind_many_shards_reads_each_of_their_markers_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 60
    write_recipes(tmp_path / "recipes")
    monkeypatch.setenv("MODPO_JOBS", str(tmp_path / "recipes"))
    monkeypatch.setenv("MODPO_TEST_FATES", str(tmp_path))
    study = load_study(REPOSITORY / "configs" / "demo.yaml", [f"shards.responses={many}", f"shards.rankings={many}"])
    run = Run.create(tmp_path / "run", study)
    for stage in ("questions", "personas", "models"):
        run_shard(str(run.root), stage, "all")
    for shard in run.shard_ids("responses"):
        write_marker(
            run.folder("responses"), Marker("responses", shard, run.inputs("responses"), {}, 0, 1, "h", None, 1)
        )
    time.sleep(TICKS)
    read = counted_reads(monkeypatch)
    for shard in run.shard_ids("rankings"):
        run_shard(str(run.root), "rankings", shard)
    assert len(read) < 4 * many, "one look at each marker, and one at the shard's own"
    marker_path(run.folder("responses"), "7").unlink()
    with pytest.raises(
        IncompleteError, match=r"rankings needs responses, of which 1 shards are missing or stale \(7\)"
    ):
        run_shard(str(run.root), "rankings", "0")


def test_a_recipe_is_that_of_the_folder_that_is_named_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipes(tmp_path / "own")
    monkeypatch.setenv("MODPO_JOBS", str(tmp_path / "own"))
    assert recipe(stage_named("rankings")) is fates.make
    monkeypatch.delenv("MODPO_JOBS")
    assert recipe(stage_named("rankings")) is not fates.make
