"""A study that nobody here could carry out, and anybody can rehearse in seconds."""

from __future__ import annotations

SMALL = {
    "name": "small",
    "data": {"epitome": "absent.csv", "use_train": 12, "use_test": 6},
    "models": {"base": "nobody/has-this-model", "reward": "nobody/has-this-encoder"},
    "criteria": {"rank": ["empathy", "safety"]},
    "judge": {"kind": "openai", "model": "no-such-judge"},
    "rewards": {"folds": 2, "search": {"trials": 1}, "compare_losses": True, "score_answers": True},
    "alignment": {
        "policies": {
            "Base": {"method": "base"},
            "DPO_Empathy": {"method": "dpo", "criteria": {"empathy": 1}},
            "DPO_Safety": {"method": "dpo", "criteria": {"safety": 1}},
        }
    },
    "judging": {"phases": {"phase1": {"policies": ["Base", "DPO_Empathy"], "criteria": ["empathy", "safety"]}}},
    "statistics": {"draws": 20},
    "shards": {"responses": 2, "rankings": 1, "scores": 1},
    "resources": {"policies": {"cpus": 2, "memory_gb": 1, "gpus": 1, "minutes": 10}},
}
