"""Judging through Ray actors: kill -9 (``make bench-judge-kill`` is the same at full length), and several nodes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.judge_kill import kill_judging
from tests.judging.servers import REPOSITORY
from tests.waiting import wait_until


@pytest.mark.slow
def test_two_kills_cost_no_answer(tmp_path: Path) -> None:
    result = kill_judging(tmp_path, verdicts=3000, kills=2, seed=3)
    assert result["keys"] == 1500
    assert sum(result["kills"].values()) == 2


def _runs_on(node: str) -> bool:
    """Whether the scheduler that this process asks knows the node already: it hears of a new one a little later."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        return bool(ray.get(ray.remote(num_cpus=0)(lambda: True).options(scheduling_strategy=there).remote()))
    except ray.exceptions.TaskUnschedulableError:
        return False


@pytest.mark.xdist_group("whole study")
def test_actors_are_spread_evenly_over_the_nodes_of_the_cluster_that_the_address_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray._private.state import actors
    from ray.cluster_utils import Cluster

    from modpo_hpc.llm.endpoints import FixedAddress
    from modpo_hpc.llm.raypool import RayPool

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        ray.init(cluster.address)
        wait_until(lambda: all(_runs_on(node["NodeID"]) for node in ray.nodes()))
        ray.shutdown()
        pool = RayPool(lambda: FixedAddress("http://127.0.0.1:9/v1"), 5.0, actors=4)
        assert ray.get_runtime_context().gcs_address == cluster.address

        def alive() -> list[Any]:
            return [one for one in actors().values() if one["State"] == "ALIVE"]

        wait_until(lambda: len(alive()) == 4, alive)
        assert sorted(Counter(one["Address"]["NodeID"] for one in alive()).values()) == [2, 2]
        pool.close()
    finally:
        ray.shutdown()
        cluster.shutdown()


SENDS = """
import sys
from functools import partial
from modpo_hpc.llm.endpoints import FixedAddress
from modpo_hpc.llm.raypool import RayPool

pool = RayPool(partial(FixedAddress, "http://127.0.0.1:9/v1"), 5.0, 1)
pool.drain(0.1)
print("up", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_cluster_of_a_process_listens_to_this_machine_alone_and_ends_when_the_process_is_killed() -> None:
    """Ray's agents, the last, try for a minute to report that they lost it."""
    command = [sys.executable, "-c", SENDS]
    driver = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"up\n"
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    heard = [one for process in family for one in process.net_connections("inet") if one.status == "LISTEN"]
    assert len(family) > 3
    assert len(heard) > 3
    assert {one.laddr.ip for one in heard} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))
