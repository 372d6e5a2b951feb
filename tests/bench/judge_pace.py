"""Pace of judging against an endpoint of fixed latency and a limit of calls at once.

Ours (calls from this process, and from Ray actors) beside the ideal rate, beside a loop that sends one call at a time,
and beside Ray Data's HTTP request processor, against the same server. The server is in a process of its own, answers
each call after 200 ms and gives 429 to the 129th call at once. Everything that judging does is counted: prompts, keys,
the ledger on disk, parsing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from modpo_hpc.judging.chat.address import FixedAddress
from modpo_hpc.judging.chat.budget import Budget, Limits
from modpo_hpc.judging.chat.flow import Flow
from modpo_hpc.judging.chat.pool import Pool, ThreadPool
from modpo_hpc.judging.chat.wire import Call, Dialect, first_messages, request_body
from modpo_hpc.judging.inquiry import Inquiry
from modpo_hpc.judging.judges import identity_of
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.ledger import Ledger
from modpo_hpc.judging.tasks import Request, answer_schema
from modpo_hpc.study.judging import Judge
from tests.judging.servers import counting_server
from tests.judging.worlds import request

LATENCY, AT_ONCE = 0.2, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=12_800, help="calls of ours in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    arguments = parser.parse_args()
    ideal = AT_ONCE / LATENCY
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with counting_server(Path(folder), latency=LATENCY, limit=AT_ONCE) as (url, _):
            judge = Judge(kind="openai", model="m", base_url=url, max_tokens=32, window=AT_ONCE)
            ways: dict[str, tuple[Callable[[Judge, list[Request]], None], int]] = {
                "inline": (
                    lambda one, asked: flow(one, asked, ThreadPool(FixedAddress(url), "m", one)),
                    arguments.calls,
                ),
                "one_at_a_time": (one_at_a_time, 50),
            }
            if not arguments.without_ray:
                ways["ray_actors"] = (over_ray, arguments.calls)
                ways["ray_data_http"] = (ray_data_http, 200)
                warm_up_ray()
            for turn in range(arguments.rounds):
                for name, (way, count) in ways.items():
                    asked = [request(texts=(f"{name} {turn} {number}", "x")) for number in range(count)]
                    start = time.monotonic()
                    way(judge, asked)
                    rates.setdefault(name, []).append(count / (time.monotonic() - start))
                    print(f"round {turn + 1} {name}: {rates[name][-1]:.1f} calls/s", flush=True)
    middle = {name: round(median(values), 2) for name, values in rates.items()}
    best = middle.get("ray_actors", middle["inline"])
    print(
        json.dumps(
            {
                "name": "judge_pace",
                "ratios": {
                    "inline_to_ideal": round(middle["inline"] / ideal, 4),
                    **{
                        f"{name}_to_ideal": round(middle[name] / ideal, 4) for name in ("ray_actors",) if name in middle
                    },
                    **{
                        f"ours_to_{name}": round(best / middle[name], 2)
                        for name in ("one_at_a_time", "ray_data_http")
                        if name in middle
                    },
                },
                "calls_per_second": {"ideal": ideal, **middle},
                "settings": {
                    "latency_s": LATENCY,
                    "at_once": AT_ONCE,
                    "calls": arguments.calls,
                    "rounds": arguments.rounds,
                },
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            }
        )
    )


def flow(judge: Judge, requests: list[Request], pool: Pool) -> None:
    """Ours, with a ledger on disk."""
    with tempfile.TemporaryDirectory() as folder:
        with Ledger(Path(folder)) as ledger:
            keys = Keys(identity_of(judge))
            judgments = Flow(Inquiry(requests, judge, keys, ledger), pool, Budget(Path(folder), Limits())).run()
        pool.close()
    assert all(judgments)


def over_ray(judge: Judge, requests: list[Request]) -> None:
    from modpo_hpc.judging.chat.raypool import RayPool

    url = judge.base_url
    flow(judge, requests, RayPool(lambda: FixedAddress(url), "m", judge, actors=2))


def warm_up_ray() -> None:
    import logging

    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=4)


def bodies(judge: Judge, requests: list[Request]) -> list[dict[str, Any]]:
    keys = Keys(identity_of(judge))
    calls = [Call(0, b"", first_messages(keys.prompt(one)), answer_schema(one)) for one in requests]
    return [request_body("m", judge, Dialect(), call) for call in calls]


def one_at_a_time(judge: Judge, requests: list[Request]) -> None:
    """The obvious loop."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        for body in bodies(judge, requests):
            client.post(f"{judge.base_url}/chat/completions", json=body).raise_for_status()


def ray_data_http(judge: Judge, requests: list[Request]) -> None:
    """Ray Data's processor for HTTP endpoints, as its documentation shows it."""
    import ray
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    ray.data.DataContext.get_current().enable_progress_bars = False
    config = HttpRequestProcessorConfig(
        url=f"{judge.base_url}/chat/completions", headers={}, qps=None, concurrency=1, batch_size=64
    )
    processor = build_processor(
        config,
        preprocess=lambda row: {"payload": json.loads(row["body"])},
        postprocess=lambda row: {"answer": row["http_response"]["choices"][0]["message"]["content"]},
    )
    rows = [{"body": json.dumps(body)} for body in bodies(judge, requests)]
    assert processor(ray.data.from_items(rows)).count() == len(requests)


if __name__ == "__main__":
    main()
