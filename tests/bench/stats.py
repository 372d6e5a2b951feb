"""Full phase 1 (21 pairs x 600 questions x 50 personas x 2 criteria, 1.26 million verdicts) from parquet to all tables.

Beside it, in the same run, the loop that one would write first with pandas and statsmodels: win rates, McNemar and
the same two-way bootstrap, nothing else. A few of its replicates are timed and scaled to 1,000. All times are the
CPU's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from tests.bench.measuring import SYSTEM, tell  # noqa: E402

REPLICATES = 1000
POLICIES = ("Base", "SFT_Empathy", "DPO_Empathy", "DPO_Safety", "DPO_Soup", "Joint_DPO", "MODPO_Empathy")
STRENGTH = {
    "Base": {"empathy": -0.9, "safety": -0.2},
    "SFT_Empathy": {"empathy": -0.5, "safety": -0.2},
    "DPO_Empathy": {"empathy": 1.0, "safety": -0.1},
    "DPO_Safety": {"empathy": -0.4, "safety": 0.6},
    "DPO_Soup": {"empathy": 0.2, "safety": 0.2},
    "Joint_DPO": {"empathy": 0.3, "safety": 0.1},
    "MODPO_Empathy": {"empathy": 0.5, "safety": 0.4},
}


def make_run(root: Path, questions: int, personas: int, text_of: Callable[[str], str] | None = None) -> None:
    """A run directory with every verdict of phase 1; ``text_of`` gives the text of a question or an answer."""
    from modpo_hpc.study import Study
    from tests.synthetic_verdicts import judged, judged_run, persona_rows

    policies = {name: {"method": "base"} for name in POLICIES}
    study = Study.model_validate(
        {
            "name": "bench",
            "personas": {"select": personas + 10, "train": 10, "test": personas},
            "criteria": {"rank": ["empathy", "safety"]},
            "ranking": {"personas_per_question": 10},
            "alignment": {"policies": policies},
            "judging": {
                "personas_per_question": personas,
                "phases": {"phase1": {"policies": POLICIES, "criteria": ["empathy", "safety"]}},
            },
            "statistics": {"draws": REPLICATES},
        }
    )
    asked = [f"q{number:04d}" for number in range(questions)]
    people = persona_rows(personas)
    verdicts = judged(STRENGTH, "phase1", POLICIES, ("empathy", "safety"), asked, [row["persona_id"] for row in people])
    judged_run(root, study, {"phase1": verdicts}, asked, people, text_of=text_of)


def ours(root: Path) -> None:
    from modpo_hpc.launch.entry import run_shard

    sys.stdout = sys.stderr
    run_shard(str(root), "statistics", "all")


def obvious_loop(root: Path, replicates: int) -> tuple[float, float]:
    """CPU seconds of the win rates and tests, and of one replicate over all cells."""
    import numpy as np
    import pandas as pd
    from statsmodels.stats.contingency_tables import mcnemar

    started = time.process_time()
    verdicts = pd.concat(pd.read_parquet(path) for path in sorted((root / "verdicts").glob("*.parquet")))
    verdicts["vote"] = verdicts["winner"].map({"A": 1, "B": -1, "tie": 0}).astype(float)
    cells, rows = [], []
    for key, cell in verdicts.groupby(["criterion", "policy_a", "policy_b"], observed=True):
        majority = np.sign(cell.groupby("question_id", observed=True)["vote"].sum())
        wins, losses = int((majority > 0).sum()), int((majority < 0).sum())
        test = mcnemar([[0, wins], [losses, 0]], exact=False, correction=False)
        rows.append((*key, wins / len(majority), losses / len(majority), test.pvalue))
        cells.append(cell[["question_id", "persona_id", "vote"]].astype({"question_id": str, "persona_id": str}))
    tables = time.process_time() - started
    rng = np.random.default_rng(0)
    questions, personas = cells[0]["question_id"].unique(), cells[0]["persona_id"].unique()
    started = time.process_time()
    for _ in range(replicates):
        drawn_questions = pd.Series(rng.choice(questions, len(questions))).value_counts()
        drawn_personas = pd.Series(rng.choice(personas, len(personas))).value_counts()
        for cell in cells:
            vote = cell["vote"] * cell["persona_id"].map(drawn_personas).fillna(0)
            majority = np.sign(vote.groupby(cell["question_id"]).sum())
            weight = drawn_questions.reindex(majority.index).fillna(0)
            rows.append((((majority > 0) * weight).sum() / len(questions), ((majority < 0) * weight).sum()))
    return tables, (time.process_time() - started) / replicates


def in_a_process(work: Callable[..., object], *arguments: object) -> tuple[object, float, float]:
    """Result, CPU seconds and peak memory (GiB) of ``work`` in a fresh process, imports included."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, work, arguments))
    process.start()
    result, seconds, peak = receiver.recv()
    process.join()
    return result, seconds, peak


def _report(
    sender: multiprocessing.connection.Connection, work: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    result = work(*arguments)
    sender.send((result, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--personas", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-replicates", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        in_a_process(make_run, root, arguments.questions, arguments.personas)
        seconds, memory, peers = [], [], []
        for _ in range(arguments.rounds):
            (root / "statistics" / "markers" / "all.json").unlink(missing_ok=True)
            _, took, peak = in_a_process(ours, root)
            seconds.append(took)
            memory.append(peak)
            (tables, one), _, _ = in_a_process(obvious_loop, root, arguments.peer_replicates)  # type: ignore[misc]
            peers.append(tables + REPLICATES * one)
            print(f"ours {took:.1f} s, {peak:.2f} GiB; loop {tables:.1f} s + {REPLICATES} x {one:.3f} s", flush=True)
    took, peer = sorted(seconds)[len(seconds) // 2], sorted(peers)[len(peers) // 2]
    absolute = {
        "verdicts": 42 * arguments.questions * arguments.personas,
        "replicates": REPLICATES,
        "cpu_seconds": round(took, 2),
        "peak_memory_gib": round(max(memory), 2),
        "loop_cpu_seconds_scaled": round(peer, 1),
        "loop_replicates_timed": arguments.peer_replicates,
    }
    ratios = {"against the pandas and statsmodels loop": round(peer / took, 1)}
    tell("stats", ratios=ratios, absolute=absolute, machine=SYSTEM)


if __name__ == "__main__":
    main()
