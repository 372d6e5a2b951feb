"""Contract 2 and 3: nothing half-made is taken for data, and what was finished inside a shard is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.core.atomic import atomic_file, atomic_folder
from modpo_hpc.core.journal import Journal
from modpo_hpc.core.markers import Marker, Output, describe_output, digest, read_marker, write_marker
from modpo_hpc.core.scratch import scratch_folder
from modpo_hpc.seeds import seed_of
from tests.conftest import REPOSITORY
from tests.waiting import wait_until

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=3), max_size=8)


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "data.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target, "w") as stream:
        stream.write("new, but only h")
        raise RuntimeError("disk on fire")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "weights").write_text("new")
        raise RuntimeError
    assert (target / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@given(rows=ROWS, more=ROWS, cut=st.integers(min_value=0, max_value=400))
def test_a_journal_cut_anywhere_keeps_a_prefix_and_goes_on(tmp_path_factory, rows, more, cut) -> None:
    path = tmp_path_factory.mktemp("journal") / "rows.jsonl"
    with Journal(path) as journal:
        journal.append(rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    with Journal(path) as journal:
        kept = list(journal.rows)
        assert kept == rows[: len(kept)]
        assert len(kept) >= whole[: max(0, len(whole) - cut)].count(b"\n")
        journal.append(more)
    assert Journal(path).rows == kept + more
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == kept + more


def test_a_writer_killed_between_any_two_instructions_leaves_whole_files_only(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from modpo_hpc.core.atomic import atomic_file\n"
        "for n in range(10**9):\n"
        "    with atomic_file(Path(sys.argv[1]) / 'table', 'w', durable=False) as s:\n"
        "        s.write(str(n)); s.flush(); s.write(' ' + str(n) * 1000 + ' end')\n"
    )
    for round_ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY)
        wait_until((tmp_path / "table").exists)
        time.sleep(0.01 * (seed_of("kill", round_) % 7))
        process.send_signal(signal.SIGKILL)
        process.wait()
        number, repeated, end = (tmp_path / "table").read_text().split(" ")
        assert (repeated, end) == (number * 1000, "end")


def test_two_attempts_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "7", "inputs") as first:
        (first / "state").write_text("precious")
        with scratch_folder(tmp_path, "7", "inputs") as second:
            assert second != first
        assert (first / "state").read_text() == "precious"
    with scratch_folder(tmp_path, "7", "inputs") as third:
        assert (third / "state").read_text() == "precious"


def test_scratch_made_from_other_inputs_is_thrown_away(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "7", "old") as folder:
        (folder / "state").write_text("from another study")
    with scratch_folder(tmp_path, "7", "new") as folder:
        assert not (folder / "state").exists()


def test_a_marker_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    table = tmp_path / "7.parquet"
    table.write_bytes(b"rows")
    marker = Marker("responses", "7", "abc", {"7.parquet": describe_output(table, 3)}, 1.0, 2.0, "host", "12_7", 2)
    write_marker(tmp_path, marker)
    assert read_marker(tmp_path, "7") == marker
    assert marker.rows == 3
    assert read_marker(tmp_path, "8") is None


@given(st.permutations(["a", "b", "c"]))
def test_a_digest_depends_on_bytes_and_not_on_order(order: list[str]) -> None:
    def made(shard: str, content: str) -> Marker:
        return Marker("s", shard, "i", {"t": Output(1, content)}, 0.0, 0.0, "h", None, 1)

    markers = {shard: made(shard, shard * 3) for shard in "abc"}
    assert digest(markers[one] for one in order) == digest(markers.values())
    changed = {**markers, "b": made("b", "other")}
    assert digest(changed.values()) != digest(markers.values())


def test_seeds_belong_to_items() -> None:
    assert seed_of(42, "responses", "q1", 0) == seed_of(42, "responses", "q1", 0)
    assert len({seed_of(42, "responses", f"q{n}", r) for n in range(200) for r in range(5)}) == 1000
    assert seed_of("ab", "c") != seed_of("a", "bc")


def test_a_run_directory_is_closed_to_others(modpo, tmp_path: Path) -> None:
    posts = tmp_path / "posts.csv"
    posts.write_text("sp_id,seeker_post\n" + "".join(f"{n},a post with words {'x' * n}\n" for n in range(40)))
    before = os.umask(0o022)
    try:
        result = modpo(
            "run", "configs/demo.yaml", "--run", tmp_path / "run", "--until", "questions",
            "--set", f"data.epitome={posts}", "--set", "data.test_size=10",
        )  # fmt: skip
    finally:
        os.umask(before)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
