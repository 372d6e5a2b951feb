"""kill -9 of the driver, of an actor, of the endpoint and of the Ray head, at random instants of judging.

Shards of verdicts are judged through Ray actors against a counting endpoint while processes are killed. What is
checked at the end: every key is in the ledger exactly once; no more calls were made twice than were out at the kills;
the tables are byte for byte those of an undisturbed run, which sends from its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from modpo_hpc.generation.machine import free_port
from modpo_hpc.judging.ledger import entries
from modpo_hpc.run import Run
from tests.judging.servers import REPOSITORY, start_server
from tests.judging.worlds import world

VICTIMS = ("driver", "actor", "endpoint", "ray_head")
WINDOW = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(kill_judging(Path(folder), arguments.verdicts, arguments.kills, arguments.seed)))


@dataclass
class Endpoint:
    """The counting endpoint, which comes back on the same port after a kill."""

    folder: Path
    latency: float
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def calls(self) -> Path:
        return self.folder / "calls.txt"

    def start(self) -> None:
        self.process = start_server(self.port, self.calls, latency=self.latency)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def kill_judging(folder: Path, verdicts: int, kills: int, seed: int) -> dict[str, object]:
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
        endpoint.calls.write_text("")
        endpoint.kill()
        endpoint.start()
        undisturbed = time.monotonic() - started
        killed = judge_with_kills(rough, endpoint, kills, undisturbed, rng)
        asked = calls_of(endpoint)
    finally:
        endpoint.kill()
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
    assert twice <= kills * WINDOW, f"{twice} calls were made twice"
    return {
        "name": "judge_kill",
        "ratios": {"calls_twice_to_bound": round(kills * WINDOW / max(1, twice), 2)},
        "kills": dict(killed),
        "verdicts": rough.table("verdicts").num_rows,
        "keys": len(keys),
        "keys_more_than_once": 0,
        "calls_made_twice": twice,
        "most_out_at_a_kill": WINDOW,
        "tables_identical": True,
        "seconds": round(time.monotonic() - started, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def judge_with_kills(run: Run, endpoint: Endpoint, kills: int, seconds: float, rng: random.Random) -> Counter[str]:
    """Judge ``run`` over Ray; kill something at random instants; start again what does not come back by itself."""
    killed: Counter[str] = Counter()
    driver = start_driver(run)
    plan = [VICTIMS[turn % len(VICTIMS)] for turn in range(kills)]
    rng.shuffle(plan)
    pause = min(3.0, max(0.5, seconds / max(1, kills)))
    while True:
        if plan and is_judging(run, driver):
            time.sleep(rng.uniform(0.0, 1.0) * pause)
            if strike(plan[-1], driver, endpoint):
                killed[plan.pop()] += 1
        if driver.poll() is not None:
            if driver.returncode == 0:
                return killed
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


def calls_of(endpoint: Endpoint) -> Counter[str]:
    return Counter(line.split()[1] for line in endpoint.calls.read_text().splitlines() if " " in line)


if __name__ == "__main__":
    main()
