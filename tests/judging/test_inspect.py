"""What is behind a verdict can be looked at: prompt, raw answer, repairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.launch.entry import run_shard
from tests.judging import worlds
from tests.judging.servers import counting_server


def test_prompt_answer_and_repairs_of_every_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with counting_server(tmp_path, babble=0.4) as (url, _):
        run = worlds.world(tmp_path / "run", kind="openai", model="m", base_url=url, max_tokens=32)
        run_shard(str(run.root), "verdicts", "one.Base.DPO.0")
    table = run.table("verdicts", shard_ids=["one.Base.DPO.0"]).to_pylist()
    repaired = 0
    for row in table[::7]:
        capsys.readouterr()
        command = ["ledger", str(run.root), "--verdict", row["question_id"], row["persona_id"], "--pair", "Base", "DPO"]
        assert main([*command, "--json"]) == 0
        (shown,) = json.loads(capsys.readouterr().out)["verdicts"]
        first, last = shown["answers"][0], shown["answers"][-1]
        assert last["key"] == row["key"]
        assert row in shown["rows"]
        stated = {"A": "A", "B": "B"} if row["first"] == "A" else {"A": "B", "B": "A"}
        assert stated.get(last["opinions"][row["criterion"]], "tie") == row["winner"]
        assert "| " in shown["prompt"]
        if len(shown["answers"]) > 1:
            repaired += 1
            assert first["text"] == "I would rather not choose."
            assert "unparsed" in first["opinions"]["empathy"]
    assert repaired
    assert main(command) == 0
    assert row["key"] in capsys.readouterr().out
    assert main(["ledger", str(run.root), "--verdict", "q", "p"]) == 2


def test_a_ledger_that_is_damaged_is_not_said_to_be_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = worlds.world(tmp_path / "run")
    run_shard(str(run.root), "verdicts", "one.Base.DPO.0")
    assert main(["ledger", str(run.root)]) == 0
    (segment,) = (run.root / "ledger").glob("*.zst")
    data = bytearray(segment.read_bytes())
    data[-9] ^= 1
    segment.write_bytes(data)
    capsys.readouterr()
    assert main(["ledger", str(run.root)]) == 1
    assert segment.name in capsys.readouterr().out
