"""Merge the adapters of trained policies into a soup, by the weights that the study gives them."""

from __future__ import annotations

import json

from modpo_hpc.alignment.adapter import save_adapter
from modpo_hpc.alignment.soup import merge as merge_adapters
from modpo_hpc.alignment.soup import read_source
from modpo_hpc.methods.soup import Soup
from modpo_hpc.run import Run, Shard


def merge(run: Run, shard: Shard) -> None:
    policy = run.study.alignment.policies[shard.id]
    assert isinstance(policy, Soup)
    sources = [read_source(name, run.folder("policies") / name / "adapter") for name in policy.sources]
    soup = merge_adapters(sources, tuple(policy.sources.values()), policy.merge, policy.svd_rank)
    summary = {
        "policy": shard.id,
        "method": "soup",
        "merge": policy.merge,
        "sources": policy.sources,
        "rank": soup.config["r"],
        "distance_to_exact_sum": soup.error,
        "sandbox": run.sandbox_mark is not None,
    }
    with shard.directory(shard.id) as folder:
        save_adapter(folder / "adapter", soup.weights, soup.config)
        (folder / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("soups")
