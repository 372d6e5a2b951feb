"""Numbers of training, rewards, toxicity and people: lines of pandas alone give what the package's functions made."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.evaluation.toxicity import SCHEMA as TOXICITY
from modpo_hpc.generation.records import RESPONSES
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.report.trace import Traced
from modpo_hpc.report.trace_check import check
from modpo_hpc.rewards.records import PREDICTIONS, TRIALS
from modpo_hpc.run import Run
from tests.synthetic_verdicts import fill, small_run, small_study

QUESTIONS = 60
ASKS = {
    ("balance", "p (permutation)"),
    ("rewards", "ECE calibrated"),
    ("rewards", "ECE by chance"),
    ("training", "margins felt"),
    ("audit_judges", "shown first"),
    ("audit_judges", "length"),
    ("audit_design", "more calls"),
    ("audit_design", "now"),
    ("audit_design", "then"),
    *(("audit_components", one) for one in ("questions", "personas", "votes", "judge sampling", "total")),
}
"""Columns of which some number is drawn by seeds, or takes more than ten lines."""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    study = small_study(
        rewards={"folds": 3, "search": {"trials": 2}, "compare_losses": True},
        toxicity={"backends": {"words": {"kind": "words"}}},
    )
    run = small_run(tmp_path_factory.mktemp("plain") / "run", study, questions=30)
    fill_in(run, np.random.default_rng(5))
    run_shard(str(run.root), "statistics", "all")
    return Traced(Run.open(run.root))


def fill_in(run: Run, rng: np.random.Generator) -> None:
    """Rewards, trials, responses, toxicity, trainings and a pool of people, all drawn at random."""
    ids = [f"t{k}" for k in range(QUESTIONS)]
    rows = [
        {"question_id": one, "response_id": f"{one}.r{n}", "text": "a" * int(rng.integers(5, 90)), "tokens": 3}
        for one in ids
        for n in range(2)
    ]
    shards = run.shard_ids("responses")
    fill(run, "responses", {shard: (rows[at :: len(shards)], RESPONSES) for at, shard in enumerate(shards)})
    fill(run, "rewards", {one: (predictions(one, ids, rng), PREDICTIONS) for one in run.shard_ids("rewards")})
    states = {one: ("complete", "pruned")[int(rng.random() < 0.3)] for one in run.shard_ids("reward_trials")}
    settings = {
        "learning_rate": 1e-5,
        "weight_decay": 0.1,
        "dropout": 0.2,
        "batch_size": 8,
        "max_length": 256,
        "epochs": 3,
    }
    trials = {
        one: [{"criterion": one.split(".")[0], "trial": int(one.split(".")[1]), "state": state, "accuracy": 0.6,
               "accuracies": [0.5, 0.6], **settings}]
        for one, state in states.items()
    }  # fmt: skip
    fill(run, "reward_trials", {one: (found, TRIALS) for one, found in trials.items()})
    fill(run, "toxicity", {one: (assessments(one, rng), TOXICITY) for one in run.shard_ids("toxicity")})
    for policy in run.study.alignment.trained:
        folder = run.folder("policies") / policy
        folder.mkdir(parents=True)
        losses = [{"step": step, "loss": float(rng.random())} for step in range(1, 4)]
        (folder / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*losses, {"step": 4}]))
        (folder / "summary.json").write_text(json.dumps(summary(rng)))
    people(rng).to_parquet(run.folder("personas") / "pool.parquet")


def predictions(shard: str, ids: list[str], rng: np.random.Generator) -> list[dict[str, object]]:
    criterion, part = shard.split(".")
    fold = int(part.removeprefix("fold")) if part.startswith("fold") else 0
    mine = [(place, one) for place, one in enumerate(ids) if part == "final" or place % 3 == fold]
    drawn = rng.normal(1.0 if part == "final" else 0.4, 2.0, len(mine))
    return [
        {
            "criterion": criterion,
            "part": part,
            "fold": place % 3,
            "seen": part == "final",
            "question_id": one,
            "chosen": f"{one}.r0",
            "rejected": f"{one}.r1",
            "margin": int(place),
            "reward_chosen": float(value),
            "reward_rejected": 0.0,
        }
        for (place, one), value in zip(mine, drawn, strict=True)
    ]


def assessments(shard: str, rng: np.random.Generator) -> list[dict[str, object]]:
    backend, policy = shard.split(".")
    rows = []
    for place in range(30):
        toxic, score = bool(rng.random() < 0.2), float(rng.random())
        scores = {"insult": float(rng.random())}
        row: dict[str, object] = {
            "backend": backend,
            "policy": policy,
            "question_id": f"q{place:03d}",
            "state": "ok",
            "raw": "",
        }
        row |= {"toxic": toxic, "score": score, "attributes": scores}
        rows.append(row if place != 7 else {**row, "state": "refused", "toxic": None, "score": None})
    return rows


def summary(rng: np.random.Generator) -> dict[str, object]:
    counts = dict(zip(("training", "held_out", "dropped"), map(int, rng.integers(1, 2000, 3)), strict=True))
    held_out = {"held_out_loss": float(rng.random()), "held_out_accuracy": float(rng.random())}
    margins = {"total_spread": 1.25, "flat": 0.1, "spread": {}, "warnings": []}
    return {"method": "dpo", "examples": counts, "steps": 136, "held_out": held_out, "margins": margins}


def people(rng: np.random.Generator) -> pd.DataFrame:
    groups = {"population": ["campus", "community"], "age_group": ["18-24", "25-34", None],
              "gender": ["woman", "man"], "primary_ethnicity": ["White", "Asian"],
              "primary_preference": ["trust_rapport", "empathy", "safety"]}  # fmt: skip
    drawn = {name: rng.choice(np.array(values, dtype=object), 90) for name, values in groups.items()}
    return pd.DataFrame({**drawn, "state": rng.choice(["train", "test", "left_out", "below_floor"], 90)})


def test_pandas_alone_gives_what_the_package_made(traced: Traced) -> None:
    tables = {
        "training", "rewards", "reward_margins", "reward_losses", "reward_length", "toxicity", "toxicity_pairs",
        "demographics", "balance", "audit_components", "audit_judges",
    }  # fmt: skip
    ids = [one for one, place in traced.places.items() if place.shown and place.shown.file in tables | {"audit_design"}]
    assert tables <= {one.split(".")[0] for one in ids}
    assert check(traced, ids).unexplained == []
    asks = {
        (place.shown.file, place.shown.columns[place.column].heading)
        for place, found in ((traced.places[one], traced.trace(one)) for one in ids)
        if place.shown and any(origin.rests_on == "package" for origin in found.origins)
    }
    assert asks == ASKS


def test_the_command_checks_every_number_and_names_what_the_package_computes(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str, code: int = 0) -> str:
        assert main(["trace", str(traced.run.root), *words]) == code
        return capsys.readouterr().out

    asked = told("balance.1.5")
    assert "Computed by modpo_hpc.personas.balance.balance_tests, modpo_hpc.seeds.rng_of, of the package" in asked
    assert "From the files of the stage" in told("rewards.1.3")
    assert told("rewards.1.6", "--check").startswith("1 number in 1 place (cells and sentences), of which 0 are not")
    monkeypatch.setattr("modpo_hpc.report.trace_check.forms", lambda value: {"17"})
    assert "rewards.1.6: its lines do not give " in told("rewards.1.6", "--check", code=1)
