"""The ledger: what was appended is found again by anybody, whatever a kill did to the last write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modpo_hpc.llm import segments
from modpo_hpc.llm.ledger import Entry, Ledger, Usage, entries
from tests.machine import ZSTD


def entry(number: int, answer: str | None = "{}") -> Entry:
    key = number.to_bytes(8, "little") + bytes(8)
    return Entry(key, answer, "judge", ("empathy",), 2, "test", usage=Usage(number, 1, 0, 0.5), at=1.0)


def test_what_one_process_writes_another_finds(tmp_path: Path) -> None:
    with Ledger(tmp_path) as one:
        one.append([entry(1), entry(2, "Schön \u2028 {}")])
        with Ledger(tmp_path) as other:  # while the first still writes
            assert other.find([entry(2).key, entry(3).key]) == {entry(2).key: entry(2, "Schön \u2028 {}")}
            other.append([entry(3)])
            one.refresh()
            assert set(one.find([entry(n).key for n in range(5)])) == {entry(n).key for n in (1, 2, 3)}
    with Ledger(tmp_path) as later:
        assert later.find([entry(3).key]) == {entry(3).key: entry(3)}
    assert [one.key for one in entries(tmp_path)] == [entry(n).key for n in (1, 2, 3)]


def test_a_ledger_that_only_reads_leaves_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "new") as ledger:
        assert ledger.find([entry(1).key]) == {}
    assert not (tmp_path / "new").exists()


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5), data=st.data())
def test_a_torn_write_costs_itself_alone(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger(folder) as ledger:
        start = 0
        for size in sizes:
            ledger.append([entry(number) for number in range(start, start + size)])
            start += size
    (segment,) = segments.segments(folder)
    ends = [frame.end for frame in segments.scan(segment).frames]
    cut = data.draw(st.integers(0, segment.stat().st_size))
    with open(segment, "r+b") as stream:
        stream.truncate(cut)
    whole = sum(size for size, end in zip(sizes, ends, strict=True) if end <= cut)
    with Ledger(folder) as ledger:
        found = ledger.find([entry(number).key for number in range(sum(sizes))])
        assert found == {entry(number).key: entry(number) for number in range(whole)}
        ledger.append([entry(10_000)])
    assert segments.scan(segment).lost_bytes == cut - max((end for end in ends if end <= cut), default=0)
    with Ledger(folder) as ledger:
        assert entry(10_000).key in ledger.find([entry(10_000).key])


def test_damage_in_the_middle_is_counted_and_the_rest_is_found(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for number in range(3):
            ledger.append([entry(number)])
    (segment,) = segments.segments(tmp_path)
    middle = segments.scan(segment).frames[1]
    data = bytearray(segment.read_bytes())
    data[middle.end - 3] ^= 0xFF
    segment.write_bytes(data)
    for index in tmp_path.glob("*.index"):
        index.unlink()
    assert segments.scan(segment).lost_bytes == middle.end - middle.offset
    with Ledger(tmp_path) as ledger:
        assert set(ledger.find([entry(n).key for n in range(3)])) == {entry(0).key, entry(2).key}


def test_a_killed_writer_loses_at_most_what_it_was_writing(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from modpo_hpc.llm.ledger import Ledger
        from tests.judging.test_ledger import entry
        with Ledger(Path(sys.argv[1])) as ledger:
            number = 0
            while True:
                ledger.append([entry(number)])
                print(number, flush=True)
                number += 1
        """
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert writer.stdout is not None
    for _ in range(30):
        said = int(writer.stdout.readline())
    (segment,) = segments.segments(tmp_path)
    assert segments.is_locked(segment)
    writer.send_signal(signal.SIGKILL)
    said = max([said, *(int(line) for line in writer.stdout)])
    writer.wait()
    with Ledger(tmp_path) as ledger:
        assert len(ledger.find([entry(number).key for number in range(said + 1)])) == said + 1
    assert not segments.is_locked(segment)


@pytest.mark.skipif(ZSTD.missing, reason=ZSTD.reason)
def test_a_segment_is_plain_json_lines_to_zstdcat(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append([entry(1)])
        ledger.append([entry(2)])
    (segment,) = segments.segments(tmp_path)
    shown = subprocess.run(["zstdcat", str(segment)], capture_output=True, text=True, check=True).stdout
    assert shown.count('"key"') == 2
