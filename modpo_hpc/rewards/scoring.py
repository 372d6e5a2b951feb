"""Rewards of many responses by all criteria: cut and batched once, by the model that did not see the question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modpo_hpc.rewards.encoding import Encoded, batches_by_length, encode_responses
from modpo_hpc.rewards.fitting import SETTINGS_FILE
from modpo_hpc.rewards.loading import folds_of
from modpo_hpc.rewards.model import load_reward_model, load_tokenizer, predict
from modpo_hpc.rewards.records import Texts
from modpo_hpc.run import Run, Shard


@dataclass(frozen=True)
class Batch:
    """Responses of like length whose questions are in one fold."""

    fold: int
    responses: tuple[str, ...]


def plan_batches(encoded: Mapping[str, Encoded], fold_of: Mapping[str, int], tokens: int) -> list[Batch]:
    """All batches of a run, by fold, then by length: the same ones however they are dealt out to shards.

    Args:
        fold_of: response -> fold of its question.
    """
    batches = []
    for fold in sorted(set(fold_of.values())):
        ids = [one for one in encoded if fold_of[one] == fold]
        lengths = [len(encoded[one].ids) for one in ids]
        batches += [Batch(fold, tuple(ids[at] for at in part)) for part in batches_by_length(lengths, tokens)]
    return batches


def score_block(run: Run, shard: Shard, texts: Texts) -> Iterator[tuple[str, str, int, float]]:
    """(response, criterion, fold, raw reward) for the batches of this shard.

    The batches are made once for all criteria; one model is in memory at a time. A batch that an earlier attempt
    scored is not scored again.
    """
    criteria, precision = run.study.criteria.rank, run.study.rewards.precision
    tokenizer = load_tokenizer(run.folder("rewards") / f"{criteria[0]}.fold0")
    question_of = {one: question for question, ids in texts.responses_of.items() for one in ids}
    encoded = encode_responses(tokenizer, texts.questions, texts.responses, question_of)
    folds = folds_of(run, texts)
    fold_of = {one: folds[question] for one, question in question_of.items()}
    batches = shard.block(plan_batches(encoded, fold_of, run.study.rewards.score_tokens))
    total = len(batches) * len(criteria)
    with shard.journal() as journal:
        done = {(row["criterion"], row["batch"]): row["rewards"] for row in journal.rows}
        for criterion in criteria:
            for fold in sorted({batch.fold for batch in batches}):
                folder = run.folder("rewards") / f"{criterion}.fold{fold}"
                todo = [at for at, batch in enumerate(batches) if batch.fold == fold and (criterion, at) not in done]
                rewards = score_batches(
                    folder, [batches[at] for at in todo], encoded, tokenizer.pad_token_id, precision
                )
                for at, values in zip(todo, rewards, strict=True):
                    done[criterion, at] = values
                    journal.append([{"criterion": criterion, "batch": at, "rewards": values}])
                    shard.progress(len(done), total, "batches")
                    shard.check()
    for (criterion, at), values in done.items():
        for response, raw in zip(batches[at].responses, values, strict=True):
            yield response, criterion, batches[at].fold, raw


def score_batches(
    folder: Path, batches: Sequence[Batch], encoded: Mapping[str, Encoded], pad_id: int, precision: str
) -> Iterator[list[float]]:
    """Raw rewards of each batch, in the order of its responses, by the model in ``folder``."""
    if not batches:
        return
    max_length = json.loads((folder / SETTINGS_FILE).read_text())["max_length"]
    model = load_reward_model(folder, pad_id, precision=precision)
    for batch in batches:
        rows = [encoded[one].cut(max_length) for one in batch.responses]
        yield predict(model, rows, [range(len(rows))])
