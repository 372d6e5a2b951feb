"""The report's page and its cases at the paper's true counts: size, CPU seconds to make, time until they are shown.

Phase 1 in full (21 pairs x 600 questions x 50 personas x 2 criteria, 1.26 million verdicts) with invented verdicts and,
for the page of cases with texts, posts of 180 and answers of 1,100 characters on average.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

OPENED = """<!DOCTYPE html><body><pre id="out"></pre><script>
const started = performance.now(), frame = document.createElement("iframe");
frame.style = "width:%dpx;height:900px";
frame.onload = async () => {
  const page = frame.contentDocument;
  while (page.querySelector("select") && !page.body.dataset.ready) await new Promise((go) => setTimeout(go, 5));
  page.body.getBoundingClientRect();
  const shown = performance.now(), show = page.querySelector("select[name=show]");
  let other = null;
  if (show) {
    const criterion = page.querySelector("select[name=criterion]");
    criterion.value = [...criterion.options].at(-1).value;
    page.querySelector("#count").textContent = "";
    const asked = performance.now();
    criterion.dispatchEvent(new Event("change"));
    while (!page.querySelector("#count").textContent) await new Promise((go) => setTimeout(go, 1));
    other = performance.now() - asked;
  }
  document.getElementById("out").textContent = JSON.stringify({ opened: shown - started, other });
};
frame.src = "%s";
document.body.append(frame);
</script></body>"""


def opened(page: Path, width: int, folder: Path) -> dict[str, float | None]:
    """Milliseconds until ``page`` is laid out and its script ready, and until the cases of another cell are listed."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(OPENED % (width, page.as_uri()))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")
    words = ["chromium", *options, f"--user-data-dir={folder / 'profile'}", "--timeout=60000", "--dump-dom"]
    done = subprocess.run([*words, wrapper.as_uri()], capture_output=True, text=True, timeout=180, check=False)
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', done.stdout)
    if found is None:
        raise RuntimeError(f"{page.name} was not ready within a minute: {done.stderr[-500:]}")
    return dict(json.loads(found[1]))


def long_texts() -> Callable[[str], str]:
    """Posts and answers of the paper's lengths, of words drawn from 20,000."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(20_000)]
    return lambda kind: " ".join(rng.choice(words, (180 if kind == "question" else 1100) // 6))


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
        started = time.process_time()
        run_shard(str(root), "report", "all")
        figures["report_cpu_seconds"] = time.process_time() - started
        started = time.process_time()
        without = cases_page(Run.open(root), texts=False)
        figures["cases_cpu_seconds"] = time.process_time() - started
        sys.stdout = sys.__stdout__
        pages = {"report": root / "report" / "report.html", "cases": Path(base) / "cases.html",
                 "cases_with_texts": root / "report" / "cases.html"}  # fmt: skip
        pages["cases"].write_text(without)
        for name, page in pages.items():
            seen = [opened(page, width, Path(base)) for width in (1280, 390) for _ in range(asked.rounds)]
            figures[name] = {
                "megabytes": round(page.stat().st_size / 1e6, 2),
                "opened_ms": round(statistics.median(one["opened"] or 0 for one in seen)),
                "other_cell_ms": round(statistics.median(one["other"] or 0 for one in seen)),
            }
    machine = {"cpus": os.cpu_count(), "system": platform.platform()}
    print(json.dumps({"name": "page", **figures, "machine": machine}))


if __name__ == "__main__":
    main()
