"""Rewards of many responses by all criteria: cut and batched once, by the model that did not see the question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    criteria = run.study.criteria.rank
    tokenizer = load_tokenizer(run.folder("rewards") / f"{criteria[0]}.fold0")
    question_of = {one: question for question, ids in texts.responses_of.items() for one in ids}
    encoded = encode_responses(tokenizer, texts.questions, texts.responses, question_of)
    folds = folds_of(run, texts)
    fold_of = {one: folds[question] for one, question in question_of.items()}
    batches = shard.block(plan_batches(encoded, fold_of, run.study.rewards.score_tokens))
    tasks = [(criterion, fold) for fold in sorted({one.fold for one in batches}) for criterion in criteria]
    total = len(batches) * len(criteria)
    with shard.journal() as journal:
        done = {(row["criterion"], row["fold"]): row["rewards"] for row in journal.rows}
        finished = 0
        for criterion, fold in tasks:
            mine = [one for one in batches if one.fold == fold]
            if (criterion, fold) not in done:
                folder = run.folder("rewards") / f"{criterion}.fold{fold}"
                rewards = score(folder, mine, encoded, tokenizer.pad_token_id, run.study.rewards.precision)
                done[criterion, fold] = rewards
                journal.append([{"criterion": criterion, "fold": fold, "rewards": rewards}])
            finished += len(mine)
            shard.progress(finished, total, "batches")
            shard.check()
            ids = [one for batch in mine for one in batch.responses]
            yield from ((one, criterion, fold, raw) for one, raw in zip(ids, done[criterion, fold], strict=True))


def score(
    folder: Path, batches: Sequence[Batch], encoded: Mapping[str, Encoded], pad_id: int, precision: str
) -> list[float]:
    """Raw rewards of the responses of ``batches``, in their order, by the model in ``folder``."""
    max_length = json.loads((folder / SETTINGS_FILE).read_text())["max_length"]
    rows = [encoded[one].cut(max_length) for batch in batches for one in batch.responses]
    ends = np.cumsum([len(batch.responses) for batch in batches])
    places = [list(range(end - len(batch.responses), end)) for end, batch in zip(ends.tolist(), batches, strict=True)]
    return predict(load_reward_model(folder, pad_id, precision=precision), rows, places)
