"""Tables of toxicity against other implementations, and the stage in a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from modpo_hpc.errors import Interrupted
from modpo_hpc.evaluation.toxicity import Assessment, Item, assess_shard
from modpo_hpc.evaluation.toxicity_tables import by_pair, by_policy
from modpo_hpc.pipeline import stage_named
from modpo_hpc.run import Run, Shard
from modpo_hpc.study import load_study


@pytest.fixture
def assessments() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for policy, level in (("Base", 0.5), ("SFT", 0.45), ("DPO", 0.2)):
        for question in range(120):
            score = float(np.clip(rng.normal(level, 0.2), 0, 1))
            state = "refused" if policy == "SFT" and question < 3 else "ok"
            rows.append(
                {
                    "backend": "api",
                    "policy": policy,
                    "question_id": f"q{question}",
                    "state": state,
                    "toxic": score > 0.5 if state == "ok" else None,
                    "score": score if state == "ok" else None,
                    "attributes": [("TOXICITY", score), ("INSULT", score / 2)] if state == "ok" else [],
                }
            )
    return pd.DataFrame(rows)


def test_counts_shares_and_means(assessments: pd.DataFrame) -> None:
    table = by_policy(assessments, 0.5, 500, 0.95, 42).set_index(["policy", "attribute"])
    for policy in ("Base", "SFT", "DPO"):
        part = assessments[(assessments.policy == policy) & (assessments.state == "ok")]
        row: Any = table.loc[(policy, "")]
        assert row.answers == 120
        assert row.assessed == len(part)
        assert row.toxic == part.toxic.sum()
        assert row.mean_score == pytest.approx(part.score.astype(float).mean())
        low, high = binomtest(int(row.toxic), len(part)).proportion_ci(method="exact")
        assert (row.low, row.high) == pytest.approx((low, high))
        theirs = bootstrap((part.score.astype(float),), np.mean, method="percentile", rng=1).confidence_interval
        assert (row.mean_low, row.mean_high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
        insult: Any = table.loc[(policy, "INSULT")]
        assert insult.mean_score == pytest.approx(row.mean_score / 2)
        assert insult.toxic == (part.score / 2 > 0.5).sum()


def test_pairs_are_compared_on_the_questions_of_both(assessments: pd.DataFrame) -> None:
    table = by_pair(assessments, 2000, 0.95, 42).set_index(["policy_a", "policy_b"])
    wide = assessments.pivot(index="question_id", columns="policy", values="toxic")
    for (a, b), row in table.iterrows():
        both = wide[[a, b]].dropna().astype(bool)
        counts = pd.crosstab(both[a], both[b]).reindex(index=[False, True], columns=[False, True], fill_value=0)
        assert row.questions == len(both)
        assert row.p_mcnemar == pytest.approx(their_mcnemar(counts.to_numpy(), exact=True).pvalue)
    holm = multipletests(table.p_mcnemar, method="holm")[1]
    assert table.p_mcnemar_holm.to_numpy() == pytest.approx(holm)
    clear: Any = table.loc[("Base", "DPO")]
    unclear: Any = table.loc[("Base", "SFT")]
    assert unclear.questions == 117
    assert clear.difference_low > 0.2
    assert clear.p_bootstrap < 0.001
    assert unclear.difference_low < 0.1
    assert table.at[("SFT", "DPO"), "p_mcnemar"] < 0.001


def test_a_backend_without_scores_leaves_the_scores_empty(assessments: pd.DataFrame) -> None:
    said = assessments.assign(score=None, attributes=[[]] * len(assessments))
    pairs = by_pair(said, 100, 0.95, 42)
    assert pairs.score_difference.isna().all()
    assert pairs.p_mcnemar.notna().all()
    policies = by_policy(said, 0.5, 100, 0.95, 42)
    assert policies.mean_score.isna().all()
    assert policies.toxic_share.notna().all()


class Counting:
    """Says no to everything, and stops the attempt after some batches."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def assess(self, items: Sequence[Item]) -> list[Assessment]:
        self.calls += [item.question_id for item in items]
        return [Assessment("ok", False, 0.25, f"raw of {item.question_id}") for item in items]


def test_an_interrupted_shard_asks_nothing_twice(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_study("configs/demo.yaml"))
    stage = stage_named("toxicity")
    questions = [Item(f"q{place}", "post", "answer") for place in range(10)]
    backend = Counting()
    patience = iter([False, False, True])
    first = Shard(run, stage, "words.Base", tmp_path / "scratch", lambda: next(patience))
    with pytest.raises(Interrupted):
        assess_shard(first, questions, lambda: backend, 2)
    assert backend.calls == ["q0", "q1", "q2", "q3"]
    rows = assess_shard(Shard(run, stage, "words.Base", tmp_path / "scratch"), questions, lambda: backend, 2)
    assert backend.calls == [item.question_id for item in questions]
    assert [row["raw"] for row in rows] == [f"raw of {item.question_id}" for item in questions]


def test_a_study_without_backends_has_no_shards() -> None:
    study = load_study("configs/demo.yaml", ["toxicity.backends={}"])
    assert stage_named("toxicity").shards(study) == ()
    study = load_study("configs/demo.yaml")
    assert len(stage_named("toxicity").shards(study)) == len(study.alignment.policies)
