"""A shard sees whether all is there that it needs, and many shards do not read every marker of it again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from modpo_hpc.core import marker_index, markers
from modpo_hpc.core.marker_index import MarkerLine, line_of, read_lines
from modpo_hpc.core.markers import (
    IMPORTED,
    MARKERS,
    Marker,
    Output,
    marker_path,
    read_marker,
    read_marker_file,
    write_marker,
)
from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch.entry import recipe, run_shard
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.slurm import fates
from tests.slurm.fates import write_recipes

IDS = tuple(str(number) for number in range(20))


def mark(folder: Path, shard: str, content: str = "a", inputs: str = "x") -> None:
    outputs = {f"{shard}.parquet": Output(1, content)}
    write_marker(folder, Marker("responses", shard, inputs, outputs, 0.0, 1.0, "h", None, 1))


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every marker that is read from now on."""
    read, reader = [], read_marker_file

    def counting(path: Path) -> Marker | None:
        read.append(path.stem)
        return reader(path)

    monkeypatch.setattr(markers, "read_marker_file", counting)
    return read


def by_reading(folder: Path) -> dict[str, MarkerLine]:
    return {shard: line_of(marker) for shard in IDS if (marker := read_marker(folder, shard))}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("still_seconds", [0.0, 3.0])
def test_what_is_kept_of_the_markers_never_hides_a_change(
    tmp_path: Path, seed: int, still_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markers are added, replaced and taken away at random, at any time before and after they are looked at."""
    monkeypatch.setattr(marker_index, "STILL_SECONDS", still_seconds)
    monkeypatch.setattr(marker_index, "KEPT_FROM", 1)
    chance = random.Random(seed)
    for number in range(60):
        shard = chance.choice(IDS)
        if chance.random() < 0.2:
            marker_path(tmp_path, shard).unlink(missing_ok=True)
        else:
            mark(tmp_path, shard, chance.choice("abc"), chance.choice(("x", "y", IMPORTED)))
        if (tmp_path / MARKERS).exists():  # the clock of the folder stands where the test puts it
            os.utime(tmp_path / MARKERS, (number, number))
        for _ in range(chance.randrange(3)):
            assert read_lines(tmp_path, IDS) == by_reading(tmp_path)


def test_markers_that_did_not_change_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in IDS:
        mark(tmp_path, shard)
    read = counted_reads(monkeypatch)
    for _ in range(4):
        assert len(read_lines(tmp_path, IDS)) == len(IDS)
    assert len(read) == len(IDS)
    mark(tmp_path, "7", "b")
    assert read_lines(tmp_path, IDS)["7"] != read_lines(tmp_path, IDS)["8"]
    assert len(read) <= len(IDS) + 2, "only what is new is read"


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
        for shard in run.shard_ids(stage):
            run_shard(str(run.root), stage, shard)
    for shard in run.shard_ids("responses"):
        inputs = run.inputs("responses", shard)
        write_marker(run.folder("responses"), Marker("responses", shard, inputs, {}, 0, 1, "h", None, 1))
    read = counted_reads(monkeypatch)
    for shard in run.shard_ids("rankings"):
        run_shard(str(run.root), "rankings", shard)
    assert len([one for one in read if one.isdigit()]) < (marker_index.KEPT_FROM + 4) * many, "not every one for each"
    marker_path(run.folder("responses"), "7").unlink()
    with pytest.raises(
        IncompleteError, match=r"rankings 0 needs responses, of which 1 shards are missing or stale \(7\)"
    ):
        run_shard(str(run.root), "rankings", "0")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": "questions"}', b"\x00" * 64])
def test_a_damaged_marker_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    mark(tmp_path, "0")
    marker_path(tmp_path, "0").write_bytes(content)
    for look in (lambda: read_marker(tmp_path, "0"), lambda: read_lines(tmp_path, IDS)):
        with pytest.raises(InputError, match="Remove the file") as error:
            look()
        assert error.value.file == marker_path(tmp_path, "0")


def test_a_recipe_is_that_of_the_folder_that_is_named_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recipes(tmp_path / "own")
    monkeypatch.setenv("MODPO_JOBS", str(tmp_path / "own"))
    assert recipe(stage_named("rankings")) is fates.make
    monkeypatch.delenv("MODPO_JOBS")
    assert recipe(stage_named("rankings")) is not fates.make
