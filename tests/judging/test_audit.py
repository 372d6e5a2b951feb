"""``modpo ledger`` tells what a ledger holds, through the command as a person types it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from modpo_hpc.llm import segments
from modpo_hpc.llm.ledger import Ledger
from tests.judging.test_ledger import entry

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_an_account_of_a_ledger_with_a_torn_end(tmp_path: Path, modpo: Command) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append([entry(1, '{"empathy": "A"}'), entry(2, "no")])
        ledger.append([entry(3, None)])
        ledger.append([entry(4)])
    (segment,) = segments.segments(tmp_path)
    with open(segment, "r+b") as stream:
        stream.truncate(segment.stat().st_size - 5)
    shown = modpo("ledger", tmp_path, "--json")
    assert shown.returncode == 1, "bytes of no whole answer are damage, whoever left them"
    (account,) = json.loads(shown.stdout)["ledgers"]
    assert account["keys"] == 3
    (torn,) = account["torn"].values()
    assert torn > 0
    judge = account["judges"]["test"]
    assert (judge["answers"], judge["refusals"], judge["tokens_read"], judge["usd"]) == (3, 1, 6, 1.5)
    assert judge["unparsed"] == {"no JSON object with a criterion in it": 1, "refused: None": 1}
    spoken = modpo("ledger", tmp_path)
    assert "no whole write" in spoken.stdout
    assert "3 answers in 1 segments" in spoken.stdout


def test_no_ledger(tmp_path: Path, modpo: Command) -> None:
    shown = modpo("ledger", tmp_path)
    assert shown.returncode == 2
    assert "there is no ledger here" in shown.stderr
