"""Rewards of many texts by all criteria: cut and batched once, each text by a model that may judge it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.errors import IncompleteError
from modpo_hpc.rewards.encoding import Encoded, batches_by_length, encode_responses
from modpo_hpc.rewards.fitting import SETTINGS_FILE
from modpo_hpc.rewards.model import load_reward_model, load_tokenizer, predict
from modpo_hpc.run import Run, Shard


@dataclass(frozen=True)
class ScoringBatch:
    """Texts of like length that the same model of each criterion scores: that of a fold, or the final one."""

    part: str
    texts: tuple[str, ...]


def plan_batches(encoded: Mapping[str, Encoded], part_of: Mapping[str, str], tokens: int) -> list[ScoringBatch]:
    """All batches of a run, by model, then by length: the same ones however they are dealt out to shards.

    Args:
        part_of: text -> which model of a criterion scores it.
    """
    batches = []
    for part in sorted(set(part_of.values())):
        ids = [one for one in encoded if part_of[one] == part]
        lengths = [len(encoded[one].ids) for one in ids]
        batches += [ScoringBatch(part, tuple(ids[at] for at in some)) for some in batches_by_length(lengths, tokens)]
    return batches


def score_block(
    run: Run,
    shard: Shard,
    criteria: Sequence[str],
    questions: Mapping[str, str],
    texts: Mapping[str, str],
    question_of: Mapping[str, str],
    part_of: Mapping[str, str],
    in_blocks: bool = True,
) -> Iterator[tuple[str, str, str, float]]:
    """(text, criterion, part, raw reward) for the batches of this shard; for all, where it is not ``in_blocks``.

    The texts are read and batched once for all of ``criteria``; one model is in memory at a time. A batch that an
    earlier attempt scored is not scored again.

    Raises:
        IncompleteError: the weights of a model are gone.
    """
    precision = run.study.rewards.precision
    tokenizer = load_tokenizer(run.folder("rewards") / f"{criteria[0]}.fold0")
    encoded = encode_responses(tokenizer, questions, texts, question_of)
    batches = plan_batches(encoded, part_of, run.study.rewards.score_tokens)
    batches = shard.block(batches) if in_blocks else batches
    parts = sorted({batch.part for batch in batches})
    _require_weights(run, [f"{criterion}.{part}" for criterion in criteria for part in parts])
    total = len(batches) * len(criteria)
    with shard.journal() as journal:
        done = {(row["criterion"], row["batch"]): row["rewards"] for row in journal.rows}
        for criterion in criteria:
            for part in parts:
                folder = run.folder("rewards") / f"{criterion}.{part}"
                todo = [at for at, batch in enumerate(batches) if batch.part == part and (criterion, at) not in done]
                rewards = score_batches(
                    folder, [batches[at] for at in todo], encoded, tokenizer.pad_token_id, precision
                )
                for at, values in zip(todo, rewards, strict=True):
                    done[criterion, at] = values
                    journal.append([{"criterion": criterion, "batch": at, "rewards": values}])
                    shard.progress(len(done), total, "batches")
                    shard.check()
    for (criterion, at), values in done.items():
        for text, raw in zip(batches[at].texts, values, strict=True):
            yield text, criterion, batches[at].part, raw


def score_batches(
    folder: Path, batches: Sequence[ScoringBatch], encoded: Mapping[str, Encoded], pad_id: int, precision: str
) -> Iterator[list[float]]:
    """Raw rewards of each batch, in the order of its texts, by the model in ``folder``."""
    if not batches:
        return
    max_length = json.loads((folder / SETTINGS_FILE).read_text())["max_length"]
    model = load_reward_model(folder, pad_id, precision=precision)
    for batch in batches:
        rows = [encoded[one].cut(max_length) for one in batch.texts]
        yield predict(model, rows, [range(len(rows))])


def _require_weights(run: Run, models: Sequence[str]) -> None:
    for name in models:
        folder = run.folder("rewards") / name
        if not any(folder.glob("*.safetensors")):
            raise IncompleteError(
                f"{folder}: the weights of this model are gone. Make them again with: "
                f"modpo rerun {run.quoted} rewards {name}"
            )
