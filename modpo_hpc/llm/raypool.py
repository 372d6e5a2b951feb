"""The same pool over Ray actors, which may be on other nodes: each keeps a window of calls open by itself.

A call that was with an actor that died comes back as lost, and a new actor takes its place. The key is read from the
environment of the actor's node, so it travels in no message.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray._private import ray_constants

from modpo_hpc.llm.endpoints import Address
from modpo_hpc.llm.outcomes import Api, Call, Failed
from modpo_hpc.llm.sender import Reply, Sender

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 5.0
_CONCURRENT_METHODS = 16
_BYTES_TO_BE_SPREAD = 1


class _Actor:
    """A sender in an actor."""

    def __init__(self, make_address: Callable[[], Address], timeout_seconds: float) -> None:
        self._sender = Sender(make_address(), timeout_seconds)

    async def feed(self, calls: Sequence[Call], api: Api, limit: int) -> None:
        await self._sender.feed(calls, api, limit)

    async def drain(self) -> list[Reply]:
        return await self._sender.drain(_DRAIN_SECONDS)


class RayPool:
    """Senders in Ray actors, spread over the nodes of the cluster at RAY_ADDRESS, or in a cluster of this process.

    Args:
        gpus: GPUs of each actor, where the cluster has any.
    """

    def __init__(
        self,
        make_address: Callable[[], Address],
        timeout_seconds: float,
        actors: int,
        gpus: int = 0,
    ) -> None:
        self.workers = actors
        self._make_address, self._timeout = make_address, timeout_seconds
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _join_cluster()
        self._gpus = gpus if ray.cluster_resources().get("GPU") else 0
        self._actors: list[Any] = [self._start() for _ in range(actors)]
        self._with: list[set[int]] = [set() for _ in range(actors)]
        self._limits = [0] * actors
        self._drains: dict[Any, int] = {}
        self._feeds: list[Any] = []
        for worker in range(actors):
            self._listen(worker)

    def feed(self, calls: Sequence[Call], api: Api, limit: int) -> None:
        """Give each call to the actor that has the fewest, and each actor its share of ``limit``."""
        given: list[list[Call]] = [[] for _ in self._actors]
        for call in calls:
            worker = min(range(self.workers), key=lambda one: len(self._with[one]))
            self._with[worker].add(call.number)
            given[worker].append(call)
        for worker, actor in enumerate(self._actors):
            share = max(1, (limit + worker) // self.workers)
            if given[worker] or share != self._limits[worker]:
                self._limits[worker] = share
                self._feeds.append(actor.feed.remote(given[worker], api, share))

    def drain(self, seconds: float) -> list[Reply]:
        """What has come back, from one actor or several; calls of a dead actor come back as lost."""
        ready, _ = ray.wait([*self._drains], num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait([*self._drains], num_returns=len(self._drains), timeout=0)
        replies: list[Reply] = []
        for reference in ready:
            worker = self._drains.pop(reference)
            try:
                got = ray.get(reference)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                if isinstance(error, ray.exceptions.ActorDiedError) and "creation task" in str(error):
                    raise  # it cannot start at all: the next one would not either
                replies += self._replace(worker, error)
            else:
                self._with[worker].difference_update(reply.number for reply in got)
                replies += got
                self._listen(worker)
        if self._feeds:  # one that failed with its actor needs nothing: its calls come back as lost by the drain
            _, self._feeds = ray.wait(self._feeds, num_returns=len(self._feeds), timeout=0)
        return replies

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        if self._started_ray:
            ray.shutdown()

    def _start(self) -> Any:
        """An actor that asks for nothing is put on a node by chance, whatever the strategy; one that asks is spread."""
        actor_class: Any = ray.remote(_Actor)
        return actor_class.options(
            max_concurrency=_CONCURRENT_METHODS,
            num_cpus=0,
            num_gpus=self._gpus,
            memory=_BYTES_TO_BE_SPREAD,
            scheduling_strategy="SPREAD",
        ).remote(self._make_address, self._timeout)

    def _listen(self, worker: int) -> None:
        self._drains[self._actors[worker].drain.remote()] = worker

    def _replace(self, worker: int, error: Exception) -> list[Reply]:
        log.warning("actor %d died (%s); %d calls are sent again", worker, error, len(self._with[worker]))
        lost = [
            Reply(number, Failed("lost", "the actor died", charged=True), time.time(), 0.0)
            for number in self._with[worker]
        ]
        self._with[worker] = set()
        ray.kill(self._actors[worker])
        self._actors[worker] = self._start()
        self._listen(worker)
        return lost


def _join_cluster() -> None:
    """Never a cluster that merely happens to run on this machine: it may be somebody else's."""
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        return
    # a cluster of one node listens to this machine alone; Ray has no argument for it, its processes read the variable
    spans_nodes = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    try:
        ray.init(address="local", log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = spans_nodes
        del os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR]
