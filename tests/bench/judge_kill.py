"""kill -9 of the driver, of an actor, of the endpoint and of the Ray head, at random instants of judging.

Shards of verdicts are judged through Ray actors against a counting endpoint while processes are killed. What is
checked at the end: every key is in the ledger exactly once; no more calls were made twice than were in flight at the
kills; the tables are byte for byte those of an undisturbed run, which sends from its own process.

In flight are the calls that the endpoint had taken and not answered, counted by its own log, and the answers that it
had given less than ``ON_THE_WAY`` seconds before, which may not have been on disk yet.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from modpo_hpc.generation.machine import free_port
from modpo_hpc.llm.ledger import entries
from modpo_hpc.run import Run
from tests.bench.measuring import CORES
from tests.judging.servers import REPOSITORY, answers_file, start_server
from tests.judging.worlds import world

VICTIMS = ("driver", "actor", "endpoint", "ray_head")
WINDOW = 64
ON_THE_WAY = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = kill_judging(Path(folder), arguments.verdicts, arguments.kills, arguments.seed)
    print(json.dumps(result))
    check_what_was_in_flight(result["by_kill"])


@dataclass
class Endpoint:
    """The counting endpoint, which comes back on the same port after a kill."""

    folder: Path
    latency: float
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    lost: list[tuple[float, int]] = field(default_factory=list)

    @property
    def calls(self) -> Path:
        return self.folder / "calls.txt"

    def start(self) -> None:
        self.process = start_server(self.port, self.calls, latency=self.latency)

    def most_in_flight(self, begin: float, end: float) -> int:
        """The most calls that were in flight at an instant from ``begin`` to ``end``."""
        taken, answered = (np.array(times_in(path)) for path in (self.calls, answers_file(self.calls)))
        instants = np.append(taken[(taken >= begin) & (taken <= end)], [begin, end])
        before = np.searchsorted(np.sort(taken), instants, "right")
        after = np.searchsorted(np.sort(answered), instants - ON_THE_WAY, "right")
        lost = self.lost_before(instants)
        return int((before - after - lost).max())

    def lost_before(self, instants: np.ndarray) -> np.ndarray:
        """Calls that the endpoint took and, killed, never answered, by each of ``instants``."""
        return np.array([sum(count for at, count in self.lost if at < instant) for instant in instants])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        open_now = len(times_in(self.calls)) - len(times_in(answers_file(self.calls)))
        self.lost.append((time.time(), open_now - sum(count for _, count in self.lost)))


def check_what_was_in_flight(by_kill: list[dict[str, Any]]) -> None:
    """No more calls were made again than had been in flight. It reads clocks (``ON_THE_WAY``), so no test asks it."""
    for number in range(1, len(by_kill) + 1):
        again, out = (sum(one[name] for one in by_kill[:number]) for name in ("made_again", "in_flight"))
        assert again <= out, f"after {number} kills {again} calls were made again, {out} had been in flight"


def kill_judging(folder: Path, verdicts: int, kills: int, seed: int) -> dict[str, Any]:
    """Judge about ``verdicts`` verdicts twice, once with ``kills`` kills, and compare. Raises if anything differs."""
    rng = random.Random(seed)
    questions = max(4, round(verdicts / (3 * 50 * 2)))
    endpoint = Endpoint(folder, latency=0.25)
    endpoint.start()
    settings = {
        **{"kind": "openai", "model": "m", "base_url": f"http://127.0.0.1:{endpoint.port}/v1", "window": WINDOW},
        "max_tokens": 32,
    }
    calm = world(folder / "calm", train=8, test=questions, personas=100, **settings)
    rough = world(folder / "rough", train=8, test=questions, personas=100, **settings)
    started = time.monotonic()
    try:
        judge_all(calm)
        asked_calmly = calls_of(endpoint)
        endpoint.kill()
        endpoint.calls.unlink()
        answers_file(endpoint.calls).unlink()
        endpoint.lost.clear()
        endpoint.start()
        undisturbed = time.monotonic() - started
        strikes = judge_with_kills(rough, endpoint, kills, undisturbed, rng)
        asked = calls_of(endpoint)
    finally:
        endpoint.kill()
    killed = Counter(victim for victim, _, _ in strikes)
    in_flight = [endpoint.most_in_flight(begin, end) for _, begin, end in strikes]
    made_again = calls_made_again(endpoint, [begin for _, begin, _ in strikes])
    keys = Counter(entry.key for entry in entries(rough.root / "ledger"))
    twice = sum(asked.values()) - len(asked)
    bytes_of = [
        {path.name: path.read_bytes() for path in run.folder("verdicts").glob("*.parquet")} for run in (calm, rough)
    ]
    assert max(asked_calmly.values()) == 1
    assert max(keys.values()) == 1, "a key is in the ledger twice"
    assert set(keys) == {entry.key for entry in entries(calm.root / "ledger")}
    assert set(asked) == set(asked_calmly)
    assert bytes_of[0] == bytes_of[1], "the tables differ"
    assert sum(killed.values()) == kills, f"only {dict(killed)} were killed"
    assert twice <= kills * WINDOW, f"{twice} calls were made twice by {kills} kills with a window of {WINDOW}"
    return {
        "name": "judge_kill",
        "ratios": {"in_flight_to_calls_twice": round(sum(in_flight) / max(1, twice), 2)},
        "kills": dict(killed),
        "verdicts": rough.table("verdicts").num_rows,
        "keys": len(keys),
        "keys_more_than_once": 0,
        "calls_made_twice": twice,
        "in_flight_at_the_kills": sum(in_flight),
        "by_kill": [
            {"killed": kind, "in_flight": out, "made_again": again}
            for (kind, *_), out, again in zip(strikes, in_flight, made_again, strict=True)
        ],
        "window": WINDOW,
        "tables_identical": True,
        "seconds": round(time.monotonic() - started, 1),
        "machine": CORES,
    }


Strike = tuple[str, float, float]
"""Who was killed, when, and until when its calls may have been lost: a driver outlives its Ray head by seconds."""


def judge_with_kills(run: Run, endpoint: Endpoint, kills: int, seconds: float, rng: random.Random) -> list[Strike]:
    """Judge ``run`` over Ray; kill something at random instants; start again what does not come back by itself."""
    strikes: list[Strike] = []
    driver = start_driver(run)
    plan = [VICTIMS[turn % len(VICTIMS)] for turn in range(kills)]
    rng.shuffle(plan)
    pause = min(3.0, max(0.5, seconds / max(1, kills)))
    while True:
        if plan and is_judging(run, driver):
            time.sleep(rng.uniform(0.0, 1.0) * pause)
            begin = time.time()
            if strike(plan[-1], driver, endpoint):
                strikes.append((plan.pop(), begin, begin))
        if driver.poll() is not None:
            if strikes and strikes[-1][0] == "ray_head":
                strikes[-1] = (*strikes[-1][:2], time.time())
            if driver.returncode == 0:
                return strikes
            end_ray_of(driver.pid)
            driver = start_driver(run)
        time.sleep(0.1)


def judge_all(run: Run) -> None:
    subprocess.run(
        judging_command(run), check=True, env=environment("inline"), cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )


def start_driver(run: Run) -> subprocess.Popen[bytes]:
    log = open(run.root.parent / "driver.log", "ab")  # noqa: SIM115 - the driver's
    return subprocess.Popen(
        judging_command(run), env=environment("ray"), cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True
    )


def judging_command(run: Run) -> list[str]:
    return [sys.executable, "jobs/judge.py", str(run.root), "--shard", *run.shard_ids("verdicts")]


def environment(executor: str) -> dict[str, str]:
    more = {"MODPO_JUDGE_EXECUTOR": executor, "PYTHONPATH": str(REPOSITORY), "RAY_DEDUP_LOGS": "0"}
    return {**os.environ, **more, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}


def is_judging(run: Run, driver: subprocess.Popen[bytes]) -> bool:
    """Whether the driver lives and its actors do, too: then it writes a segment of the ledger."""
    return driver.poll() is None and bool(processes("ray::_Actor", driver.pid))


def strike(victim: str, driver: subprocess.Popen[bytes], endpoint: Endpoint) -> bool:
    if driver.poll() is not None:
        return False
    if victim == "driver":
        driver.kill()
        driver.wait()
        return True
    if victim == "endpoint":
        endpoint.kill()
        time.sleep(0.5)
        endpoint.start()
        return True
    found = processes("ray::_Actor" if victim == "actor" else "gcs_server", driver.pid)
    if found:
        found[0].kill()
    return bool(found)


def processes(name: str, driver: int) -> list[psutil.Process]:
    """Processes of the driver's Ray whose command line holds ``name``."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = os.getsid(process.pid) == driver or driver in {one.pid for one in process.parents()}
            if ours and (name in process.name() or name in " ".join(process.cmdline())):
                found.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def end_ray_of(driver: int) -> None:
    """End what a killed driver's Ray has left: the processes of its session."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == driver:
                process.kill()
        except (ProcessLookupError, psutil.Error):
            continue


def times_in(path: Path) -> list[float]:
    """The instants at which the endpoint wrote the lines of ``path``."""
    return [float(line.split()[0]) for line in path.read_text().splitlines() if " " in line] if path.exists() else []


def calls_made_again(endpoint: Endpoint, strikes: list[float]) -> list[int]:
    """How many calls were made once more after each of ``strikes`` and before the next."""
    seen: set[str] = set()
    counts = [0] * len(strikes)
    for line in endpoint.calls.read_text().splitlines():
        at, _, name = line.partition(" ")
        if name in seen:
            counts[max(0, bisect(strikes, float(at)) - 1)] += 1
        seen.add(name)
    return counts


def calls_of(endpoint: Endpoint) -> Counter[str]:
    return Counter(line.split()[1] for line in endpoint.calls.read_text().splitlines() if " " in line)


if __name__ == "__main__":
    main()
