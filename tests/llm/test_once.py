"""At most once: processes that share a ledger never ask the same thing twice; damage is named and read around."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modpo_hpc.errors import InputError
from modpo_hpc.generation.machine import free_port
from modpo_hpc.judging.audit import audit
from modpo_hpc.judging.opinions import Judgment
from modpo_hpc.llm import segments
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.endpoints import check_connection
from modpo_hpc.llm.ledger import Entry, Ledger, Usage, entries, spent
from modpo_hpc.llm.retry import Window, retry_after
from tests.conftest import REPOSITORY
from tests.judging.servers import counting_server
from tests.judging.test_flow import ask, asked, many, settings


def test_two_runs_at_once_ask_everything_once_and_have_the_same_table(tmp_path: Path) -> None:
    heard: dict[int, list[Judgment | None]] = {}

    def run(number: int) -> None:
        heard[number], _ = ask(tmp_path, many(300), judge)

    with counting_server(tmp_path, latency=0.02, babble=0.3) as (url, calls):
        judge = settings(url, window=8)
        both = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        taken = asked(calls)
    assert max(taken.values()) == 1
    assert heard[0] == heard[1]
    assert all(heard[0])
    kept = [entry.key for entry in entries(tmp_path / "ledger")]
    assert len(set(kept)) == len(kept) == len(taken)


def test_claims_of_the_dead_expire_and_those_of_the_living_do_not(tmp_path: Path) -> None:
    keys = [bytes([number] * 16) for number in range(4)]
    program = (
        "import os, sys; from pathlib import Path; from modpo_hpc.llm.claims import Claims\n"
        "claims = Claims(Path(sys.argv[1])); claims.take([bytes([n] * 16) for n in range(3)])\n"
        "print('taken', flush=True); sys.stdin.read(); os._exit(9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    other = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    other.stdout.readline()
    ours = Claims(tmp_path)
    assert ours.take(keys) == {keys[3]}
    other.stdin.close()
    other.wait()
    assert ours.take(keys) == set(keys)
    ours.close()


def test_a_node_that_is_silent_for_long_is_dead_whatever_its_lock_says(tmp_path: Path) -> None:
    clock = [1e9]
    one, other = Claims(tmp_path, clock=lambda: clock[0]), Claims(tmp_path, clock=lambda: clock[0])
    assert one.take([b"k" * 16])
    assert not other.take([b"k" * 16])
    clock[0] += 1000
    other.renew()
    assert other.take([b"k" * 16])


def entry(number: int) -> Entry:
    return Entry(number.to_bytes(16, "big"), "{}" * (number % 5), "judge", ("e",), 2, "m", usage=Usage(1, 1, 0, 0.25))


FRAMES, ROWS = 6, 10
PLACES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def whole_ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """The folder of a ledger of one closed segment, and the bytes of the segment and of its index."""
    folder = tmp_path_factory.mktemp("whole")
    with Ledger(folder) as ledger:
        for start in range(0, FRAMES * ROWS, ROWS):
            ledger.append([entry(number) for number in range(start, start + ROWS)])
    (segment,), (index,) = segments.segments(folder), folder.glob("*.index")
    return folder, segment.read_bytes(), index.read_bytes()


def damaged(data: bytes, flips: list[tuple[float, int]], kept: float) -> bytes:
    found = bytearray(data)
    for place, mask in flips:
        found[int(place * len(data))] ^= mask
    return bytes(found[: int(kept * len(data))])


@given(
    where=st.sampled_from(["segment", "index", "both"]),
    flips=PLACES,
    near_the_head=st.booleans(),
    kept=st.sampled_from([1.0, 1.0, 1.0, 0.999, 0.6, 0.05, 0.0]),
)
@example("index", [(0.0, 0)], False, 0.0)
@example("segment", [(0.0, 0)], False, 0.0)
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_damaged_no_answer_is_wrong_and_nothing_crashes(
    whole_ledger: tuple[Path, bytes, bytes],
    caplog: pytest.LogCaptureFixture,
    where: str,
    flips: list[tuple[float, int]],
    near_the_head: bool,
    kept: float,
) -> None:
    """Bytes flipped and ends cut off, in a closed segment, its index, or both."""
    folder, *whole = whole_ledger
    (segment,) = segments.segments(folder)
    index = segment.with_name(segment.name.replace(".jsonl.zst", ".index"))
    flips = [(place / 20 if near_the_head else place, mask) for place, mask in flips]
    lost: set[int] = set()
    segment.write_bytes(whole[0])
    if where != "index":
        segment.write_bytes(damaged(whole[0], flips, kept))
    changed = [n for n, (a, b) in enumerate(zip(whole[0], segment.read_bytes(), strict=False)) if a != b]
    changed += range(segment.stat().st_size, len(whole[0]))
    index.write_bytes(damaged(whole[1], flips, kept) if where != "segment" else whole[1])
    index_is_whole, size = index.read_bytes() == whole[1], segment.stat().st_size
    probe = segment.with_suffix(".probe")
    probe.write_bytes(whole[0])
    for number, frame in enumerate(segments.scan(probe).frames):
        if any(frame.offset <= place < frame.end for place in changed):
            lost.update(range(number * ROWS, (number + 1) * ROWS))
    probe.unlink()
    torn = segments.lost_bytes(segment, segments.scan(segment))
    caplog.clear()
    with caplog.at_level(logging.WARNING), Ledger(folder) as ledger:
        found = ledger.find([entry(number).key for number in range(FRAMES * ROWS)])
    assert found == {entry(n).key: entry(n) for n in range(FRAMES * ROWS) if n not in lost}
    assert bool(torn) == (bool(changed) and (index_is_whole or size > 0))
    # what was paid for answers that are lost stays spent, as long as anything knows of it
    assert spent(folder) == pytest.approx(0.25 * (FRAMES * ROWS if index_is_whole else len(found)))
    assert audit(folder).keys == len(found)
    assert bool(caplog.records) == (not index_is_whole or bool(changed))
    with Ledger(folder) as again:  # what was made anew is whole
        assert again.find(list(found)) == found
    assert segment.stat().st_size == size


def test_spending_is_known_without_reading_the_answers(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append([entry(number) for number in range(8)])
        assert spent(tmp_path) == pytest.approx(2.0)
    assert spent(tmp_path) == pytest.approx(2.0)


NOW = datetime(2026, 1, 5, 12, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"Retry-After": "Mon, 05 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Monday, 05-Jan-26 12:00:30 GMT"}, 30.0),
        ({"Retry-After": "Mon, 05 Jan 2026 11:00:00 GMT"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_both_forms_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_after_a_fall_the_window_is_open_again_after_a_few_windows_of_answers() -> None:
    window = Window(128)
    while window.limit < 128:
        window.answered()
    assert window.too_fast(1.0, 2.0)
    assert not window.too_fast(1.5, 2.1)
    assert window.limit == 64
    answers = 0
    while window.limit < 128:
        window.answered()
        answers += 1
    assert answers < 12 * 128


def test_an_address_where_nobody_listens_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"judge\.base_url.*nobody answers at 127\.0\.0\.1"):
        check_connection(f"http://127.0.0.1:{free_port()}/v1", seconds=0.0)
    with pytest.raises(InputError, match="this is no URL"):
        check_connection("127.0.0.1:80/v1")


def through_a_proxy(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Callable[[str], Any]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    from modpo_hpc.llm import endpoints

    return endpoints._first_hop


def test_a_proxy_of_the_environment_is_the_way_except_to_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting_server(tmp_path, latency=0.0) as (url, calls):
        port = url.split(":")[2].removesuffix("/v1")
        hop = through_a_proxy(monkeypatch, http_proxy=f"http://127.0.0.1:{port}", no_proxy="inside.example")
        assert hop("http://far.example/v1") == ("127.0.0.1", int(port), ", the proxy")
        assert hop("http://inside.example/v1")[0] == "inside.example"
        assert hop("http://127.0.0.1:9/v1")[:2] == ("127.0.0.1", 9)
        # the server takes what is meant for a host that does not exist: the request came through the proxy
        judgments, _ = ask(tmp_path, many(3), settings("http://far.example/v1", outage_minutes=0.05))
        assert all(judgments)
        assert sum(asked(calls).values()) == 3
