"""Judging through Ray actors: kill -9 (``make bench-judge-kill`` is the same at full length), and several nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.judge_kill import kill_judging
from tests.waiting import wait_until


def test_two_kills_cost_no_answer(tmp_path: Path) -> None:
    result = kill_judging(tmp_path, verdicts=3000, kills=2, seed=3)
    assert result["keys"] == 1500
    assert sum(result["kills"].values()) == 2


@pytest.mark.xdist_group("whole study")
def test_actors_sit_on_all_nodes_of_the_cluster_that_the_address_names(
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
        pool = RayPool(lambda: FixedAddress("http://127.0.0.1:9/v1"), 5.0, actors=4)
        assert ray.get_runtime_context().gcs_address == cluster.address

        def alive() -> list[Any]:
            return [one for one in actors().values() if one["State"] == "ALIVE"]

        wait_until(lambda: len(alive()) == 4, alive)
        assert len({one["Address"]["NodeID"] for one in alive()}) == 2
        pool.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
