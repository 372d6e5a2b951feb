"""Pace of judging against an endpoint of fixed latency and a limit of calls at once.

Ours (calls from this process, and from Ray actors) beside the ideal rate, beside a loop that sends one call at a time,
and beside Ray Data's HTTP request processor, against the same server. The server is in a process of its own, answers
each call after 200 ms and gives 429 to the 129th call at once; its own CPU time is told, to show that it is not what is
measured. Everything that judging does is counted: prompts, keys, the ledger on disk, parsing. The rate of ours is the
steady one, from the first tenth of the calls (the window opens, connections are made) to the last window; the rate of
the whole and the seconds before the first answer stand beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.kinds.chat import ask_over_http, chat_api
from modpo_hpc.judging.tasks import JudgeRequest, answer_schema
from modpo_hpc.llm.chat import ChatPayload, first_messages
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.endpoints import FixedAddress
from modpo_hpc.llm.ledger import Ledger
from modpo_hpc.llm.store import Store
from modpo_hpc.study.endpoint import Price
from modpo_hpc.study.judging import Judge
from tests.bench.latency_server import latency_server
from tests.bench.measuring import CORES, tell
from tests.judging.worlds import request

LATENCY, AT_ONCE = 0.2, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=12_800, help="calls of ours in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    arguments = parser.parse_args()
    ideal = AT_ONCE / LATENCY
    measured: dict[str, list[Pace]] = {}
    with latency_server(LATENCY, AT_ONCE) as url:
        judge = Judge(kind="openai", model="m", base_url=url, max_tokens=32, window=AT_ONCE)
        ways: dict[str, tuple[Callable[[Judge, list[JudgeRequest]], Pace], int]] = {
            "inline": (ours, arguments.calls),
            "limited": (limited, arguments.calls),
            "one_at_a_time": (one_at_a_time, 50),
        }
        if not arguments.without_ray:
            ways["ray_actors"] = (over_ray, arguments.calls)
            ways["ray_data_http"] = (ray_data_http, 200)
            warm_up_ray()
        for turn in range(arguments.rounds):
            for name, (way, count) in ways.items():
                asked = [request(texts=(f"{name} {turn} {number}", "x")) for number in range(count)]
                pace = way(judge, asked)
                measured.setdefault(name, []).append(pace)
                print(f"round {turn + 1} {name}: {pace.steady:.1f} calls/s ({pace.whole:.1f} in all)", flush=True)
        server = httpx.get(f"{url.removesuffix('/v1')}/stats", trust_env=False).json()
    middle = {name: round(median(one.steady for one in paces), 2) for name, paces in measured.items()}
    mine = [name for name in ("inline", "limited", "ray_actors") if name in middle]
    others = [name for name in ("one_at_a_time", "ray_data_http") if name in middle]
    tell(
        "judge_pace",
        ratios={
            **{f"{name}_to_ideal": round(middle[name] / ideal, 4) for name in mine},
            "limited_to_unlimited": round(middle["limited"] / middle["inline"], 4),
            **{f"ours_to_{name}": round(middle[mine[-1]] / middle[name], 2) for name in others},
        },
        calls_per_second={"ideal": ideal, **middle},
        calls_per_second_in_all={name: round(median(one.whole for one in measured[name]), 2) for name in mine},
        seconds_to_first_answer={name: round(median(one.first for one in measured[name]), 2) for name in mine},
        cpu_ms_a_call={name: round(median(one.cpu_ms for one in measured[name]), 3) for name in mine},
        server={"cpu_ms_a_call": round(1e3 * server["cpu_seconds"] / server["calls"], 3), **server},
        settings={"latency_s": LATENCY, "at_once": AT_ONCE, "calls": arguments.calls, "rounds": arguments.rounds},
        machine=CORES,
    )


@dataclass(frozen=True)
class Pace:
    """Calls a second, steadily and over the whole; seconds to the first answer; CPU of this process for a call."""

    steady: float
    whole: float
    first: float = 0.0
    cpu_ms: float = 0.0


def ours(judge: Judge, requests: list[JudgeRequest]) -> Pace:
    """Ours, with a ledger, claims and a budget on disk."""
    heard: list[float] = []
    start, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as name, Store(Ledger(Path(name)), Claims(Path(name))) as store:
        job = JudgingJob(requests, judge, keys_of(judge), store, on_judgment=lambda *_: heard.append(time.monotonic()))
        url = judge.base_url
        judgments, _ = ask_over_http(job, lambda: FixedAddress(url), "m")
    count, whole = len(requests), time.monotonic() - start
    cpu_ms = 1e3 * (time.process_time() - cpu) / count
    assert all(judgments)
    begin, end = count // 10, count - 2 * AT_ONCE
    return Pace((end - begin) / (heard[end] - heard[begin]), count / whole, heard[0] - start, cpu_ms)


def limited(judge: Judge, requests: list[JudgeRequest]) -> Pace:
    """Ours with every limit on, none of which binds."""
    limits = {
        "max_usd": 1e6,
        "requests_per_minute": 10**7,
        "tokens_per_minute": 10**10,
        "price": Price(input=1.0, output=10.0),
    }
    return ours(judge.model_copy(update=limits), requests)


def over_ray(judge: Judge, requests: list[JudgeRequest]) -> Pace:
    return ours(judge.model_copy(update={"executor": "ray", "actors": 2}), requests)


def warm_up_ray() -> None:
    import logging

    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=4)


def bodies(judge: Judge, requests: list[JudgeRequest]) -> list[dict[str, Any]]:
    keys, api = keys_of(judge), chat_api(judge, "m")
    payloads = [ChatPayload(first_messages(keys.prompt(one)), answer_schema(one)) for one in requests]
    return [api.request(api.call(number, b"", payload)) for number, payload in enumerate(payloads)]


def one_at_a_time(judge: Judge, requests: list[JudgeRequest]) -> Pace:
    """The obvious loop."""
    start = time.monotonic()
    with httpx.Client(trust_env=False, timeout=60) as client:
        for body in bodies(judge, requests):
            client.post(f"{judge.base_url}/chat/completions", json=body).raise_for_status()
    rate = len(requests) / (time.monotonic() - start)
    return Pace(rate, rate)


def ray_data_http(judge: Judge, requests: list[JudgeRequest]) -> Pace:
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
    start = time.monotonic()
    assert processor(ray.data.from_items(rows)).count() == len(requests)
    rate = len(requests) / (time.monotonic() - start)
    return Pace(rate, rate)


if __name__ == "__main__":
    main()
