"""The report's page and its cases at the paper's true counts: size, CPU seconds to make, time until they are shown.

Phase 1 in full (21 pairs x 600 questions x 50 personas x 2 criteria, 1.26 million verdicts) with invented verdicts and,
for the page of cases with texts, posts of 180 and answers of 1,100 characters on average.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

OPENED = """
const [page, width, told] = arguments, started = performance.now(), frame = document.createElement("iframe");
frame.style = "width:" + width + "px;height:900px";
frame.onload = async () => {
  const page = frame.contentDocument;
  const ready = (test) => new Promise(function wait(go) { test() ? go() : setTimeout(wait, 2, go); });
  await ready(() => !page.querySelector("select") || page.body.dataset.ready);
  page.body.getBoundingClientRect();
  const opened = performance.now() - started, criterion = page.querySelector("select[name=criterion]");
  if (!criterion) return told([opened, 0]);
  const count = page.querySelector("#count"), asked = performance.now();
  criterion.value = [...criterion.options].at(-1).value;
  count.textContent = "";
  criterion.dispatchEvent(new Event("change"));
  await ready(() => count.textContent);
  told([opened, performance.now() - asked]);
};
frame.src = page;
document.body.append(frame);
"""
"""Opens a page in a frame; tells the milliseconds until it is ready, and until another cell's cases are listed."""


@contextmanager
def browser(folder: Path) -> Iterator[Callable[[str, list[Any]], Any]]:
    """A headless Chromium: a function that runs a script with arguments in an empty page and gives what it tells."""
    (folder / "empty.html").write_text("<!DOCTYPE html><body></body>")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path: str, **content: Any) -> Any:
        data = json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/session{path}", data)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["value"]

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": options}, "timeouts": {"script": 200_000}}
    try:
        for _ in range(600):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        session = "/" + ask("", capabilities={"alwaysMatch": wanted})["sessionId"]

        def told(script: str, arguments: list[Any]) -> Any:
            ask(f"{session}/url", url=(folder / "empty.html").as_uri())
            return ask(f"{session}/execute/async", script=script, args=arguments)

        yield told
        request = urllib.request.Request(f"http://127.0.0.1:{port}/session{session}", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()
    finally:
        driver.terminate()


def long_texts() -> Callable[[str], str]:
    """Posts and answers of the paper's lengths, of words drawn from 20,000."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(20_000)]
    return lambda kind: " ".join(rng.choice(words, (180 if kind == "question" else 1100) // 6))


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--personas", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()

    from modpo_hpc.launch.entry import run_shard
    from modpo_hpc.report.cases_page import cases_page
    from modpo_hpc.run import Run
    from tests.bench.stats import make_run

    figures: dict[str, Any] = {"verdicts": 21 * 2 * asked.questions * asked.personas}
    with tempfile.TemporaryDirectory(prefix="modpo-page-") as base:
        root = Path(base) / "run"
        make_run(root, asked.questions, asked.personas, long_texts())
        sys.stdout = sys.stderr
        run_shard(str(root), "statistics", "all")
        started = cpu_seconds()
        run_shard(str(root), "report", "all")
        figures["report_cpu_seconds"] = round(cpu_seconds() - started, 2)
        started = cpu_seconds()
        without = cases_page(Run.open(root), texts=False)
        figures["cases_cpu_seconds"] = round(cpu_seconds() - started, 2)
        sys.stdout = sys.__stdout__
        pages = {"report": root / "report" / "report.html", "cases": Path(base) / "cases.html",
                 "cases_with_texts": root / "report" / "cases.html"}  # fmt: skip
        pages["cases"].write_text(without)
        with browser(Path(base)) as told:
            for name, page in pages.items():
                seen = [told(OPENED, [page.as_uri(), width]) for width in (1280, 390) for _ in range(asked.rounds)]
                opened, other = (round(statistics.median(part)) for part in zip(*seen, strict=True))
                megabytes = round(page.stat().st_size / 1e6, 2)
                figures[name] = {"megabytes": megabytes, "opened_ms": opened, "other_cell_ms": other}
    machine = {"cpus": os.cpu_count(), "system": platform.platform()}
    print(json.dumps({"name": "page", **figures, "machine": machine}))


if __name__ == "__main__":
    main()
