"""Merge: a soup of the adapters of trained policies, or a conditioned adapter at the weights that the study gives."""

from __future__ import annotations

import json

from modpo_hpc.alignment.adapter import save_adapter
from modpo_hpc.run import Run, Shard


def merge(run: Run, shard: Shard) -> None:
    policy = run.study.alignment.policies[shard.id]
    merged = policy.merged({name: run.folder(policy.sources_stage) / name for name in policy.rests_on})
    summary = {
        "policy": shard.id,
        "method": policy.method,
        **merged.facts,
        "rank": merged.config["r"],
        "sandbox": run.sandbox_mark is not None,
    }
    with shard.directory(shard.id) as folder:
        save_adapter(folder / "adapter", merged.weights, merged.config)
        (folder / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from modpo_hpc.cli.job import main

    main("soups")
