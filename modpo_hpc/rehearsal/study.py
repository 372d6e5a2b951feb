"""The study as it is rehearsed: the same counts and shards, nothing that needs a GPU, a key or weights."""

from __future__ import annotations

from modpo_hpc.data.questions import EPITOME_POSTS
from modpo_hpc.pipeline import STAGES
from modpo_hpc.study import Study, parse_study
from modpo_hpc.study.judging import GENERIC


def rehearsed(study: Study, source: str) -> Study:
    """``study`` with stand-ins: the rule judge (for each of a panel), no weights, one CPU a shard.

    Posts are the study's own where its file is there. An EPITOME that is not there is replaced by as many invented
    posts as it gives: 2,979, divided as the study says.

    Raises:
        InputError: a file of posts other than EPITOME is not there, so its counts are not known.
    """
    raw = study.model_dump(mode="json")
    rules = {"kind": "rules", "model": GENERIC}
    raw["judge"] = [{**rules, "name": name} for name in study.panel] or rules
    raw["models"] |= {"base": "sandbox", "reward": "sandbox", "base_revision": None, "reward_revision": None}
    raw["generation"]["engine"] = "transformers"
    raw["personas"] |= {"surveys": {}, "columns": None}
    if study.data.epitome is not None and not study.data.epitome.exists():
        test = study.data.test_size
        raw["data"] |= {"epitome": None, "sandbox_train": EPITOME_POSTS - test, "sandbox_test": test}
    # the stand-in's small vocabulary counts more tokens than a real encoder would
    raw["rewards"]["overlong"] = "cut"
    raw["toxicity"]["backends"] = {name: {"kind": "words"} for name in study.toxicity.backends}
    raw["alignment"]["training"] |= {"deepspeed": None, "processes": None}
    raw["resources"] = {stage.name: {"cpus": 1, "memory_gb": stage.rehearsal_gb, "minutes": 240} for stage in STAGES}
    return parse_study(raw, source)
